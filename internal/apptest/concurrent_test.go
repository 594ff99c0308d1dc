package apptest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/view"
)

// write runs random transactions; a deadlock with another writer rolls one back.
func write(t *testing.T, db *pgservertest.DB, r *rand.Rand, stamp *atomic.Int64, n int) {
	for range n {
		_, err := db.Pool.Exec(context.Background(), "set deadlock_timeout = 20;"+RandomTx(r, stamp.Add(1)))
		if err != nil && !deadlock(err) {
			t.Error(err)
			return
		}
	}
}

// deadlock reports an error that concurrent writers make each other: a deadlock, or
// a key that both insert.
func deadlock(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40P01" || pg.Code == "23505")
}

// seen is a view's content at a position.
type seen struct {
	at   record.LSN
	rows []string
}

// follow folds a view's watch into its content at each position it shows.
func follow[K comparable, V any](
	ctx context.Context, v *view.View[K, V], line func(K, V) string,
) ([]seen, error) {
	var out []seen
	rows := map[K]string{}
	for ev, err := range v.Watch(ctx, view.WithRows()) {
		if err != nil {
			return out, err
		}
		switch ev.Kind {
		case view.EventReset:
			clear(rows)
		case view.EventChange:
			if ev.Change.HasNew() {
				rows[ev.Change.Key] = line(ev.Change.Key, ev.Change.New)
			} else {
				delete(rows, ev.Change.Key)
			}
		case view.EventEpoch:
			out = append(out, seen{record.LSN(ev.Position.Sources["shop"]), values(maps.Clone(rows))})
		}
	}
	return out, nil
}

// TestConcurrentWriters compares every position that the views show, while several
// writers are at work, with the recomputation over the log up to it.
func TestConcurrentWriters(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(ShopSchema)
	startOracle(db)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s, err := NewShop(sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: db.URL})), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var stamp atomic.Int64
	write(t, db, rand.New(rand.NewPCG(seed, 0)), &stamp, 100)
	// Small epochs, so that there are many positions whatever the machine's speed.
	app := run(t, tailrace.Config{App: "concurrent", StateDir: t.TempDir() + "/state", EpochRows: 8}, s)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := app.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	watchCtx, stopWatch := context.WithCancel(ctx)
	defer stopWatch()
	var docs, regions []seen
	var watchers, writers sync.WaitGroup
	watchers.Go(func() {
		docs, _ = follow(watchCtx, s.Docs, func(id int64, d Doc) string {
			return docLine(id, d, d.Customer.Valid, d.Customer.V)
		})
	})
	watchers.Go(func() {
		regions, _ = follow(watchCtx, s.Regions, func(k sql.Null[string], v Totals) string {
			region := "null"
			if k.Valid {
				region = k.V
			}
			return fmt.Sprintf("%s %d %d", region, v.Lines, v.Cents)
		})
	})
	for i := range 4 {
		writers.Go(func() { write(t, db, rand.New(rand.NewPCG(seed, uint64(i+1))), &stamp, 400) })
	}
	writers.Wait()
	waitForNow(ctx, t, db, s)
	compareViews(ctx, t, db, s)
	stopWatch()
	watchers.Wait()

	log := readLog(t, db)
	compareSeen(t, "docs", docs, log, (*oracle).docs)
	compareSeen(t, "regions", regions, log, (*oracle).regions)
}

func compareSeen(t *testing.T, what string, views []seen, log []logTx, want func(*oracle) []string) {
	t.Helper()
	o, next := newOracle(), 0
	positions := map[record.LSN]bool{}
	for _, s := range views {
		for ; next < len(log) && log[next].end <= s.at; next++ {
			for _, line := range log[next].lines {
				o.apply(t, line)
			}
		}
		positions[s.at] = true
		if w := want(o); !slices.Equal(s.rows, w) {
			t.Fatalf("%s at %s (%d transactions):\n got %q\nwant %q", what, s.at, next, s.rows, w)
		}
	}
	t.Logf("%s: %d distinct positions compared, %d transactions in the log", what, len(positions), len(log))
	if len(positions) < 300 {
		t.Errorf("%s: only %d distinct positions were seen, want 300", what, len(positions))
	}
}
