package apptest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// rowsOf is a topology that shows a table as it is.
func rowsOf[V any](
	t *testing.T, name string, db *sources.Database, table string, options ...topology.Option,
) (*topology.Topology, *view.View[int64, V]) {
	t.Helper()
	b := topology.New(name, options...)
	v := sinks.View(sources.Table[int64, V](b, db, table), name)
	topo, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return topo, v
}

// TestRetypedColumn changes the type of a column that one of two topologies uses: that one
// stands still before the change, the other goes on, and with the type changed back and a
// restart nothing is missing.
func TestRetypedColumn(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items values (1, 10)")
	source := pgSource("shop", db)
	cfg := tailrace.Config{App: "retyped", StateDir: t.TempDir() + "/state"}
	uses, rows := rowsOf[item](t, "uses", source, "public.items")
	other, ids := rowsOf[struct{ ID int64 }](t, "other", source, "public.items")
	app := start(t, cfg, uses, other)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	db.Exec("alter table items alter amount type text", "insert into items values (2, 'many')")
	await.That(t, "the topology is held", func() bool { return app.app.Status().Held["uses"] != nil })
	if held := app.app.Status().Held["uses"]; !errors.Is(held, sources.ErrSchema) ||
		!strings.Contains(held.Error(), "amount") || !strings.Contains(held.Error(), "text") ||
		!strings.Contains(held.Error(), "raise the topology's Version") {
		t.Errorf("it is held by %v", held)
	}
	if got := shown(t, rows); !slices.Equal(got, []string{"1={10}"}) {
		t.Errorf("the held view has %v", got)
	}
	await.That(t, "the other goes on", func() bool {
		_, ok, _, err := ids.Get(deadline(t), 2)
		return ok && err == nil
	})
	if err := app.stop(); err != nil {
		t.Error(err)
	}
	db.Exec("update items set amount = '20' where id = 2", "alter table items alter amount type bigint using amount::bigint",
		"insert into items values (3, 30)")
	source = pgSource("shop", db)
	uses, rows = rowsOf[item](t, "uses", source, "public.items", topology.Version(1))
	other, ids = rowsOf[struct{ ID int64 }](t, "other", source, "public.items")
	app = start(t, cfg, uses, other)
	ready(t, app)
	db.Exec("insert into items values (4, 40)", "delete from items where id = 1")
	asSQL(t, db, rows, "select id, '{' || amount || '}' from items order by id")
	asSQL(t, db, ids, "select id, '{' || id || '}' from items order by id")
}

// asSQL waits for everything committed and compares a view with what SQL gives for its
// keys and values as they print.
func asSQL[K comparable, V any](t *testing.T, db *pgservertest.DB, v *view.View[K, V], sql string) {
	t.Helper()
	if err := v.WaitFor(deadline(t), head(t, db)); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, row := range db.Strings(sql) {
		want = append(want, strings.Join(row, "="))
	}
	if got := shown(t, v); !slices.Equal(got, want) {
		t.Errorf("%s has %v, SQL %v", v.Name(), got, want)
	}
}

// Rows of a table with values that the first types cannot hold, and the second can.
type (
	visit     struct{ At time.Time }
	anyVisit  struct{ At record.Instant }
	level     struct{ N int8 }
	anyLevel  struct{ N int16 }
	wrongRows struct {
		name, schema, good, bad string
		narrow, wide            func(*testing.T, *pgservertest.DB, *sinks.Target) *topology.Topology
		says                    []string
	}
)

// loaded is a topology that writes a table to a target.
func loaded[V any](t *testing.T, db *pgservertest.DB, target *sinks.Target) *topology.Topology {
	t.Helper()
	b := topology.New("rows")
	sinks.Table(sources.Table[int64, V](b, pgSource("shop", db), "public.t"), target, "rows")
	topo, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return topo
}

