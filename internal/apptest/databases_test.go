package apptest

import (
	"fmt"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
	"github.com/tailrace/tailrace/windows"
)

// TestDatabasesInCommitOrder has two databases hold a backlog of rows that were written in
// turn. In windows of a millisecond, which take nothing that is late, all of them count: none
// of one database is taken when later ones of the other have been. And once both have said
// that there is no more, nobody waits for anybody: with MaxIdle the test would not end.
func TestDatabasesInCommitOrder(t *testing.T) {
	dbs := []*pgservertest.DB{pgservertest.New(t), pgservertest.New(t)}
	names := []string{"one", "other"}
	cfg := tailrace.Config{App: "order", StateDir: t.TempDir() + "/state", MaxIdle: time.Hour}
	var counts *view.View[windows.Windowed[string], int64]
	run := func() started {
		b := topology.New("merged")
		var streams []topology.Stream[int64, item]
		for i, db := range dbs {
			streams = append(streams, sources.Stream[int64, item](b, pgSource(names[i], db), "public.items"))
		}
		all := operators.GroupBy(operators.Merge(streams...), func(int64, item) string { return "all" })
		counts = sinks.View(operators.Aggregate("counts",
			operators.Window(all, windows.Tumbling(time.Millisecond)), aggregate.Count[item]()), "counts")
		app := start(t, cfg, b.MustBuild())
		ready(t, app)
		return app
	}
	count := func() (n int64) {
		t.Helper()
		at := record.Positions{}
		for i, db := range dbs {
			at[names[i]] = written(t, db)
		}
		if err := counts.WaitFor(deadline(t), at); err != nil {
			t.Fatal(err)
		}
		for _, rows := range counts.Range(deadline(t), view.Span[windows.Windowed[string]]{}).All() {
			n += rows
		}
		return n
	}
	for _, db := range dbs {
		db.Exec(itemsSchema)
	}
	app := run()
	if n := count(); n != 0 {
		t.Fatalf("%d rows before the first", n)
	}
	const backlog = 400
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	for i := range backlog {
		dbs[i%2].Exec(fmt.Sprintf("insert into items values (%d, 1)", i))
	}
	app = run()
	if n := count(); n != backlog {
		t.Errorf("%d of %d rows are in windows: the others came too late", n, backlog)
	}
	// A row of one database at a time, with the other one idle.
	for i := range 20 {
		dbs[i%2].Exec(fmt.Sprintf("insert into items values (%d, 1)", backlog+i))
		if n := count(); n != int64(backlog+i+1) {
			t.Errorf("%d of %d rows are in windows", n, backlog+i+1)
		}
	}
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
}

// TestTwoDatabases joins tables of two databases, through restarts.
func TestTwoDatabases(t *testing.T) {
	left, right := pgservertest.New(t), pgservertest.New(t)
	left.Exec(itemsSchema, "insert into items select i, i from generate_series(1, 100) i")
	right.Exec(itemsSchema, "insert into items select i, 2 * i from generate_series(50, 150) i")
	cfg := tailrace.Config{App: "two", StateDir: t.TempDir() + "/state"}
	for round := range 3 {
		b := topology.New("both")
		one := sources.Table[int64, item](b, pgSource("one", left), "public.items")
		other := sources.Table[int64, item](b, pgSource("other", right), "public.items")
		sinks.View(one, "one")
		sinks.View(other, "other")
		joined := operators.OuterJoin("join", one, other,
			func(l item, _ bool, r item, _ bool) int64 { return l.Amount + r.Amount })
		v := sinks.View(joined, "joined")
		topo, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		app := start(t, cfg, topo)
		if err := app.app.WaitReady(deadline(t)); err != nil {
			t.Fatal(err, app.stop())
		}
		left.Exec(
			fmt.Sprintf(
				"update items set amount = amount + 1 where id %% 3 = %d; delete from items where id = %d",
				round,
				round+1,
			),
		)
		right.Exec(
			fmt.Sprintf(
				"insert into items values (%d, 7); update items set id = -id where id = %d",
				1000+round,
				60+round,
			),
		)
		at := record.Positions{}
		for name, db := range map[string]*pgservertest.DB{"one": left, "other": right} {
			at[name] = written(t, db)
		}
		if err := v.WaitFor(deadline(t), at); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{}
		for _, db := range []*pgservertest.DB{left, right} {
			for _, row := range db.Strings("select id, amount from items") {
				var a, b int64
				fmt.Sscan(want[row[0]], &a)
				fmt.Sscan(row[1], &b)
				want[row[0]] = fmt.Sprint(a + b)
			}
		}
		n := 0
		for k, x := range v.Range(deadline(t), view.Span[int64]{}).All() {
			if n++; want[fmt.Sprint(k)] != fmt.Sprint(x) {
				t.Errorf("round %d: %d: got %d, want %s", round, k, x, want[fmt.Sprint(k)])
			}
		}
		if n != len(want) {
			t.Errorf("round %d: %d rows, want %d", round, n, len(want))
		}
		verifyBoth(t, app)
		if err := app.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// verifyBoth has an app compare a view of each of two databases with SQL, and find the rows
// that the other one's SQL has not.
func verifyBoth(t *testing.T, app started) {
	t.Helper()
	const rows = "select id as key, amount from items"
	got, err := app.app.Verify(deadline(t), tailrace.Check{View: "other", SQL: rows, Database: "other"},
		tailrace.Check{View: "one", SQL: rows, Database: "one"},
		tailrace.Check{View: "one", SQL: rows + " where id <> 10", Database: "one"},
		tailrace.Check{View: "one", SQL: rows, Database: "other"})
	if err != nil {
		t.Fatal(err)
	}
	for i, wrong := range []bool{false, false, true, true} {
		if (len(got[i].Differences) > 0) != wrong {
			t.Errorf("check %d of %q: %d differences", i, got[i].View, len(got[i].Differences))
		}
	}
}
