package apptest

import (
	"errors"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
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

// TestNewcomersUnderLoad adds two topologies beside a running one whose snapshots take
// long, while the application writes: the running one goes on as if nothing was, a kill in
// between costs only what the newcomers had, and in the end all equal SQL.
func TestNewcomersUnderLoad(t *testing.T) {
	const rows, perSecond = 12_000, 3000
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items select i, i from generate_series(1, 12000) i", "analyze items")
	cfg := tailrace.Config{App: "load", StateDir: t.TempDir() + "/state"}
	first := newSum(t, "first", pgSource("shop", db), amount)
	app := start(t, cfg, first.topology)
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
		return start(t, cfg, sums[0].topology, sums[1].topology, sums[2].topology)
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
	most, n := lagWhile(t, db, sums[0], func() bool { return len(app.app.Status().Joining) == 2 })
	took := time.Since(began)
	t.Logf(
		"while two topologies joined, %.1f s, a third showed %d rows, the slowest after %s",
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
	oneSlot(t, db)
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}
