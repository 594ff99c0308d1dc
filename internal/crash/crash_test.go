package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/internal/apptest"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

func TestMain(m *testing.M) {
	if os.Getenv(envReplay) != "" {
		run := runReplayChild
		if os.Getenv(envReplay) == "refused" {
			run = runRefusedChild
		}
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(envChild) != "" {
		if err := runChild(); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		return
	}
	pgservertest.Main(m)
}

func setting(name string, or int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return or
}

// suite is one run of the crash test.
type suite struct {
	t         *testing.T
	db        *pgservertest.DB // on a server that is killed
	depot, wh *pgservertest.DB
	app       *app
	tables    *app             // a second app without events, whose state directory is lost at times
	tablesWh  *pgservertest.DB // its warehouse
	stamp     atomic.Int64
	writing   sync.RWMutex // held for writing while the writers pause
	// committed and stocked are how many transactions of the shop and of the depot were
	// committed.
	committed, stocked atomic.Int64
	// caughtUp is the position at the end of the last check, when nobody wrote.
	caughtUp record.LSN
	log      []logTx

	done                          int // cycles
	kills, behind                 int // of the server, and those that took acknowledgements back
	applied                       int // cycles in which transactions were applied since the last kill
	lost, duplicated, torn, wipes int
}

// TestCrash kills the app in each cycle and the database in some. Its closing line
// says what was lost, doubled or torn; a run that misses a crash point fails.
// TAILRACE_CRASH_CYCLES and TAILRACE_CRASH_FIRST choose the cycles.
func TestCrash(t *testing.T) {
	cycles, first := setting("TAILRACE_CRASH_CYCLES", 60), setting("TAILRACE_CRASH_FIRST", 1)
	s := newSuite(t)
	defer func() { // Also if a check ended the test.
		fmt.Printf("cycles %d, lost %d, duplicated %d, torn %d, wipes %d\n",
			s.done, s.lost, s.duplicated, s.torn, s.wipes)
	}()
	for range 30 {
		s.db.Exec(apptest.RandomTx(rand.New(rand.NewPCG(uint64(first), 0)), s.stamp.Add(1)))
	}
	// Enough rows that the snapshot of the outbox takes several chunks.
	s.db.Exec("insert into outbox select -i, i, 'before ' || i from generate_series(1, 5000) i; analyze outbox")
	defer s.startWriters(uint64(first))()
	s.snapshotCycles()
	s.tableBoundaries()
	for n := first; n < first+cycles && !t.Failed(); n++ {
		if (n-first)%30 == 0 {
			s.loseState()
		}
		s.cycle(n)
		s.done++
	}
	s.checkPoints(first, cycles)
	if 2*s.applied < cycles {
		t.Errorf("only %d of %d cycles had applied transactions since the last kill", s.applied, cycles)
	}
}

func newSuite(t *testing.T) *suite {
	hits := filepath.Join(t.TempDir(), "hits")
	s := &suite{t: t, db: pgservertest.New(t, pgservertest.Private(nil)), wh: pgservertest.New(t),
		depot: pgservertest.New(t), tablesWh: pgservertest.New(t)}
	s.app = &app{name: "crash", dir: t.TempDir(), source: s.db.URL, depot: s.depot.URL, warehouse: s.wh.URL,
		events: "yes", hits: hits, checked: map[string]int{}}
	s.tables = &app{name: "tables", dir: t.TempDir(), source: s.db.URL, warehouse: s.tablesWh.URL, hits: hits,
		checked: map[string]int{}}
	s.db.Exec(apptest.ShopSchema)
	s.depot.Exec(apptest.DepotSchema)
	s.db.String("select pg_create_logical_replication_slot('oracle', 'test_decoding')::text")
	return s
}

// startWriters runs two writers of the shop and one of the depot until the returned
// function is called.
func (s *suite) startWriters(seed uint64) (stop func()) {
	done := make(chan struct{})
	var group sync.WaitGroup
	for i, w := range []struct {
		db  *pgservertest.DB
		tx  func(*rand.Rand, int64) string
		yes *atomic.Int64
	}{
		{s.db, apptest.RandomTx, &s.committed},
		{s.db, apptest.RandomTx, &s.committed},
		{s.depot, apptest.DepotTx, &s.stocked},
	} {
		r := rand.New(rand.NewPCG(seed, uint64(i+1)))
		group.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				s.writing.RLock()
				// A transaction that fails, because the server was killed or another writer
				// was in the way, is rolled back or not: the log tells.
				_, err := w.db.Pool.Exec(context.Background(), "set deadlock_timeout = 20;"+w.tx(r, s.stamp.Add(1)))
				s.writing.RUnlock()
				if err == nil {
					w.yes.Add(1)
				}
				time.Sleep(2 * time.Millisecond) // how often it writes: leaves the machine to the app
			}
		})
	}
	return func() { close(done); group.Wait() }
}

