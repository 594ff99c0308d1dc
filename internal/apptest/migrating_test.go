package apptest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

const itemsAnew = `drop table items;
	create table items (id bigint primary key, amount bigint not null, extra text);
	insert into items values (5, 50)`

// migrations are transactions that make another table of items.
var migrations = []struct{ name, sql string }{
	{"a table dropped and made again", itemsAnew},
	{"a column dropped and added again", `alter table items drop column amount;
		alter table items add column amount bigint not null default 7`},
	{"values written anew", `alter table items alter amount type int using amount * 2`},
}

// transaction opens one, for statements until commit.
func transaction(t *testing.T, db *pgservertest.DB) (exec func(sql string)) {
	t.Helper()
	c, err := pgx.Connect(deadline(t), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	exec = func(sql string) {
		t.Helper()
		if _, err := c.Exec(deadline(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("begin; select pg_current_xact_id()")
	return exec
}

// waits returns once somebody waits for a transaction.
func waits(t *testing.T, db *pgservertest.DB) {
	t.Helper()
	await.That(t, "the app to wait for the transaction", func() bool {
		return db.String(`select count(*) from pg_stat_activity where datname = current_database()
			and wait_event_type = 'Lock'`) != "0"
	})
}

// TestMigrationDuringStart opens an app while a transaction is open that makes another
// table of the one it reads: the state begins with the table as it then is.
func TestMigrationDuringStart(t *testing.T) {
	for _, all := range []bool{false, true} {
		for _, m := range migrations {
			t.Run(fmt.Sprintf("all tables %v/%s", all, m.name), func(t *testing.T) {
				db := pgservertest.New(t)
				db.Exec(itemsSchema, "insert into items values (1, 10), (2, 20)")
				cfg := postgres.Config{URL: db.URL, MonitorInterval: 50 * time.Millisecond}
				if all {
					db.Exec("create publication everything for all tables")
					cfg.Publication = "everything"
				}
				exec := transaction(t, db)
				exec(m.sql)
				s := newSum(t, "first", sources.NewDatabase("shop", postgres.Source(cfg)), amount)
				app := start(t, tailrace.Config{App: "migrating", StateDir: t.TempDir() + "/state"}, s.topology)
				waits(t, db)
				exec("commit")
				ready(t, app)
				db.Exec("insert into items values (9, 90)")
				s.equal(t, db, "shop")
				if st := app.app.Status(); len(st.Held) > 0 || st.Stopped {
					t.Errorf("held %v, stopped %v", st.Held, st.Err)
				}
				if err := app.stop(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestMigrationDuringJoin has a newcomer take its snapshot after its table has become another
// one than it was when the session of those was opened that it joins.
func TestMigrationDuringJoin(t *testing.T) {
	for _, m := range migrations {
		t.Run(m.name, func(t *testing.T) {
			db := pgservertest.New(t)
			db.Exec(itemsSchema, "insert into items values (1, 10), (2, 20)",
				"create table ticks (id bigint primary key, amount bigint not null)",
				"insert into ticks values (1, 1)", "create publication everything for all tables")
			source := sources.NewDatabase("shop", postgres.Source(postgres.Config{
				URL: db.URL, Publication: "everything", MonitorInterval: time.Hour,
			}))
			var ticks *view.View[int64, item]
			old := func() *topology.Topology {
				b := topology.New("ticks")
				ticks = sinks.View(sources.Table[int64, item](b, source, "public.ticks"), "ticks")
				return b.MustBuild()
			}
			cfg := tailrace.Config{App: "migrating", StateDir: t.TempDir() + "/state"}
			app := start(t, cfg, old())
			ready(t, app)
			if err := app.stop(); err != nil {
				t.Fatal(err)
			}
			exec := transaction(t, db)
			s := newSum(t, "second", source, amount)
			app = start(t, cfg, old(), s.topology)
			waits(t, db)
			exec(m.sql + "; commit")
			ready(t, app)
			db.Exec("insert into items values (9, 90)")
			s.equal(t, db, "shop")
			if err := ticks.WaitFor(deadline(t), head(t, db)); err != nil {
				t.Error(err)
			}
			if st := app.app.Status(); len(st.Held) > 0 || st.Stopped {
				t.Errorf("held %v, stopped %v", st.Held, st.Err)
			}
			if err := app.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// harmless are statements that leave every row as it is, or that the log tells of.
var harmless = []string{
	"alter table items add column more int default 3", "analyze items",
	"alter table items replica identity full",
	"create index by_amount on items (amount)", "alter table items drop column more", "vacuum full items",
	"alter table items replica identity default", "drop index by_amount",
	"alter table items add column more text",
	"update items set amount = amount + 1 where id % 7 = 0", "alter table items alter more type varchar(9)",
	"alter table items rename more to less", "alter table items drop column less",
	"alter table items cluster on items_pkey", "cluster items", "delete from items where id % 11 = 0",
}

// TestHarmlessMigrations alters tables in all ways that change no rows, one after the other,
// while others write and a newcomer joins: nothing is held, and all equals SQL.
func TestHarmlessMigrations(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items select i, i from generate_series(1, 500) i",
		"create table parts (id bigint primary key, amount bigint not null) partition by range (id)",
		"create table parts_0 partition of parts for values from (0) to (10)")
	source := sources.NewDatabase("shop", postgres.Source(postgres.Config{
		URL: db.URL, MonitorInterval: 5 * time.Millisecond,
	}))
	cfg := tailrace.Config{App: "harmless", StateDir: t.TempDir() + "/state"}
	var first sum
	var parts *view.View[int64, item]
	old := func() []*topology.Topology {
		first = newSum(t, "first", source, amount)
		b := topology.New("parts")
		parts = sinks.View(sources.Table[int64, item](b, source, "public.parts"), "parts")
		return []*topology.Topology{first.topology, b.MustBuild()}
	}
	app := start(t, cfg, old()...)
	ready(t, app)
	stop := trickle(t, db)
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	tops := old()
	second := newSum(t, "second", source, amount)
	app = start(t, cfg, append(tops, second.topology)...)
	const rounds = 10
	for i := range rounds {
		db.Exec(harmless...)
		lo := 10 * (i + 1)
		db.Exec(
			fmt.Sprintf("create table parts_%d partition of parts for values from (%d) to (%d)", i+1, lo, lo+10),
			fmt.Sprintf("insert into parts values (%d, 1)", lo))
	}
	stop()
	ready(t, app)
	first.equal(t, db, "shop")
	second.equal(t, db, "shop")
	if err := parts.WaitFor(deadline(t), head(t, db)); err != nil {
		t.Error(err)
	}
	n := 0
	rows := parts.Range(context.Background(), view.Span[int64]{})
	for range rows.All() {
		n++
	}
	if n != rounds || rows.Err() != nil {
		t.Errorf("%d rows of %d in the partitioned table, %v", n, rounds, rows.Err())
	}
	if st := app.app.Status(); len(st.Held) > 0 || st.Stopped {
		t.Errorf("held %v, stopped %v", st.Held, st.Err)
	}
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}

// TestTableThatBecomesUnlogged takes a table out of the log that a publication of all tables
// holds.
func TestTableThatBecomesUnlogged(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items values (1, 10)",
		"create table ticks (id bigint primary key, amount bigint not null)",
		"create publication everything for all tables")
	source := sources.NewDatabase("shop", postgres.Source(postgres.Config{
		URL: db.URL, Publication: "everything", MonitorInterval: 50 * time.Millisecond,
	}))
	s := newSum(t, "first", source, amount)
	b := topology.New("ticks")
	ticks := sinks.View(sources.Table[int64, item](b, source, "public.ticks"), "ticks")
	app := start(t, tailrace.Config{App: "unlogged", StateDir: t.TempDir() + "/state"},
		s.topology, b.MustBuild())
	ready(t, app)
	db.Exec("alter table items set unlogged", "insert into items values (2, 20)")
	await.That(t, "the topology to be held", func() bool { return app.app.Status().Held["first"] != nil })
	if err := app.app.Status().Held["first"]; !strings.Contains(err.Error(), "SET LOGGED") {
		t.Error(err)
	}
	db.Exec("insert into ticks values (1, 1)")
	if err := ticks.WaitFor(deadline(t), head(t, db)); err != nil {
		t.Error(err)
	}
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}
