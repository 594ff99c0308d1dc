// Command tailrace shows what Tailrace does (demo, dev), compares views of a running app
// with SQL (verify), shows what a state directory holds (plan), lists and replays dead
// letters (deadletters), and cleans up after an app (drop). Topologies are Go
// programs; see https://pkg.go.dev/github.com/tailrace/tailrace.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes. A second signal ends the program with 128 and the signal's number.
const (
	exitRunTime     = 1 // something failed, or differs
	exitInput       = 2 // the arguments
	exitEnvironment = 3 // a database, server or file cannot be used
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run runs the command line and returns the exit code.
func run(args []string, out, diagnostics io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks, the second one ends.
	context.AfterFunc(ctx, stop)
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(diagnostics)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(diagnostics, "tailrace: %s\n", strings.TrimPrefix(err.Error(), "tailrace: "))
	return exitCode(err)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "tailrace",
		Short: "Live views of a database, from its change stream",
		Long: `Tailrace turns the change stream of a database into joined, aggregated views that always
equal the SQL you would have written, at a transaction boundary.

Topologies are written in Go, against the packages below github.com/tailrace/tailrace. This
program is for looking and for looking after: demo, dev, verify, plan, deadletters, drop.

Exit status: 0 fine, 1 something failed or differs, 2 wrong arguments, 3 a database, server
or file cannot be used, 130 or 143 ended by a second signal.`,
		Example: `  tailrace demo --for 20s
  tailrace verify --app http://127.0.0.1:8080 --view revenue --sql-file revenue.sql
  tailrace drop --app revenue --database shop=@shop.url`,
		SilenceUsage: true, SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return inputError{fmt.Errorf("unknown command %q; see tailrace --help", args[0])}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return inputError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	root.AddCommand(newDemo(), newDev(), newVerify(), newPlan(), newDeadLetters(), newDrop(), newVersion())
	return root
}

// inputError is a mistake in the arguments, environmentError something outside that
// cannot be used.
type (
	inputError       struct{ error }
	environmentError struct{ error }
)

func (e inputError) Unwrap() error       { return e.error }
func (e environmentError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var input inputError
	var environment environmentError
	switch {
	case errors.As(err, &input):
		return exitInput
	case errors.As(err, &environment):
		return exitEnvironment
	}
	return exitRunTime
}

// noArgs is cobra.NoArgs with our exit code.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return inputError{fmt.Errorf("%s takes no arguments, got %q; see %s --help", c.Name(), args,
			c.CommandPath())}
	}
	return nil
}