// snapshotCycles crashes at each point of the first start, at which there is no
// checkpoint yet.
func (s *suite) snapshotCycles() {
	for _, at := range []struct {
		point string
		hit   int
	}{
		{failpoint.SlotCreated, 1}, {failpoint.SlotCreated, 2}, // a database has one each
		{failpoint.SnapshotRows, 1}, {failpoint.SnapshotTable, 1}, {failpoint.SnapshotSwitch, 1},
		{failpoint.SnapshotDone, 1},
	} {
		s.crashAt(s.app, at.point, at.hit)
	}
	s.check("the first start")
}

// tableBoundaries crashes the first start of the second app, which reads one database,
// after each of its tables, and then lets it fill its warehouse.
func (s *suite) tableBoundaries() {
	tables := []string{"customers", "orders", "lines", "pair_a", "pair_b"}
	for i := range tables {
		s.crashAt(s.tables, failpoint.SnapshotTable, i+1)
	}
	before := s.hits()[failpoint.SnapshotTable]
	s.checkTables("the first start of tables", s.tables.start(s.t, failpoint.SnapshotTable+"=count"))
	if n := s.hits()[failpoint.SnapshotTable] - before; n != len(tables) {
		s.t.Errorf("a snapshot passes the end of %d tables, the app was killed at those of %d", n, len(tables))
	}
}

// loseState makes the second app's state anew over the rows that its former one left in
// the target, with a crash while it puts them right.
func (s *suite) loseState() {
	s.checkSlots(s.tables, "before the loss of the state directory")
	if err := os.RemoveAll(filepath.Join(s.tables.dir, "state")); err != nil {
		s.t.Fatal(err)
	}
	s.tables.identity = ""
	if s.tablesWh.String("select least((select count(*) from docs), (select count(*) from pairs)) > 0") != "t" {
		s.t.Error("the target of the app whose state is lost has no rows")
	}
	s.crashAt(s.tables, failpoint.SinkReconcile, 1)
	s.checkSlots(s.tables, "after the crash of a reconciling target")
	s.writing.Lock()
	s.db.Exec("delete from orders where id % 3 = 0") // Rows that have to go from the target.
	s.writing.Unlock()
	s.checkTables("after the loss of the state directory", s.tables.start(s.t, ""))
	s.checkSlots(s.tables, "after the loss of the state directory")
}

// checkTables pauses the writers until the second app's target equals SQL, and kills it.
func (s *suite) checkTables(when string, c *child) {
	s.t.Helper()
	s.writing.Lock()
	defer s.writing.Unlock()
	s.compareSink(when, s.tablesWh)
	if s.t.Failed() {
		c.dump()
		s.t.Logf("log of the app:\n%s", c.log)
	}
	c.kill(s.t)
}

// giant is a transaction that is larger than the app's memory and comes in pieces.
func (s *suite) giant(r *rand.Rand) {
	order := r.IntN(120)
	sql := fmt.Sprintf("begin; delete from lines where no >= 1000;"+
		"insert into orders values (%d, 1, 'paid') on conflict do nothing;"+
		"insert into lines select %d, 1000 + i, i from generate_series(1, 40000) i; commit", order, order)
	for {
		_, err := s.db.Pool.Exec(context.Background(), sql)
		if err == nil {
			return
		}
		var pg *pgconn.PgError // The writers are at work.
		if !errors.As(err, &pg) || pg.Code != "40P01" && pg.Code != "23505" {
			s.t.Fatal(err)
		}
	}
}

