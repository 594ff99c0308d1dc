package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sinks"
	sinkpg "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

type dropFlags struct {
	app                 string
	databases, targets  []string
	brokers             []string
	slot, publication   string
	progressTable       string
	timeout             time.Duration
	databaseURLs, sinks []namedURL
}

type namedURL struct{ name, url string }

func newDrop() *cobra.Command {
	var o dropFlags
	c := &cobra.Command{
		Use:   "drop",
		Short: "Remove what an app left in its databases or its Kafka cluster",
		Long: `Removes the replication slot and the publications that an app made in its databases, the slots
that topologies left there that were being added when it ended, and its progress rows in its
targets. Results stay, and so does the state directory, which is of no use afterwards: remove
it too. The app must not be running: where its slot has a reader that answers nothing is
removed, and the error says within seconds who it is, or after 75 s where the reader acknowledges
nothing and the role has not the rights of pg_read_all_stats.

A replication slot that nobody reads keeps the database's log for ever, so drop an app that
will not run again. Dropping what is not there is no error.

Of an app in Kafka mode it deletes the consumer group, which must have no members, and the app's internal
topics (changelogs and those of exchanges), also those of topologies that it has no longer. Inputs and outputs
stay. For brokers that ask for TLS or a password use App.Destroy or tailrace.DropKafka in a program.
Topics of another app whose name begins with this one's and a hyphen are left alone while that one has a
group; better give no two apps such names.

Databases and targets are given as name=URL, with the names that the program uses, or as
name=@file where the URL stands in a file and not in the list of processes.`,
		Example: `  tailrace drop --app revenue --database shop=@shop.url --target warehouse=@warehouse.url
  tailrace drop --app revenue --brokers 127.0.0.1:9092`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.parse(); err != nil {
				return inputError{err}
			}
			ctx, cancel := context.WithTimeout(c.Context(), o.timeout)
			defer cancel()
			return o.drop(ctx, c.OutOrStdout(), slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)))
		},
	}
	f := c.Flags()
	f.StringVar(&o.app, "app", "", "the app's name")
	f.StringArrayVar(&o.databases, "database", nil, "a source database as name=URL or name=@file (repeatable)")
	f.StringArrayVar(&o.targets, "target", nil, "a PostgreSQL target as name=URL or name=@file (repeatable)")
	f.StringSliceVar(&o.brokers, "brokers", nil, "brokers of an app in Kafka mode, host:port")
	f.StringVar(&o.slot, "slot", "", "the slot's name, where the program sets postgres.Config.Slot")
	f.StringVar(&o.publication, "publication", "", "the publication's name, where the program sets it")
	f.StringVar(&o.progressTable, "progress-table", "", "the progress table, where the program sets it")
	f.DurationVar(&o.timeout, "timeout", 2*time.Minute, "give up after this time")
	return c
}

// parse reports everything that is wrong with the flags.
func (o *dropFlags) parse() error {
	var errs []error
	if o.app == "" {
		errs = append(errs, errors.New("--app must name the app"))
	}
	if len(o.databases)+len(o.targets)+len(o.brokers) == 0 {
		errs = append(errs, errors.New("nothing to drop: give --database, --target or --brokers"))
	}
	if o.slot != "" && len(o.databases) > 1 {
		errs = append(errs, errors.New("--slot is for one --database"))
	}
	var err error
	if o.databaseURLs, err = parseURLs("--database", o.databases); err != nil {
		errs = append(errs, err)
	}
	if o.sinks, err = parseURLs("--target", o.targets); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func parseURLs(flag string, values []string) (out []namedURL, err error) {
	var errs []error
	for _, v := range values {
		name, url, ok := strings.Cut(v, "=")
		if !ok || name == "" || url == "" {
			// The value may hold a password, so it is not repeated.
			errs = append(errs, fmt.Errorf("%s must be name=URL or name=@file", flag))
			continue
		}
		if file, ok := strings.CutPrefix(url, "@"); ok {
			text, err := os.ReadFile(file)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s %s: %w", flag, name, err))
			}
			url = strings.TrimSpace(string(text))
		}
		out = append(out, namedURL{name, url})
	}
	return out, errors.Join(errs...)
}

// drop does all it can, and reports what it could not; nothing of an app that runs.
func (o *dropFlags) drop(ctx context.Context, out io.Writer, log *slog.Logger) error {
	var errs []error
	if len(o.brokers) > 0 {
		topics, err := tailrace.DropKafka(ctx, o.app, tailrace.Kafka{Brokers: o.brokers}, log)
		for _, name := range topics {
			fmt.Fprintf(out, "topic %s: deleted\n", name)
		}
		if errs = append(errs, report(out, "group", o.app, err)); errors.Is(err, sources.ErrInUse) {
			return environmentError{errors.Join(errs...)}
		}
	}
	for _, d := range o.databaseURLs {
		c := postgres.Source(postgres.Config{URL: d.url, Slot: o.slot, Publication: o.publication})
		err := c.Drop(ctx, sources.DropRequest{App: o.app, Database: d.name, Logger: log})
		errs = append(errs, report(out, "database", d.name, err))
	}
	if err := errors.Join(errs...); errors.Is(err, sources.ErrInUse) {
		return environmentError{err} // the app runs: its targets are left alone
	}
	for _, t := range o.sinks {
		c := sinkpg.Target(sinkpg.Config{URL: t.url, ProgressTable: o.progressTable})
		err := c.Drop(ctx, sinks.DropRequest{App: o.app, Target: t.name, Logger: log})
		errs = append(errs, report(out, "target", t.name, err))
	}
	if err := errors.Join(errs...); err != nil {
		return environmentError{err}
	}
	return nil
}

func report(out io.Writer, kind, name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, name, err)
	}
	fmt.Fprintf(out, "%s %s: nothing of the app is left\n", kind, name)
	return nil
}
