package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tailrace/tailrace"
)

func newPlan() *cobra.Command {
	var dir string
	var asJSON bool
	c := &cobra.Command{
		Use:   "plan",
		Short: "Show what a state directory holds: topologies, stores, bytes, queues",
		Long: `Shows the topologies that made a state directory, their nodes with versions and stores, where
they stand, and what takes how many bytes. Nothing is changed, and no database is asked.

What a changed topology would keep, rebuild or drop is told by the program that has it:
print app.Plan(ctx) there. While an app runs its directory is locked; it then serves the
same at /plan.`,
		Example: `  tailrace plan --state ./state`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if dir == "" {
				return inputError{errors.New("--state must name the app's state directory")}
			}
			p, err := tailrace.ReadState(c.Context(), dir)
			if err != nil {
				return environmentError{err}
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(p)
			}
			_, err = fmt.Fprint(c.OutOrStdout(), p)
			return err
		},
	}
	c.Flags().StringVar(&dir, "state", "", "the app's state directory (tailrace.Config.StateDir)")
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}