// crashAt starts the app with a failpoint and waits until it has ended there.
func (s *suite) crashAt(a *app, point string, hit int) {
	s.t.Helper()
	how := "exit"
	if point == failpoint.BatchSync {
		how = "late" // An acknowledgement that should not have been given reaches the server.
	}
	a.start(s.t, fmt.Sprintf("%s=%s@%d", point, how, hit)).exited(s.t, point)
}

// cycle lets the app run, ends it in one of several ways, and compares.
func (s *suite) cycle(n int) {
	r := rand.New(rand.NewPCG(uint64(n), 99))
	before := s.committed.Load()
	switch n % 3 {
	case 0:
		s.endAtPoint(n, r)
	case 1: // at a random moment
		if r.IntN(3) == 0 {
			s.app.beside++
		}
		c := s.app.start(s.t, "")
		time.Sleep(time.Duration(50+r.IntN(900)) * time.Millisecond) // the random moment itself
		c.kill(s.t)
	case 2:
		s.endAfterServer(n, r)
	}
	when := fmt.Sprintf("cycle %d", n)
	if at := s.checkSlots(s.app, when); at > s.caughtUp && s.committed.Load() > before {
		s.applied++
	}
	s.check(when)
}

// endAtPoint ends the app at the cycle's failpoint.
func (s *suite) endAtPoint(n int, r *rand.Rand) {
	point, hit := cyclePoint(n), 1+r.IntN(3)
	switch point {
	case failpoint.MidTransaction, failpoint.StateSpill:
		s.giant(r)
		hit = 1 + r.IntN(2)
	case failpoint.StateIngest, failpoint.StateIngested:
		s.giant(r)
		hit = 1
	case failpoint.JoinerSync: // at the snapshot's commit, or at the first that follows
		s.app.beside++
		hit = 1 + r.IntN(2)
	case failpoint.Joining:
		s.app.beside++
		hit = 1
	}
	s.crashAt(s.app, point, hit)
}

// endAfterServer kills the database server, and then the app, which in every second such
// cycle ends itself before it reads the log again.
func (s *suite) endAfterServer(n int, r *rand.Rand) {
	points := failpoint.AfterAckServer + "=count;" + failpoint.Reconnect + "=count"
	if reconnects(n) {
		points = failpoint.AfterAckServer + "=count;" + failpoint.Reconnect + "=exit"
	}
	s.awaitSlot(false) // Its dead predecessor's connection lingers for a moment.
	from := s.confirmed(s.app, "shop")
	c := s.app.start(s.t, points)
	if !s.awaitSlot(true) {
		c.dump()
		s.t.Fatalf("the app does not read the log:\n%s", c.log)
	}
	if !await.Within(await.Limit, func() bool { return s.confirmed(s.app, "shop") > from }) {
		c.dump()
		s.t.Fatalf("the app acknowledges nothing:\n%s", c.log)
	}
	time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond) // a random moment
	acknowledged := s.confirmed(s.app, "shop")
	s.killServer()
	if reconnects(n) {
		c.exited(s.t, failpoint.Reconnect)
		s.kills++
		if s.confirmed(s.app, "shop") < acknowledged {
			s.behind++
		}
		return
	}
	time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond) // a random moment
	c.kill(s.t)
}

// confirmed is what the server says that an app has acknowledged.
func (s *suite) confirmed(a *app, database string) record.LSN {
	s.t.Helper()
	at, err := record.ParseLSN(s.database(database).String(
		"select confirmed_flush_lsn from pg_replication_slots where slot_name = '" + a.slot(database) + "'"))
	if err != nil {
		s.t.Fatal(err)
	}
	return at
}

func (s *suite) database(name string) *pgservertest.DB {
	if name == "depot" {
		return s.depot
	}
	return s.db
}

// awaitSlot waits until a connection reads the app's slot of the shop, or none does.
func (s *suite) awaitSlot(active bool) bool {
	query := "select active from pg_replication_slots where slot_name = '" + s.app.slot("shop") + "'"
	return await.Within(await.Limit, func() bool { return s.db.String(query) == strconv.FormatBool(active)[:1] })
}

