package main

import (
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"github.com/tailrace/tailrace"
)

func newDeadLetters() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "deadletters",
		Short: "Print what error policies have set aside, a JSON object a line",
		Long: `Prints the inputs that the error policies of an app have set aside, each with its position in
the database's log, its node, its key and value, and the error.

While an app runs its state directory is locked; it then serves the same at /deadletters.`,
		Example: `  tailrace deadletters --state ./state`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if dir == "" {
				return inputError{errors.New("--state must name the app's state directory")}
			}
			out := json.NewEncoder(c.OutOrStdout())
			for l, err := range tailrace.ReadDeadLetters(c.Context(), dir) {
				if err != nil {
					return environmentError{err}
				}
				if err := out.Encode(&l); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&dir, "state", "", "the app's state directory (tailrace.Config.StateDir)")
	return c
}
