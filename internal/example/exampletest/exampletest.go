// Package exampletest runs the examples against a real database, with writers at work,
// and compares what they show with SQL.
package exampletest

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/internal/shop"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// DB is the database of a test.
type DB struct{ *pgservertest.DB }

// NewShop makes a database with a small shop in it.
func NewShop(t *testing.T) *DB {
	t.Helper()
	db := pgservertest.New(t)
	c, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(t.Context()))
	if err := shop.Create(t.Context(), c, shop.Size{Customers: 200, Products: 50, Orders: 500}); err != nil {
		t.Fatal(err)
	}
	return &DB{db}
}

// Run runs topologies until the test ends, and returns once their views can be read.
func (d *DB) Run(t *testing.T, name string, topologies ...*topology.Topology) *tailrace.App {
	t.Helper()
	app, err := tailrace.New(tailrace.Config{
		App: name, StateDir: filepath.Join(t.TempDir(), "state"), Logger: slog.New(slog.DiscardHandler),
	}, topologies...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	wait, cancelWait := context.WithTimeout(ctx, 30*time.Second)
	defer cancelWait()
	if err := app.WaitReady(wait); err != nil {
		t.Fatalf("no view: %v, %+v", err, app.Status())
	}
	return app
}

// Write lets writers change the shop for some hundred transactions, and compares the
// views with SQL meanwhile.
func (d *DB) Write(t *testing.T, app *tailrace.App, checks ...tailrace.Check) {
	t.Helper()
	w := &shop.Writers{URL: d.URL, Count: 4, Rate: -1, Seed: 1}
	w.Follow()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for w.Committed() < 600 && len(done) == 0 {
		if len(checks) > 0 {
			d.Equal(t, app, checks...)
		}
		<-tick.C
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Equal compares views with SQL at one position.
func (d *DB) Equal(t *testing.T, app *tailrace.App, checks ...tailrace.Check) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	results, err := app.Verify(ctx, checks...)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.SQLRows == 0 {
			t.Errorf("view %s: SQL gives no rows, so nothing was compared", r.View)
		}
		for _, diff := range r.Differences {
			t.Errorf("view %s at %s: %+v", r.View, r.Position, diff)
		}
	}
}

// Settle waits until the app shows everything that has been written.
func (d *DB) Settle(t *testing.T, app *tailrace.App) {
	t.Helper()
	lsn, err := record.ParseLSN(d.String("SELECT pg_current_wal_flush_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := app.WaitFor(ctx, record.Positions{"shop": uint64(lsn)}); err != nil {
		t.Fatal(err)
	}
}

// SameTable compares a query's result with a target's table, once the target has
// taken everything. Nobody writes meanwhile.
func (d *DB) SameTable(t *testing.T, app *tailrace.App, want string, target *pgservertest.DB, got string) {
	t.Helper()
	d.Settle(t, app)
	expected := sorted(d.Strings(want))
	var have []string
	if !await.Within(await.Limit, func() bool {
		// The target makes its tables when it is opened.
		if _, err := target.Pool.Exec(t.Context(), got+" LIMIT 0"); err != nil {
			return false
		}
		have = sorted(target.Strings(got))
		return slices.Equal(have, expected)
	}) {
		t.Errorf("the target has %d rows, SQL gives %d, and they are not the same", len(have), len(expected))
	}
}

func sorted(rows [][]string) []string {
	var out []string
	for _, r := range rows {
		out = append(out, strings.Join(r, "|"))
	}
	slices.Sort(out)
	return out
}