func (s *suite) killServer() {
	if err := s.db.Server.Kill(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.db.Server.Restart(context.Background()); err != nil {
		s.t.Fatal(err)
	}
	s.db.Pool.Reset() // its connections died with the server
}

// check pauses the writers, starts the app, waits until it has caught up, compares
// everything, and ends it by kill -9.
func (s *suite) check(when string) {
	s.t.Helper()
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.app.start(s.t, "")
	defer func() {
		if s.t.Failed() {
			c.dump() // where it stands
		}
		if c.kill(s.t); s.t.Failed() {
			s.t.Logf("log of the app:\n%s", c.log)
		}
	}()
	var addr string
	select {
	case addr = <-c.ready:
	case <-c.done:
		s.noteTorn(c)
		s.t.Fatalf("%s: the app does not start again:\n%s", when, c.log)
	case <-time.After(60 * time.Second):
		c.dump()
		s.t.Fatalf("%s: the app is not ready after 60 s:\n%s", when, c.log)
	}
	// A commit of its own: the end of the log may lie within what a transaction that was
	// rolled back has written, which stays so while nobody writes.
	const message = "select pg_logical_emit_message(true, 'checked', '')"
	lsn := "shop:" + s.db.String(message)
	s.compareViews(when, addr, lsn)
	s.compareSink(when, s.wh)
	s.compareStock(when, addr, lsn+",depot:"+s.depot.String(message))
	s.compareEvents(when, "events.jsonl")
	if s.app.beside > 0 {
		s.checkBeside(when, addr, lsn)
	}
	at, err := record.ParseLSN(s.db.String("select pg_current_wal_insert_lsn()"))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.caughtUp = at; s.t.Failed() {
		c.dump()
		s.noteTorn(c)
	}
}

// checkBeside compares what the topology beside the shop's shows, which has joined, and
// sees that neither it nor one before it has left a slot.
func (s *suite) checkBeside(when, addr, lsn string) {
	when += ", " + s.app.besideName()
	want := s.db.Strings(apptest.PairsSQL)
	var view, table [][]string
	for _, row := range s.get("http://" + addr + "/views/beside-pairs?limit=10000&wait_for=" + lsn) {
		view = append(view, []string{row.Key, row.Value["stamp"]})
	}
	s.same(when+", view", view, want)
	await.Within(await.Limit, func() bool {
		table = s.wh.Strings("select key, stamp from beside_pairs order by key")
		return slices.EqualFunc(table, want, slices.Equal)
	})
	s.same(when+", table", table, want)
	s.compareEvents(when, s.app.besideName()+".jsonl")
	left := "select count(*) from pg_replication_slots where slot_name like 'tailrace_crash_%' " +
		"and slot_name <> '" + s.app.slot("shop") + "'"
	if !await.Within(await.Limit, func() bool { return s.db.String(left) == "0" }) {
		s.t.Errorf("%s: slots of newcomers are left", when)
	}
}

// noteTorn counts a joiner of the app that saw rows which no committed state had.
func (s *suite) noteTorn(c *child) {
	if strings.Contains(c.log.String(), "a pair that no committed state had") {
		s.torn++
	}
}

// checkSlots looks at an app's state directory at rest: its slots never confirm more than
// the checkpoint of any topology holds, and the directory stays the same one. It returns the
// checkpoint of the shop.
func (s *suite) checkSlots(a *app, when string) record.LSN {
	s.t.Helper()
	dir, err := state.OpenDir(filepath.Join(a.dir, "state"), state.Identity{App: a.name}, state.Options{})
	if err != nil {
		s.t.Fatalf("%s: %v", when, err)
	}
	defer dir.Close()
	if a.identity != "" && dir.Incarnation() != a.identity {
		s.wipes++
		s.t.Errorf("%s: the state directory was made anew", when)
	}
	a.identity = dir.Incarnation()
	points, err := engine.Checkpoints(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for database, topologies := range a.reads() {
		for _, topology := range topologies {
			at, ok := points[topology][database]
			if !ok {
				continue
			}
			a.checked[database]++
			if confirmed := s.confirmed(a, database); uint64(confirmed) > at {
				s.lost++ // at least: the server may have removed it
				s.t.Errorf("%s: the slot %s confirms %s, the checkpoint of %s holds %s", when, a.slot(database),
					confirmed, topology, record.LSN(at))
			}
		}
	}
	return record.LSN(points["shop"]["shop"])
}
