// Package demo shows Tailrace at work: a shop in a real PostgreSQL, whose writers
// change several tables at a time, and the views, tables and events that an app makes
// of it; in the end everything is compared with SQL.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/orders/orders"
	"github.com/tailrace/tailrace/examples/outbox/outbox"
	"github.com/tailrace/tailrace/examples/revenue/revenue"
	"github.com/tailrace/tailrace/internal/pgserver"
	"github.com/tailrace/tailrace/internal/shop"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/file"
	sinkpg "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/view"
)

// Options say how long and how busy.
type Options struct {
	// For is how long the writers write after the first view is there. 0 is until the
	// context ends.
	For time.Duration
	// Writers and Rate are those of shop.Writers.
	Writers, Rate int
	// Orders is how many orders the shop begins with. Defaults to 2,000.
	Orders int
	// Addr is where views are served. Defaults to a free port of the loopback.
	Addr string
	// Terminal says that Out is one: the views are then drawn again and again in place.
	Terminal bool
	// Patience is how long the comparison waits for what a target has not taken yet.
	// Defaults to 20 s.
	Patience time.Duration
	Out      io.Writer
	Logger   *slog.Logger

	// tamper damages what is to be compared; tests see by it that the demo notices.
	tamper func(ctx context.Context, d *demo) error
}

// ErrDifferences says that what Tailrace shows is not what SQL gives.
var ErrDifferences = errors.New("demo: differences were found")

// demo is a running demo.
type demo struct {
	opts      Options
	server    *pgserver.Server
	writers   *shop.Writers
	shop      string // URLs
	warehouse string
	dir       string
	events    string // the file of the outbox's events
	app       *tailrace.App
	revenue   *view.View[string, revenue.Revenue]
	orders    *view.View[int64, orders.Document]
	started   time.Time
}

// Run runs the demo until Options.For is over or ctx ends, and then compares
// everything with SQL. The error is ErrDifferences where something differs.
func Run(ctx context.Context, opts Options) (result Result, err error) {
	if opts.Orders <= 0 {
		opts.Orders = 2000
	}
	if opts.Patience <= 0 {
		opts.Patience = 20 * time.Second
	}
	if opts.Addr == "" {
		opts.Addr = "127.0.0.1:0"
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	d := &demo{opts: opts, started: time.Now()}
	if d.dir, err = os.MkdirTemp("", "tailrace-demo-"); err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	d.say("starting PostgreSQL (the first time it is fetched, some 15 MB)")
	if d.server, err = pgserver.Start(ctx, pgserver.Config{Logger: opts.Logger}); err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, d.server.Stop()) }()
	if err := d.prepare(ctx); err != nil {
		return result, err
	}
	return d.run(ctx)
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.opts.Out, "%6.1fs  "+format+"\n", append([]any{time.Since(d.started).Seconds()}, args...)...)
}

// prepare makes the two databases, the shop, and the app.
func (d *demo) prepare(ctx context.Context) error {
	c, err := pgx.Connect(ctx, d.server.URL("postgres"))
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	for _, name := range []string{"shop", "warehouse"} {
		if _, err := c.Exec(ctx, "CREATE DATABASE "+name); err != nil {
			return err
		}
	}
	d.shop, d.warehouse = d.server.URL("shop"), d.server.URL("warehouse")
	s, err := pgx.Connect(ctx, d.shop)
	if err != nil {
		return err
	}
	defer s.Close(context.WithoutCancel(ctx))
	size := shop.Size{Customers: max(20, d.opts.Orders/10), Products: 100, Orders: d.opts.Orders}
	if err := shop.Create(ctx, s, size); err != nil {
		return err
	}
	d.say("PostgreSQL %s has a shop of %d orders: psql %q", d.server.Version(), size.Orders, d.shop)
	d.writers = &shop.Writers{URL: d.shop, Count: d.opts.Writers, Rate: d.opts.Rate, Seed: 1}
	return d.build()
}

// build makes the app of the three topologies.
func (d *demo) build() error {
	d.events = filepath.Join(d.dir, "shop-events.jsonl")
	source := sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: d.shop}))
	warehouse := sinks.NewTarget("warehouse", sinkpg.Target(sinkpg.Config{URL: d.warehouse, CreateTables: true}))
	events := sinks.NewTarget("events", file.Target(file.Config{Path: d.events}))

	revenueTopology, revenueView, err1 := revenue.Topology(source, warehouse)
	ordersTopology, ordersView, err2 := orders.Topology(source, warehouse)
	outboxTopology, err3 := outbox.Topology(source, events)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	d.revenue, d.orders = revenueView, ordersView
	app, err := tailrace.New(tailrace.Config{
		App: "demo", StateDir: filepath.Join(d.dir, "state"), Addr: d.opts.Addr, Logger: d.opts.Logger,
		VerifySQL: true,
	}, revenueTopology, ordersTopology, outboxTopology)
	d.app = app
	return err
}

// run runs writers, app and display, and compares in the end.
func (d *demo) run(ctx context.Context) (result Result, err error) {
	// The app outlives ctx: it is still needed for the comparison.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- d.app.Run(running) }()
	writing, stopWriting := context.WithCancel(ctx)
	defer stopWriting()
	wrote := make(chan error, 1)
	go func() { wrote <- d.writers.Run(writing) }()

	appErr := d.show(ctx, ended, wrote)
	stopWriting()
	if appErr == nil {
		appErr = <-wrote
	}
	if appErr == nil {
		final, cancel := context.WithTimeout(running, 2*time.Minute)
		defer cancel()
		result, err = d.compare(final)
	}
	stop()
	if appErr == nil {
		appErr = <-ended
	}
	return result, errors.Join(appErr, err)
}

// show waits for the first view and shows what happens until the time is over, or
// something ends that should not.
func (d *demo) show(ctx context.Context, ended, wrote chan error) error {
	ready := make(chan error, 1)
	go func() { ready <- d.app.WaitFor(ctx, nil) }()
	select {
	case err := <-ended:
		return fmt.Errorf("demo: the app ended: %w", errors.Join(err, errEnded))
	case err := <-ready:
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	// From here on nobody misses an event that its own transaction deletes.
	d.writers.Follow()
	d.say("the views are live: http://%s/views/revenue  /views/orders  /views  /metrics  /readyz", d.app.Addr())
	var over <-chan time.Time
	if d.opts.For > 0 {
		over = time.After(d.opts.For)
	} else {
		d.say("Ctrl-C ends the demo with a comparison")
	}
	tick := time.NewTicker(d.interval())
	defer tick.Stop()
	display := newDisplay(d)
	defer display.close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-over:
			return nil
		case err := <-ended:
			return fmt.Errorf("demo: the app ended: %w", errors.Join(err, errEnded))
		case err := <-wrote:
			wrote <- nil
			if err != nil {
				return fmt.Errorf("demo: the writers ended: %w", err)
			}
		case <-tick.C:
			if err := display.draw(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

var errEnded = errors.New("it was not asked to")

func (d *demo) interval() time.Duration {
	if d.opts.Terminal {
		return 500 * time.Millisecond
	}
	return 2 * time.Second
}
