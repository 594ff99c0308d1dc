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
