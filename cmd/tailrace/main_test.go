package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/revenue/revenue"
	"github.com/tailrace/tailrace/internal/example/exampletest"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	sinkpg "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

func TestMain(m *testing.M) {
	testscript.Main(databases{m}, map[string]func(){"tailrace": main})
}

// databases stops the shared database after the tests.
type databases struct{ *testing.M }

func (d databases) Run() int {
	code := d.M.Run()
	if err := pgservertest.StopShared(); err != nil && code == 0 {
		code = 1
	}
	return code
}

// TestScripts runs the program as users do. update rewrites what it prints.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		UpdateScripts: os.Getenv("TAILRACE_UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			// The home of a script is its own; PostgreSQL's binaries are shared.
			cache, err := os.UserCacheDir()
			if dir := os.Getenv("TAILRACE_CACHE"); dir != "" {
				env.Setenv("TAILRACE_CACHE", dir)
			} else if err == nil && os.Getuid() != 0 {
				env.Setenv("TAILRACE_CACHE", filepath.Join(cache, "tailrace"))
			}
			return nil
		},
	})
}

// TestAgainstApp has scripts look at an app that runs, and clean up after it.
func TestAgainstApp(t *testing.T) {
	s, warehouse := exampletest.NewShop(t), pgservertest.New(t)
	topo, _, err := revenue.Topology(
		sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: s.URL})),
		sinks.NewTarget("warehouse", sinkpg.Target(sinkpg.Config{
			URL: warehouse.URL, CreateTables: true,
			Lease: 3 * time.Second, // is what drop waits for after an app that could not give it back
		})))
	if err != nil {
		t.Fatal(err)
	}
	stateDir := filepath.Join(t.TempDir(), "state")
	app, err := tailrace.New(tailrace.Config{
		App: "cli", StateDir: stateDir, Addr: "127.0.0.1:0", VerifySQL: true,
	}, topo, picky(s))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	wait, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	if err := app.WaitFor(wait, nil); err != nil {
		t.Fatal(err)
	}
	s.Exec(`INSERT INTO orders (id, status, cents) VALUES (-1, 'odd', 0), (-2, 'odd', 0), (-3, 'odd', 0)`)
	s.SameTable(t, app, revenue.SQL, warehouse, `SELECT key, orders, cents FROM revenue_per_customer`)
	scripts := func(dir string) {
		t.Run(dir, func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Dir: "testdata/" + dir, RequireExplicitExec: true, UpdateScripts: os.Getenv("TAILRACE_UPDATE") != "",
				Setup: func(env *testscript.Env) error {
					env.Setenv("APP", "http://"+app.Addr().String())
					env.Setenv("SHOP", s.URL)
					env.Setenv("STATE", stateDir)
					env.Setenv("WAREHOUSE", warehouse.URL)
					env.Setenv("QUERY", revenue.SQL)
					return nil
				},
			})
		})
	}
	scripts("running")
	left := `SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'tailrace_cli%'
			AND database = current_database()) || ' slots, '
		|| (SELECT count(*) FROM pg_publication) || ' publications'`
	if got := s.String(left); got == "0 slots, 0 publications" {
		t.Errorf("before drop there are %s", got)
	}
	let := refuse(t, s, warehouse, app)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	let()
	scripts("stopped")
	if got := s.String(left); got != "0 slots, 0 publications" {
		t.Errorf("after drop there are %s", got)
	}
	if got := warehouse.String(`SELECT count(*) FROM tailrace_progress`); got != "0" {
		t.Errorf("after drop there are %s progress rows", got)
	}
	if got := warehouse.String(`SELECT count(*) > 0 FROM revenue_per_customer`); got != "t" {
		t.Error("drop removed results")
	}
}

// picky sets orders aside whose status it does not know.
func picky(s *exampletest.DB) *topology.Topology {
	b := topology.New("picky")
	type order struct{ Status string }
	orders := sources.Stream[int64, order](b,
		sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: s.URL})), "public.orders")
	known := operators.FilterContext(orders, func(_ record.Context, _ int64, o order) (bool, error) {
		if o.Status == "odd" {
			return false, errors.New("an odd status")
		}
		return true, nil
	}).OnError(func(record.Context, *topology.Failure) topology.Verdict { return topology.DeadLetter })
	operators.Foreach(known, func(record.Context, int64, order) error { return nil })
	return b.MustBuild()
}

// refuse has a change wait for the warehouse until the function that it returns is called:
// the change is durable in the queue, and the table that it belongs to is locked.
func refuse(t *testing.T, s *exampletest.DB, warehouse *pgservertest.DB, app *tailrace.App) (let func()) {
	t.Helper()
	tx, err := warehouse.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	let = func() {
		if err := tx.Rollback(context.WithoutCancel(t.Context())); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
			t.Error(err)
		}
	}
	t.Cleanup(let) // also where the test has failed
	if _, err := tx.Exec(t.Context(), `LOCK TABLE revenue_per_customer IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	s.Exec(`UPDATE orders SET cents = cents + 1
		WHERE id = (SELECT min(id) FROM orders WHERE status = 'paid')`)
	s.Settle(t, app)
	return let
}
