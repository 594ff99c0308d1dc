package apptest

import (
	"errors"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

// lagWhile writes a row and waits until a view shows it, again and again while going
// holds, and returns the longest it took and how often it was tried.
func lagWhile(t *testing.T, db *pgservertest.DB, s sum, going func() bool) (most time.Duration, n int) {
	t.Helper()
	for ; going(); n++ {
		db.ExecArgs("insert into items values ($1, $2)", 1_000_000+n, n)
		began := time.Now()
		lsn, err := record.ParseLSN(db.String("select pg_current_wal_lsn()"))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.view.WaitFor(deadline(t), record.Positions{"shop": uint64(lsn)}); err != nil {
			t.Fatal(err)
		}
		most = max(most, time.Since(began))
	}
	return most, n
}

// copied is a topology that copies items into a target.
func copied(t *testing.T, from *sources.Database, to *sinks.Target, table string) *topology.Topology {
	t.Helper()
	b := topology.New("copied-" + table)
	sinks.Table(sources.Table[int64, item](b, from, "public.items"), to, table)
	made, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// sameCopy waits until a copy in a target equals the table.
func sameCopy(t *testing.T, db, wh *pgservertest.DB, table string) {
	t.Helper()
	sum := func(db *pgservertest.DB, table, key string) string {
		return db.String("select count(*) || ' ' || coalesce(sum(" + key + " * 31 + amount), 0) from " + table)
	}
	var got string
	want := sum(db, "items", "id")
	if !await.Within(time.Minute, func() bool { got = sum(wh, table, "key"); return got == want }) {
		t.Fatalf("%s holds %s, want %s", table, got, want)
	}
}

// TestNewcomersUnderLoad adds three topologies beside a running one whose snapshots take
// long, while the application writes: the running one goes on as if nothing was, a kill in
// between costs only what the newcomers had, and in the end all equal SQL.
func TestNewcomersUnderLoad(t *testing.T) {
	const rows, perSecond = 12_000, 3000
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items select i, i from generate_series(1, 12000) i", "analyze items")
	cfg := tailrace.Config{App: "load", StateDir: t.TempDir() + "/state"}
	wh := pgservertest.New(t)
	to := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: wh.URL, CreateTables: true}))
	source := pgSource("shop", db)
	app := start(t, cfg, newSum(t, "first", source, amount).topology, copied(t, source, to, "old"))
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	slow := sources.NewDatabase("shop", postgres.Source(postgres.Config{
		URL: db.URL, SnapshotRateLimit: perSecond, SnapshotChunkRows: 500,
	}))
	var sums []sum
	begin := func() started {
		sums = nil
		for _, name := range []string{"first", "second", "third"} {
			sums = append(sums, newSum(t, name, slow, amount))
		}
		return start(t, cfg, sums[0].topology, sums[1].topology, sums[2].topology,
			copied(t, slow, to, "old"), copied(t, slow, to, "new"))
	}
	stop := trickle(t, db)
	killed := errors.New("killed")
	off := failpoint.Set(failpoint.Joining, func(int) error { return killed })
	app = begin()
	if err := app.wait(t); !errors.Is(err, killed) {
		t.Fatalf("the app ended with %v", err)
	}
	off()
	app = begin()
	if err := app.app.Host().WaitFor(deadline(t), nil); err != nil {
		t.Fatal(err, app.stop())
	}
	began := time.Now()
	most, n := lagWhile(t, db, sums[0], func() bool { return len(app.app.Status().Joining) == 3 })
	took := time.Since(began)
	t.Logf(
		"while three topologies joined, %.1f s, a fourth showed %d rows, the slowest after %s",
		took.Seconds(),
		n,
		most,
	)
	if alone := time.Second * rows / perSecond / 2; took < alone || n < 10 {
		t.Errorf("the snapshots took %s, in which %d rows were shown", took, n)
	}
	if most > 2*time.Second {
		t.Errorf("the running topology lagged by %s", most)
	}
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	stop()
	for _, s := range sums {
		s.equal(t, db, "shop")
	}
	sameCopy(t, db, wh, "old")
	sameCopy(t, db, wh, "new")
	oneSlot(t, db)
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}
