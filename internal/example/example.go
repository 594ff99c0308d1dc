// Package example gives the example programs what they share: flags, a PostgreSQL of
// their own where none is given, writes to look at, and lines to see what happens.
package example

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver"
	"github.com/tailrace/tailrace/internal/shop"
	"github.com/tailrace/tailrace/serde"
	"github.com/tailrace/tailrace/view"
)

// Program is an example.
type Program struct {
	Name string
	// Create makes the example's tables in a database of its own. Nil makes a small
	// shop.
	Create func(ctx context.Context, c *pgx.Conn) error
	// Write changes the tables until ctx ends. Nil is a trickle of transactions in the
	// shop.
	Write func(ctx context.Context, url string) error
	// Run runs the example until ctx ends. A program that reads an outbox runs its app with
	// Env.Follow.
	Run func(ctx context.Context, env Env) error
}

// Env is what a program runs in.
type Env struct {
	// URL is the source database.
	URL string
	// StateDir is where the app keeps its state.
	StateDir string
	// Brokers are those of the Kafka cluster to write results to; none means that the
	// program does without.
	Brokers []string
	// Topics is the prefix of Debezium's topics to read the tables from, as a member of a
	// group; "" means from the database.
	Topics string
	// Addr is where it serves its views.
	Addr string
	// Out is where it prints.
	Out    io.Writer
	Logger *slog.Logger

	followed func() // tells the writers; nil where there are none of a shop
}

// Follow runs the app of a program that reads the shop's outbox, until ctx ends. The
// writers send events once it is ready: one that its own transaction deletes is not
// missed then.
func (e Env) Follow(ctx context.Context, app *tailrace.App) error {
	if e.followed == nil {
		return app.Run(ctx)
	}
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		if app.WaitReady(ctx) == nil {
			e.followed()
		}
	}()
	err := app.Run(ctx)
	<-waited
	return err
}

// Main runs a program from its command line, and exits.
func Main(p Program) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := Run(ctx, p, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, err)
		os.Exit(1)
	}
}

// Run runs a program with arguments.
func Run(ctx context.Context, p Program, args []string, out, diagnostics io.Writer) (err error) {
	flags := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	flags.SetOutput(diagnostics)
	url := flags.String("url", "", "read this `database`, which has to have the example's tables; "+
		"by default a PostgreSQL is started, filled and written to")
	dir := flags.String("state", "", "keep the state in this `directory`, so that the next run goes on "+
		"from there; by default it is removed at the end")
	brokers := flags.String("brokers", "", "write results to the Kafka cluster with these `addresses`, "+
		"host:port separated by commas, for programs that have a target")
	topics := flags.String("topics", "", "with -brokers, read the tables from Debezium's topics with this "+
		"`prefix` instead of from a database, as one member of a consumer group")
	addr := flags.String("addr", "127.0.0.1:0", "serve views on this `address`")
	length := flags.Duration("for", 0, "end after this time; by default with Ctrl-C")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *length)
		defer cancel()
	}
	if *topics != "" && *brokers == "" {
		return errors.New("-topics needs -brokers, the cluster that has the topics")
	}
	env := Env{URL: *url, StateDir: *dir, Addr: *addr, Topics: *topics, Out: out,
		Logger: slog.New(slog.NewTextHandler(diagnostics, &slog.HandlerOptions{Level: slog.LevelInfo}))}
	if *brokers != "" {
		env.Brokers = strings.Split(*brokers, ",")
	}
	if env.StateDir == "" {
		if env.StateDir, err = os.MkdirTemp("", "tailrace-"+p.Name+"-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(env.StateDir)) }()
	}
	if env.URL != "" || env.Topics != "" {
		return p.Run(ctx, env)
	}
	return p.withServer(ctx, env)
}

// withServer starts a database, and runs the program beside its writers.
func (p Program) withServer(ctx context.Context, env Env) (err error) {
	server, err := pgserver.Start(ctx, pgserver.Config{Logger: env.Logger})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	env.URL = server.URL("postgres")
	if err := p.create(ctx, env.URL); err != nil {
		return err
	}
	fmt.Fprintf(env.Out, "PostgreSQL %s: psql %q\n", server.Version(), env.URL)
	write := p.Write
	if write == nil {
		writers := &shop.Writers{URL: env.URL, Count: 2, Rate: 2}
		write = func(ctx context.Context, _ string) error { return writers.Run(ctx) }
		env.followed = writers.Follow
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wrote := make(chan error, 1)
	go func() { wrote <- write(ctx, env.URL) }()
	err = p.Run(ctx, env)
	cancel()
	return errors.Join(err, <-wrote)
}

func (p Program) create(ctx context.Context, url string) error {
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	if p.Create != nil {
		return p.Create(ctx, c)
	}
	return shop.Create(ctx, c, shop.Size{Customers: 20, Products: 50, Orders: 100})
}

// Print prints the changes of a view of an app, epoch by epoch, until ctx ends.
func Print[K comparable, V any](ctx context.Context, out io.Writer, app *tailrace.App, v *view.View[K, V]) {
	keys, errK := serde.JSONOf[K]()
	values, errV := serde.JSONOf[V]()
	if errK != nil || errV != nil || app.WaitReady(ctx) != nil {
		return
	}
	rows, started := 0, false
	for e, err := range v.Watch(ctx, view.WithRows()) {
		if err != nil {
			return
		}
		c := &e.Change
		switch {
		case e.Kind == view.EventEpoch && !started:
			fmt.Fprintf(out, "view %s: %d rows at %s\n", v.Name(), rows, e.Position)
			started = true
		case e.Kind == view.EventChange && !started:
			rows++
		case e.Kind == view.EventChange && c.HasNew():
			fmt.Fprintf(out, "%s  %s: %s = %s\n", e.Position, v.Name(),
				keys.Append(nil, &c.Key, serde.JSONOptions{}), values.Append(nil, &c.New, serde.JSONOptions{}))
		case e.Kind == view.EventChange:
			fmt.Fprintf(out, "%s  %s: %s is gone\n", e.Position, v.Name(),
				keys.Append(nil, &c.Key, serde.JSONOptions{}))
		}
	}
}
