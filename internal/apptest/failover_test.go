package apptest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/file"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

// ledger is an app with a view, a table and events, of which the last two would show what
// a failover lost or brought twice.
type ledger struct {
	sum
	events string
	cfg    tailrace.Config
}

func newLedger(t *testing.T, dir, url string, wh *pgservertest.DB) *ledger {
	t.Helper()
	l := &ledger{events: filepath.Join(dir, "events"), cfg: tailrace.Config{
		App: "ledger", StateDir: filepath.Join(dir, "state"), IdleCommit: 20 * time.Millisecond,
	}}
	b := topology.New("ledger")
	shop := sources.NewDatabase("shop", postgres.Source(postgres.Config{
		URL: url, Failover: true, StatusInterval: 20 * time.Millisecond,
	}))
	items := sources.Table[int64, item](b, shop, "public.items")
	total := operators.Aggregate("total",
		operators.GroupBy(items, func(int64, item) string { return "all" }), aggregate.Sum(amount))
	l.view = sinks.View(total, "ledger-view")
	sinks.Table(
		items,
		sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: wh.URL, CreateTables: true})),
		"items",
	)
	sinks.Stream(sources.Stream[int64, item](b, shop, "public.items", sources.As[item]("added")),
		sinks.NewTarget("log", file.Target(file.Config{Path: l.events})), "added")
	var err error
	if l.topology, err = b.Build(); err != nil {
		t.Fatal(err)
	}
	return l
}

// added are the keys of the events in the file, in order. The app may be writing it: a line
// that has not ended yet is none.
func (l *ledger) added(t *testing.T) []int64 {
	t.Helper()
	data, err := os.ReadFile(l.events)
	if err != nil {
		t.Fatal(err)
	}
	var keys []int64
	for line := range bytes.Lines(data) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var ev struct{ Key int64 }
		if err := json.Unmarshal(line, &ev); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		keys = append(keys, ev.Key)
	}
	return keys
}

// equals compares everything that the app has made with a database.
func (l *ledger) equals(t *testing.T, db, wh *pgservertest.DB) {
	t.Helper()
	l.equal(t, db, "shop")
	want := db.Strings("select id, amount from items order by id")
	var got [][]string
	if !await.Within(30*time.Second, func() bool {
		got = wh.Strings("select key, amount from items order by key")
		return slices.EqualFunc(got, want, slices.Equal)
	}) {
		t.Errorf("the target has %d rows that differ from the %d in the database", len(got), len(want))
	}
	var inserted []int64
	for _, row := range want {
		if id, _ := strconv.ParseInt(row[0], 10, 64); id > 0 { // the others were there before
			inserted = append(inserted, id)
		}
	}
	if !await.Within(30*time.Second, func() bool { return len(l.added(t)) >= len(inserted) }) {
		t.Errorf("%d events, want %d", len(l.added(t)), len(inserted))
	}
	added := l.added(t)
	if slices.Sort(added); !slices.Equal(added, inserted) {
		t.Errorf("%d events of %d inserted rows: some are lost or came twice", len(added), len(inserted))
	}
}