// TestValueOutOfRange has a value that its field cannot hold: the app stops before its
// transaction, names table and column and not the value, and keeps what came before. With
// the type that the message names it goes on, and has what SQL has.
func TestValueOutOfRange(t *testing.T) {
	for _, c := range []wrongRows{
		{name: "infinity", schema: "create table t (id bigint primary key, at timestamptz not null)",
			good: "2024-01-01", bad: "infinity", narrow: loaded[visit], wide: loaded[anyVisit],
			says: []string{"public.t.at", "visit.At", "the value is infinite; use record.Instant"}},
		{name: "number", schema: "create table t (id bigint primary key, n smallint not null)",
			good: "127", bad: "300", narrow: loaded[level], wide: loaded[anyLevel],
			says: []string{"public.t.n", "level.N", "out of the Go type's range; use int16"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, wh := pgservertest.New(t), pgservertest.New(t)
			db.Exec(c.schema)
			rows := func(db *pgservertest.DB) string {
				return fmt.Sprint(db.Strings("select * from " +
					map[bool]string{true: "rows", false: "t"}[db == wh] + " order by 1"))
			}
			target := func() *sinks.Target {
				return sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: wh.URL, CreateTables: true}))
			}
			cfg := tailrace.Config{App: "range", StateDir: t.TempDir() + "/state"}
			app := start(t, cfg, c.narrow(t, db, target()))
			ready(t, app)
			db.Exec("insert into t values (1, '" + c.good + "')")
			first := rows(db)
			await.That(t, "the target has what came before", func() bool {
				return wh.String("select to_regclass('rows') is not null") == "t" && rows(wh) == first
			})
			db.Exec("insert into t values (2, '"+c.bad+"')", "insert into t values (3, '"+c.good+"')")
			for range 2 { // also after a restart
				err := app.wait(t)
				if !errors.Is(err, sources.ErrDecode) || strings.Contains(err.Error(), "300") {
					t.Errorf("got %v", err)
				}
				for _, s := range c.says {
					if !strings.Contains(err.Error(), s) {
						t.Errorf("the error does not say %q: %v", s, err)
					}
				}
				app = start(t, cfg, c.narrow(t, db, target()))
			}
			_ = app.wait(t) // the same again
			if got := rows(wh); got != first {
				t.Errorf("the target has %s, want %s", got, first)
			}
			app = start(t, cfg, c.wide(t, db, target()))
			ready(t, app)
			db.Exec("delete from t where id = 1")
			await.That(t, "the target is equal to SQL", func() bool { return rows(wh) == rows(db) })
			if err := app.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRefusedByTarget has a row that a constraint of the target refuses: the app stops, says
// which row of which table by which rule, and has written nothing of its transaction. With the
// constraint changed a start goes on, and the target has what SQL has.
func TestRefusedByTarget(t *testing.T) {
	db, wh := pgservertest.New(t), pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items values (1, 10)")
	wh.Exec("create table rows (key bigint primary key, amount bigint not null constraint small check (amount < 100))")
	cfg := tailrace.Config{App: "refused", StateDir: t.TempDir() + "/state"}
	build := func() *topology.Topology {
		b := topology.New("rows")
		items := sources.Table[int64, item](b, pgSource("shop", db), "public.items")
		sinks.Table(items, sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: wh.URL})), "rows")
		topo, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		return topo
	}
	taken := func() string { return fmt.Sprint(wh.Strings("select key, amount from rows order by 1")) }
	app := start(t, cfg, build())
	ready(t, app)
	await.That(t, "the target has the snapshot", func() bool { return taken() == "[[1 10]]" })
	db.Exec("begin; insert into items values (2, 20), (7, 4711), (8, 80); commit", "delete from items where id = 1")
	for range 2 { // also after a restart that mends nothing
		err := app.wait(t)
		var refused *pgsink.RejectedError
		if !errors.Is(err, sinks.ErrRejected) || !errors.As(err, &refused) {
			t.Fatalf("got %v", err)
		}
		if !slices.Equal(refused.Key, []string{"7"}) || refused.Constraint != "small" {
			t.Errorf("it blames %+v", refused)
		}
		for _, s := range []string{`target "warehouse"`, `"rows"`, `constraint "small"`, "shop:", "start again"} {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("the error does not say %s: %v", s, err)
			}
		}
		if strings.Contains(err.Error(), "4711") {
			t.Errorf("the error tells the value: %v", err)
		}
		if got := taken(); got != "[[1 10]]" {
			t.Errorf("the target has %s", got)
		}
		app = start(t, cfg, build())
	}
	_ = app.wait(t) // the same again
	wh.Exec("alter table rows drop constraint small")
	app = start(t, cfg, build())
	ready(t, app)
	db.Exec("insert into items values (9, 90)")
	await.That(t, "the target is equal to SQL", func() bool {
		return taken() == fmt.Sprint(db.Strings("select id, amount from items order by 1"))
	})
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}

// TestSinkOntoItsSource refuses an output that would be its topology's own input.
func TestSinkOntoItsSource(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items values (1, 1)")
	b := topology.New("loop")
	items := sources.Table[int64, item](b, pgSource("shop", db), "public.items")
	sinks.Table(items, sinks.NewTarget("same", pgsink.Target(pgsink.Config{URL: db.URL})), "items")
	loop, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	app := start(t, tailrace.Config{App: "loop", StateDir: t.TempDir() + "/state"}, loop)
	if err := app.wait(t); !errors.Is(err, sinks.ErrTargetSchema) ||
		!strings.Contains(err.Error(), `output "items" would write "items"`) ||
		!strings.Contains(err.Error(), "feedback loop") || strings.Contains(err.Error(), "ALTER TABLE") {
		t.Fatalf("got %v", err)
	}
}
