package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailrace/tailrace/internal/demo"
	"github.com/tailrace/tailrace/internal/pgserver"
)

func newDemo() *cobra.Command {
	var opts demo.Options
	var verbose, plain bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "A shop in a real PostgreSQL, with live views, verified in the end",
		Long: `Starts a PostgreSQL of its own, with a shop whose writers change several tables in each
transaction, and an app of three topologies:

  revenue  what each customer has paid: a join and an aggregate
  orders   each order with its customer and its lines, as one document
  outbox   the events of an outbox table, enriched, each delivered once

The first two are views and tables of another database; the events go to a file. In the
end, with --for or Ctrl-C, views, tables and events are compared with SQL. The exit status
is 1 if a single row differs. Nothing is left behind, except for PostgreSQL's binaries in the
cache (` + pgserver.CacheEnv + ` names another directory for it).`,
		Example: `  tailrace demo
  tailrace demo --for 20s --rate 500 --writers 8`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if opts.For < 0 || opts.Writers < 0 || opts.Orders < 0 || opts.Patience < 0 {
				return inputError{errors.New("--for, --writers, --orders and --patience must not be negative")}
			}
			opts.Out = c.OutOrStdout()
			opts.Terminal = !plain && isTerminal(opts.Out)
			if verbose {
				opts.Logger = slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
			}
			result, err := demo.Run(c.Context(), opts)
			for i, d := range result.Differences {
				if i == maxDifferences {
					fmt.Fprintf(opts.Out, "... and %d more\n", len(result.Differences)-i)
					break
				}
				fmt.Fprintln(opts.Out, d)
			}
			if err == nil || errors.Is(err, demo.ErrDifferences) {
				fmt.Fprintln(opts.Out, result)
			}
			if errors.Is(err, pgserver.ErrFetch) || errors.Is(err, pgserver.ErrStart) ||
				errors.Is(err, pgserver.ErrUnreachable) {
				err = environmentError{err}
			}
			return err
		},
	}
	f := c.Flags()
	f.DurationVar(&opts.For, "for", 0, "end after this time, counted from the first view (default: with Ctrl-C)")
	f.IntVar(&opts.Rate, "rate", 100, "transactions per second; -1 is as many as possible")
	f.IntVar(&opts.Writers, "writers", 4, "how many write at the same time")
	f.IntVar(&opts.Orders, "orders", 2000, "how many orders the shop begins with")
	f.StringVar(&opts.Addr, "addr", "127.0.0.1:0", "address to serve the views at; port 0 takes a free one")
	f.DurationVar(&opts.Patience, "patience", 20*time.Second,
		"how long the comparison waits for what a target has not taken yet")
	f.BoolVar(&plain, "plain", false, "print lines also on a terminal")
	f.BoolVarP(&verbose, "verbose", "v", false, "show the log")
	return c
}

// maxDifferences is how many differences are printed: the first ones tell.
const maxDifferences = 50

// isTerminal reports whether w is a terminal, on which lines can be drawn again.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