// insertItems writes items with ascending keys to whichever server takes them, through
// errors, until stop, which returns how many were confirmed.
func insertItems(t *testing.T, url string) (stop func() int) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	ctx, cancel := context.WithCancel(context.Background())
	confirmed := 0
	var writer sync.WaitGroup
	writer.Go(func() {
		for id := 1; ctx.Err() == nil; id++ {
			// Not of ctx: what is cut off by stop may be committed after it.
			short, end := context.WithTimeout(context.Background(), time.Second)
			_, err := pool.Exec(short, "with moved as (update items set amount = amount + 1 where id = $1) "+
				"insert into items values ($2, $2)", -(id % 50), id)
			end()
			if err == nil {
				confirmed++
				continue
			}
			select { // leaves the servers time to change over
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	return func() int {
		cancel()
		writer.Wait()
		return confirmed
	}
}

// synchronised gives the standby a copy of the app's slot that can be used: once that has
// moved past a snapshot of the running transactions which both have, while nobody writes.
func synchronised(t *testing.T, db, standby *pgservertest.DB, l *ledger) {
	t.Helper()
	await.That(t, "a slot that is synchronised", func() bool {
		db.Exec("select pg_log_standby_snapshot()")
		at := db.String("select pg_current_wal_lsn()")
		l.equal(t, db, "shop")
		await.That(t, "both have the snapshot", func() bool {
			return standby.String("select pg_last_wal_replay_lsn() >= '"+at+"'") == "t" && db.String(
				"select confirmed_flush_lsn >= '"+at+"' from pg_replication_slots where slot_type = 'logical'") == "t"
		})
		standby.Exec("select pg_sync_replication_slots()")
		return standby.String("select count(*) from pg_replication_slots where synced and not temporary") == "1"
	})
}

// TestFailover loses the primary under load and promotes its standby: the app goes on
// there by itself, with the same state, and so it does after a restart. The primary shows
// nothing to the app before the standby has it (synchronized_standby_slots), so everything
// that the app has made exists there, too.
func TestFailover(t *testing.T) {
	db := pgservertest.New(
		t,
		pgservertest.Version("18"),
		pgservertest.Private(map[string]string{"fsync": "off"}),
	)
	wh := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items select -i, 0 from generate_series(0, 49) i")
	standby := pgservertest.NewStandby(db)
	db.Exec("alter system set synchronized_standby_slots = 'standby'", "select pg_reload_conf()")
	both := strings.Replace(db.URL, db.Server.Addr(), db.Server.Addr()+","+standby.Server.Addr(), 1) +
		"&target_session_attrs=read-write"
	dir := t.TempDir()
	l := newLedger(t, dir, both, wh)
	app := start(t, l.cfg, l.topology)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	synchronised(t, db, standby, l)
	stop := insertItems(t, both)
	before := len(l.added(t))
	await.That(t, "events while both are there", func() bool { return len(l.added(t)) > before+50 })
	if err := db.Server.Kill(); err != nil {
		t.Fatal(err)
	}
	if standby.String("select pg_promote(true, 30)") != "t" {
		t.Fatal("not promoted")
	}
	at := len(l.added(t))
	await.That(t, "events from the new primary", func() bool {
		return len(l.added(t)) > at+50 || app.app.Status().Stopped
	})
	confirmed := stop()
	l.equals(t, standby, wh)
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	standby.Exec("insert into items values (1000000, 1)")
	l = newLedger(t, dir, both, wh)
	app = start(t, l.cfg, l.topology)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	l.equals(t, standby, wh)
	t.Logf("%d items confirmed, %d events", confirmed, len(l.added(t)))
}

// TestFailoverBehind promotes a standby that lacks what the app has shown: the app stops
// with a named error and keeps its state as it is.
func TestFailoverBehind(t *testing.T) {
	db := pgservertest.New(
		t,
		pgservertest.Version("18"),
		pgservertest.Private(map[string]string{"fsync": "off"}),
	)
	wh := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items values (1, 1)")
	standby := pgservertest.NewStandby(db)
	both := strings.Replace(db.URL, db.Server.Addr(), db.Server.Addr()+","+standby.Server.Addr(), 1) +
		"&target_session_attrs=read-write"
	l := newLedger(t, t.TempDir(), both, wh)
	app := start(t, l.cfg, l.topology)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	synchronised(t, db, standby, l)
	standby.Exec("alter system set primary_conninfo = ''", "select pg_reload_conf()")
	await.That(t, "the standby is alone", func() bool {
		return db.String("select count(*) from pg_stat_replication where application_name = 'walreceiver'") == "0"
	})
	db.Exec("insert into items values (1000000, 1)")
	l.equal(t, db, "shop")
	if err := db.Server.Kill(); err != nil {
		t.Fatal(err)
	}
	if standby.String("select pg_promote(true, 30)") != "t" {
		t.Fatal("not promoted")
	}
	standby.Exec("insert into items values (2000000, 7)")
	if err := app.wait(t); !errors.Is(err, sources.ErrWrongSystem) {
		t.Errorf("got %v", err)
	}
	if slices.Contains(l.added(t), 2000000) {
		t.Error("an event of the new branch was delivered")
	}
}
