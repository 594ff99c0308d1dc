// Command bench measures Tailrace and the floor below it: what the same work costs when
// written by hand for one purpose. It brings what it needs, starts its own PostgreSQL
// and talks to nobody else.
//
//	go run ./bench                    every workload, at its default size
//	go run ./bench pgraw -runs 5      one workload; -h lists its flags
//
// README.md says what is measured and how to profile it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
)

// workload is one thing to measure.
type workload struct {
	name    string
	summary string
	// flags adds the workload's own flags and returns what runs it with their values.
	flags func(*flag.FlagSet) runner
}

// runner measures, and adds to the report as it goes.
type runner func(ctx context.Context, env *environment) error

// environment is what all workloads share.
type environment struct {
	runs    int
	report  *report
	profile *profile
	heap    string    // the file for a heap profile
	out     io.Writer // for a person: progress and remarks
}

var workloads = []workload{
	{"pgraw", "receive a backlog of changes from PostgreSQL and discard it", pgrawFlags},
	{"revenue", "drain a backlog into the revenue view, beside the raw receiver", revenueFlags},
	{"latency", "commit to view, at a given rate of transactions, beside the raw receiver", latencyFlags},
	{"giant", "transactions of a million rows through a running app, by peak memory", giantFlags},
	{"snapshot", "the first snapshot of a table, beside a plain COPY", snapshotFlags},
	{"algebra", "each operator by itself: time and allocations per record", algebraFlags},
	{"restart", "kill -9, and the time until a view of a million keys can be read again", restartFlags},
	{"restore", "state from a changelog on a real Kafka, beside its plain consumer", restoreFlags},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	var err error
	if url := os.Getenv(childVariable); url != "" {
		err = childMain(ctx, url, os.Args[1])
	} else {
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		for _, w := range workloads {
			if w.name == args[0] {
				return runOne(ctx, w, args[1:], out, progress)
			}
		}
		return fmt.Errorf("no workload %q; there are:\n%s", args[0], list())
	}
	for _, w := range workloads {
		if err := runOne(ctx, w, args, out, progress); err != nil {
			return err
		}
	}
	return nil
}

func list() string {
	var text strings.Builder
	for _, w := range workloads {
		fmt.Fprintf(&text, "  %-16s %s\n", w.name, w.summary)
	}
	return text.String()
}

func runOne(ctx context.Context, w workload, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet(w.name, flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.Usage = func() {
		fmt.Fprintf(progress, "%s: %s\nFlags:\n", w.name, w.summary)
		flags.PrintDefaults()
		fmt.Fprintf(progress, "All workloads:\n%s", list())
	}
	env := &environment{out: progress}
	flags.IntVar(&env.runs, "runs", 3, "runs of each case; the figures are their medians")
	json := flags.String("json", "", "append each run as a line of JSON to this `file`")
	cpu := flags.String("cpuprofile", "", "write a CPU profile of the measured stretches to this `file`")
	flags.StringVar(&env.heap, "memprofile", "", "write a profile of the largest heap to this `file`")
	measure := w.flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || env.runs < 1 {
		return fmt.Errorf("%s: takes flags only, and at least one run: %q", w.name, args)
	}
	env.profile = &profile{path: *cpu}
	env.report = &report{workload: w.name, jsonPath: *json}
	fmt.Fprintf(progress, "%s: %s\n", w.name, w.summary)
	err := measure(ctx, env)
	// What was measured before an error or an interrupt is still worth seeing.
	return errors.Join(err, env.profile.close(), env.report.print(out))
}
