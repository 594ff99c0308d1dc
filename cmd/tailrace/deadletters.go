package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tailrace/tailrace"
)

func newDeadLetters() *cobra.Command {
	var dir string
	list := func(c *cobra.Command, _ []string) error {
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
	}
	c := &cobra.Command{
		Use:   "deadletters",
		Short: "Print what error policies have set aside, a JSON object a line",
		Long: `Prints the inputs that the error policies of an app have set aside, each with its position in
the database's log, its node, its key and value, and the error.

While an app runs its state directory is locked; it then serves the same at /deadletters.`,
		Example: `  tailrace deadletters --state ./state
  tailrace deadletters replay --app http://127.0.0.1:8080 --all`,
		Args: noArgs,
		RunE: list,
	}
	c.Flags().StringVar(&dir, "state", "", "the app's state directory (tailrace.Config.StateDir)")
	again := &cobra.Command{
		Use:   "list",
		Short: "Print what error policies have set aside",
		Args:  noArgs,
		RunE:  list,
	}
	again.Flags().StringVar(&dir, "state", "", "the app's state directory (tailrace.Config.StateDir)")
	c.AddCommand(again, newLetterChange("replay", "Have a running app try dead letters again",
		`Has a running app try dead letters again, with the functions that it has now. A key that a table
has parked is tried with its newest input; inputs of streams are fed to the node that set
them aside, in the order of the log. What fails again is set aside again.`),
		newLetterChange("drop", "Have a running app remove dead letters",
			`Has a running app remove dead letters. A key that a table has parked keeps its output until a
later change of it succeeds.`))
	return c
}

type letterFlags struct {
	verifyFlags
	all bool
}

// newLetterChange makes a command that asks a running app.
func newLetterChange(action, short, long string) *cobra.Command {
	var o letterFlags
	c := &cobra.Command{
		Use:     action + " [id ...]",
		Short:   short,
		Long:    long,
		Example: "  tailrace deadletters " + action + " --app http://127.0.0.1:8080 --all",
		RunE: func(c *cobra.Command, ids []string) error {
			return o.change(c.Context(), c.OutOrStdout(), action, ids)
		},
	}
	f := c.Flags()
	f.StringVar(&o.app, "app", "", "where the app serves its views, such as http://127.0.0.1:8080")
	f.StringVar(&o.tokenFile, "token-file", "", "a file with the app's token (or set TAILRACE_TOKEN)")
	f.BoolVar(&o.all, "all", false, "all dead letters, instead of those with the given ids")
	return c
}

// change asks the app and prints its answer.
func (o *letterFlags) change(ctx context.Context, out io.Writer, action string, ids []string) error {
	base, err := url.Parse(o.app)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		err = errors.New("--app must be the app's address, such as http://127.0.0.1:8080")
	}
	token, errToken := o.token()
	var errIDs error
	if o.all == (len(ids) > 0) {
		errIDs = errors.New("give either the ids of dead letters or --all")
	}
	if err := errors.Join(err, errToken, errIDs); err != nil {
		return inputError{err}
	}
	body, err := json.Marshal(map[string]any{"ids": ids, "all": o.all})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		base.JoinPath("deadletters", action).String(), bytes.NewReader(body))
	if err != nil {
		return inputError{err}
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return environmentError{fmt.Errorf("the app cannot be reached: %w", err)}
	}
	defer res.Body.Close()
	var a letterAnswer
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		return environmentError{fmt.Errorf("%s does not answer as an app does: %w", o.app, err)}
	}
	if res.StatusCode != http.StatusOK {
		return environmentError{fmt.Errorf("the app answers %s: %s", res.Status, a.Message)}
	}
	return a.print(out, action)
}

// letterAnswer is the app's answer.
type letterAnswer struct {
	Tried, Failed, Dropped int
	Unreadable             map[string]string
	Message                string
}

// errLettersLeft says that dead letters are left that were to be replayed.
var errLettersLeft = errors.New("dead letters are left")

func (a *letterAnswer) print(out io.Writer, action string) error {
	if action == "drop" {
		_, err := fmt.Fprintf(out, "dropped %d\n", a.Dropped)
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(a.Unreadable)) {
		fmt.Fprintf(out, "%s: %s\n", id, a.Unreadable[id])
	}
	fmt.Fprintf(out, "tried %d, failed again %d, not tried %d\n", a.Tried, a.Failed, len(a.Unreadable))
	if a.Failed+len(a.Unreadable) > 0 {
		return errLettersLeft
	}
	return nil
}
