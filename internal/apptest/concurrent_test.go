package apptest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
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

// shopSeen is what the shop's views, and the tables of its sink, showed.
type shopSeen struct {
	docs, regions, pairs, sums    []seen
	sinkDocs, sinkPairs, sinkSums []seen

	// sinkPositions is at how many positions the sink was read.
	sinkPositions atomic.Int64
}

// seenWanted is at how many positions each view and each table of the sink is compared
// at least.
const seenWanted = 300

// watch follows all views until ctx ends.
func (x *shopSeen) watch(ctx context.Context, s *Shop, watchers *sync.WaitGroup) {
	watchers.Go(func() {
		x.docs, _ = follow(ctx, s.Docs, func(id int64, d Doc) string {
			return docLine(id, d, d.Customer.Valid, d.Customer.V)
		})
	})
	watchers.Go(func() {
		x.regions, _ = follow(ctx, s.Regions, func(k sql.Null[string], v Totals) string {
			region := "null"
			if k.Valid {
				region = k.V
			}
			return fmt.Sprintf("%s %d %d", region, v.Lines, v.Cents)
		})
	})
	watchers.Go(func() {
		x.pairs, _ = follow(ctx, s.Pairs, func(k int64, p Pair) string { return fmt.Sprint(k, p.Stamp) })
	})
	watchers.Go(func() {
		x.sums, _ = follow(ctx, s.Sums, func(k int64, v Sums) string {
			return sumsLine(fmt.Sprint(k), text(v.Weight.Valid, v.Weight.V), text(v.Qty.Valid, v.Qty.V))
		})
	})
}

// readSink reads the sink's tables over and over until ctx ends, and keeps what they
// hold at each position.
func (x *shopSeen) readSink(ctx context.Context, t *testing.T, wh *pgservertest.DB, app string) {
	var last record.LSN
	for ctx.Err() == nil {
		s := readSinkTables(t, wh, app)
		if s.at == last {
			continue
		}
		last = s.at
		var docs, pairs, sums []string
		for _, d := range s.docs {
			if d[2] == pgservertest.Null {
				d[2] = "-"
			}
			docs = append(docs, strings.Join(d, " "))
		}
		for _, p := range s.pairs {
			pairs = append(pairs, strings.Join(p, " "))
		}
		for _, r := range s.sums {
			sums = append(sums, sumsLine(r[0], r[1], r[2]))
		}
		x.sinkDocs = append(x.sinkDocs, seen{s.at, sorted(docs)})
		x.sinkPairs = append(x.sinkPairs, seen{s.at, sorted(pairs)})
		x.sinkSums = append(x.sinkSums, seen{s.at, sorted(sums)})
		x.sinkPositions.Add(1)
	}
}

// compare compares all that was seen with the recomputation over the log.
func (x *shopSeen) compare(t *testing.T, log []logTx) {
	t.Helper()
	compareSeen(t, "docs", x.docs, log, (*oracle).docs)
	compareSeen(t, "regions", x.regions, log, (*oracle).regions)
	compareSeen(t, "pairs", x.pairs, log, (*oracle).pairs)
	compareSeen(t, "sums", x.sums, log, (*oracle).sums)
	compareSeen(t, "sink docs", x.sinkDocs, log, (*oracle).docs)
	compareSeen(t, "sink pairs", x.sinkPairs, log, (*oracle).pairs)
	compareSeen(t, "sink sums", x.sinkSums, log, (*oracle).sums)
}

// TestConcurrentWriters compares every position that the views and the sink show, while
// several writers are at work, with the recomputation over the log up to it.
func TestConcurrentWriters(t *testing.T) {
	db, wh := pgservertest.New(t), pgservertest.New(t)
	db.Exec(ShopSchema)
	startOracle(db)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s, err := NewShop(sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: db.URL})),
		sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: wh.URL, CreateTables: true})), nil)
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
	waitForSink(t, wh)
	watchCtx, stopWatch := context.WithCancel(ctx)
	defer stopWatch()
	var x shopSeen
	var watchers, writers sync.WaitGroup
	x.watch(watchCtx, s, &watchers)
	watchers.Go(func() { x.readSink(watchCtx, t, wh, "concurrent") })
	for i := range 4 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i+1)))
			write(t, db, r, &stamp, 400)
			// How many positions a sink shows depends on how fast its server is: whole runs of
			// epochs become one transaction there.
			for n := 0; n < 4000 && x.sinkPositions.Load() < seenWanted && !t.Failed(); n += 10 {
				write(t, db, r, &stamp, 10)
			}
		})
	}
	writers.Wait()
	at := waitForNow(ctx, t, db, s)
	compareViews(ctx, t, db, s)
	compareSink(ctx, t, db, wh, "concurrent", at)
	stopWatch()
	watchers.Wait()
	x.compare(t, readLog(t, db))
}

func compareSeen(
	t *testing.T, what string, views []seen, log []logTx, want func(*oracle) []string,
) {
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
	if len(positions) < seenWanted {
		t.Errorf("%s: only %d distinct positions were seen, want %d", what, len(positions), seenWanted)
	}
}
