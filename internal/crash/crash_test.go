package crash

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
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
	"github.com/jackc/pgx/v5/pgxpool"

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
		if err := runReplayChild(); err != nil {
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

// appSlot is the slot of the app that is killed.
const appSlot = "tailrace_crash_shop"

// suite is one run of the crash test.
type suite struct {
	t         *testing.T
	db, wh    *pgservertest.DB
	pool      *pgxpool.Pool // for writers, whose errors are expected
	app       *app
	tables    *app // a second app without events, whose state directory is lost at times
	stamp     atomic.Int64
	writing   sync.RWMutex // held for writing while the writers pause
	committed atomic.Int64
	// caughtUp is the position at the end of the last check, when nobody wrote.
	caughtUp record.LSN
	log      []logTx
	identity string

	done                          int // cycles
	applied                       int // cycles in which transactions were applied since the last kill
	lost, duplicated, torn, wipes int
}

// TestCrash kills the app in each cycle and the database in some. Its closing line
// says what was lost, doubled or torn; a run that misses a crash point fails.
// TAILRACE_CRASH_CYCLES and TAILRACE_CRASH_FIRST choose the cycles.
func TestCrash(t *testing.T) {
	cycles, first := setting("TAILRACE_CRASH_CYCLES", 60), setting("TAILRACE_CRASH_FIRST", 1)
	dir := t.TempDir()
	hits := filepath.Join(dir, "hits")
	s := &suite{t: t, db: pgservertest.New(t, pgservertest.Private(nil)), wh: pgservertest.New(t)}
	s.app = &app{name: "crash", dir: dir, source: s.db.URL, warehouse: s.wh.URL, events: "yes", hits: hits}
	wh := pgservertest.New(t)
	s.tables = &app{name: "tables", dir: t.TempDir(), source: s.db.URL, warehouse: wh.URL, hits: hits}
	defer func() { // Also if a check ended the test.
		fmt.Printf("cycles %d, lost %d, duplicated %d, torn %d, wipes %d\n",
			s.done, s.lost, s.duplicated, s.torn, s.wipes)
	}()
	s.db.Exec(apptest.ShopSchema)
	s.db.String("select pg_create_logical_replication_slot('oracle', 'test_decoding')::text")
	var err error
	if s.pool, err = pgxpool.New(context.Background(), s.db.URL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.pool.Close)
	for range 30 {
		s.db.Exec(apptest.RandomTx(rand.New(rand.NewPCG(uint64(first), 0)), s.stamp.Add(1)))
	}
	// Enough rows that the snapshot of the outbox takes several chunks.
	s.db.Exec("insert into outbox select -i, i, 'before ' || i from generate_series(1, 5000) i; analyze outbox")
	defer s.startWriters(uint64(first))()
	s.snapshotCycles()
	for n := first; n < first+cycles && !t.Failed(); n++ {
		if (n-first)%30 == 0 {
			s.loseState(wh)
		}
		s.cycle(n)
		s.done++
	}
	s.checkHits(cycles)
	if 2*s.applied < cycles {
		t.Errorf("only %d of %d cycles had applied transactions since the last kill", s.applied, cycles)
	}
}

// startWriters runs two writers until the returned function is called.
func (s *suite) startWriters(seed uint64) (stop func()) {
	done := make(chan struct{})
	var group sync.WaitGroup
	for i := range 2 {
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
				_, err := s.pool.Exec(
					context.Background(),
					"set deadlock_timeout = 20;"+apptest.RandomTx(r, s.stamp.Add(1)),
				)
				s.writing.RUnlock()
				if err == nil {
					s.committed.Add(1)
				}
				time.Sleep(2 * time.Millisecond) // how often it writes: leaves the machine to the app
			}
		})
	}
	return func() { close(done); group.Wait() }
}

// snapshotCycles crashes at each point of the first start, at which there is no
// checkpoint yet, and then of a reconciling target.
func (s *suite) snapshotCycles() {
	for _, point := range []string{
		failpoint.SlotCreated, failpoint.SnapshotRows, failpoint.SnapshotTable, failpoint.SnapshotSwitch,
		failpoint.SnapshotDone,
	} {
		s.crashAt(s.app, point, 1)
	}
	s.check("the first start")
}

// loseState makes the second app's state anew over the rows that its former one left in
// the target, with a crash while it puts them right.
func (s *suite) loseState(wh *pgservertest.DB) {
	if err := os.RemoveAll(filepath.Join(s.tables.dir, "state")); err != nil {
		s.t.Fatal(err)
	}
	s.crashAt(s.tables, failpoint.SinkReconcile, 1)
	s.writing.Lock()
	defer s.writing.Unlock()
	s.db.Exec("delete from orders where id % 3 = 0") // Rows that have to go from the target.
	c := s.tables.start(s.t, "")
	s.compareSink("after the loss of the state directory", wh)
	if s.t.Failed() {
		c.dump()
		s.t.Logf("log of the app:\n%s", c.log)
	}
	c.kill()
}

// giant is a transaction that is larger than the app's memory and comes in pieces.
func (s *suite) giant(r *rand.Rand) {
	order := r.IntN(120)
	sql := fmt.Sprintf("begin; delete from lines where no >= 1000;"+
		"insert into orders values (%d, 1, 'paid') on conflict do nothing;"+
		"insert into lines select %d, 1000 + i, i from generate_series(1, 40000) i; commit", order, order)
	for {
		_, err := s.pool.Exec(context.Background(), sql)
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
	s.awaitCrash(a.start(s.t, fmt.Sprintf("%s=%s@%d", point, how, hit)), point)
}

func (s *suite) awaitCrash(c *child, point string) {
	s.t.Helper()
	select {
	case <-c.done:
	case <-time.After(30 * time.Second):
		c.dump()
		s.t.Fatalf("the app did not reach %s:\n%s", point, c.log)
	}
	if code := c.cmd.ProcessState.ExitCode(); code != failpoint.ExitStatus {
		s.t.Fatalf("at %s the app ended with status %d:\n%s", point, code, c.log)
	}
}

// cyclePoints are the crash points that cycles go through in turn; the others are
// met by killing at random moments.
var cyclePoints = []string{
	failpoint.Received,
	failpoint.MidTransaction,
	failpoint.BatchSync,
	failpoint.BatchApplied,
	failpoint.BeforeAck,
	failpoint.AfterAck,
	failpoint.SinkApplied,
	failpoint.SinkCommit,
	failpoint.SinkCommitted,
	failpoint.FileWritten,
	failpoint.FileTorn,
	failpoint.JoinerSync,
	failpoint.Joining,
}

// cycle lets the app run, ends it in one of several ways, and compares.
func (s *suite) cycle(n int) {
	r := rand.New(rand.NewPCG(uint64(n), 99))
	before := s.committed.Load()
	switch n % 3 {
	case 0: // at a failpoint
		point, hit := cyclePoints[n/3%len(cyclePoints)], 1+r.IntN(3)
		switch point {
		case failpoint.MidTransaction:
			s.giant(r)
			hit = 1 + r.IntN(2)
		case failpoint.JoinerSync: // at the snapshot's commit, or at the first that follows
			s.app.beside++
			hit = 1 + r.IntN(2)
		case failpoint.Joining:
			s.app.beside++
			hit = 1
		}
		s.crashAt(s.app, point, hit)
	case 1: // at a random moment
		if r.IntN(3) == 0 {
			s.app.beside++
		}
		c := s.app.start(s.t, "")
		time.Sleep(time.Duration(50+r.IntN(900)) * time.Millisecond) // the random moment itself
		c.kill()
	case 2: // after the database server
		points := failpoint.AfterAckServer + "=count;" + failpoint.Reconnect + "=count"
		if n%2 == 0 {
			points = failpoint.AfterAckServer + "=count;" + failpoint.Reconnect + "=exit"
		}
		s.awaitSlot(false) // Its dead predecessor's connection lingers for a moment.
		c := s.app.start(s.t, points)
		if !s.awaitSlot(true) {
			c.dump()
			s.t.Fatalf("the app does not read the log:\n%s", c.log)
		}
		time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond) // a random moment
		s.killServer()
		if n%2 == 0 {
			s.awaitCrash(c, failpoint.Reconnect)
			break
		}
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond) // a random moment
		c.kill()
	}
	when := fmt.Sprintf("cycle %d", n)
	if at := s.checkSlot(when); at > s.caughtUp && s.committed.Load() > before {
		s.applied++
	}
	s.check(when)
}

// awaitSlot waits until a connection reads the app's slot, or none does.
func (s *suite) awaitSlot(active bool) bool {
	return await.Within(30*time.Second, func() bool {
		return s.db.String("select active from pg_replication_slots where slot_name = '"+appSlot+"'") ==
			strconv.FormatBool(active)[:1]
	})
}

func (s *suite) killServer() {
	if err := s.db.Server.Kill(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.db.Server.Restart(context.Background()); err != nil {
		s.t.Fatal(err)
	}
	s.db.Pool.Reset() // its connections died with the server
	s.pool.Reset()
}

// check pauses the writers, starts the app, waits until it has caught up, compares
// everything, and ends it by kill -9.
func (s *suite) check(when string) {
	s.t.Helper()
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.app.start(s.t, "")
	defer func() {
		if c.kill(); s.t.Failed() {
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
	lsn := s.db.String("select pg_logical_emit_message(true, 'checked', '')")
	s.compareViews(when, addr, lsn)
	s.compareSink(when, s.wh)
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
	left := "select count(*) from pg_replication_slots where slot_name like 'tailrace_crash_%' and slot_name <> '" +
		appSlot + "'"
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

// checkSlot looks at the state directory at rest: the slot never confirms more than
// the checkpoint holds, and the directory stays the same one. It returns the checkpoint.
func (s *suite) checkSlot(when string) record.LSN {
	dir, err := state.OpenDir(
		filepath.Join(s.app.dir, "state"),
		state.Identity{App: s.app.name},
		state.Options{},
	)
	if err != nil {
		s.t.Fatalf("%s: %v", when, err)
	}
	defer dir.Close()
	if s.identity != "" && dir.Incarnation() != s.identity {
		s.wipes++
		s.t.Errorf("%s: the state directory was made anew", when)
	}
	s.identity = dir.Incarnation()
	points, err := engine.Checkpoints(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	at, ok := points["shop"]["shop"]
	if !ok {
		return 0
	}
	confirmed, err := record.ParseLSN(s.db.String(
		"select confirmed_flush_lsn from pg_replication_slots where slot_name = '" + appSlot + "'"))
	if err != nil {
		s.t.Fatal(err)
	}
	if uint64(confirmed) > at {
		s.lost++ // at least: the server may have removed it
		s.t.Errorf("%s: the slot confirms %s, the checkpoint holds %s", when, confirmed, record.LSN(at))
	}
	return record.LSN(at)
}

func (s *suite) compareViews(when, addr, lsn string) {
	rows := s.get("http://" + addr + "/views/docs?limit=10000&timeout=30s&wait_for=" + lsn)
	var got [][]string
	for _, row := range rows {
		v := row.Value
		got = append(got, []string{fmt.Sprint(row.Key), v["status"], v["customer"], v["note_len"],
			v["bio_len"], v["lines"], v["cents"]})
	}
	s.same(when+", view docs", got, s.db.Strings(apptest.DocsSQL))
	got = nil
	for _, row := range s.get("http://" + addr + "/views/regions?limit=10000&wait_for=" + lsn) {
		got = append(got, []string{row.Key, row.Value["lines"], row.Value["cents"]})
	}
	s.same(when+", view regions", got, s.db.Strings(apptest.RegionsSQL))
}

// viewRow is a row as HTTP gives it, values as text.
type viewRow struct {
	Key   string
	Value map[string]string
}

func (s *suite) get(url string) []viewRow {
	resp, err := http.Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s: %s: %v", url, resp.Status, body, err)
	}
	var page struct {
		Rows []struct {
			Key   any            `json:"key"`
			Value map[string]any `json:"value"`
		} `json:"rows"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		s.t.Fatal(err)
	}
	var out []viewRow
	for _, row := range page.Rows {
		r := viewRow{Key: asText(row.Key), Value: map[string]string{}}
		for k, v := range row.Value {
			r.Value[k] = asText(v)
		}
		out = append(out, r)
	}
	return out
}

func asText(v any) string {
	switch v := v.(type) {
	case nil:
		return pgservertest.Null
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// compareSink waits until the target's tables equal SQL; what was lost or doubled
// never does. Both of the target's tables come with one transaction.
func (s *suite) compareSink(when string, wh *pgservertest.DB) {
	docs, pairs := s.db.Strings(apptest.DocsSQL), s.db.Strings(apptest.PairsSQL)
	var gotDocs, gotPairs [][]string
	await.Within(30*time.Second, func() bool {
		if wh.String("select to_regclass('docs') is null or to_regclass('pairs') is null") == "t" {
			return false // the target has not been opened yet
		}
		gotDocs = wh.Strings("select key, status, customer, note_len, bio_len, lines, cents from docs order by key")
		gotPairs = wh.Strings("select key, stamp from pairs order by key")
		return slices.EqualFunc(gotDocs, docs, slices.Equal) && slices.EqualFunc(gotPairs, pairs, slices.Equal)
	})
	s.same(when+", sink docs", gotDocs, docs)
	s.same(when+", sink pairs", gotPairs, pairs)
}

// logTx is what a transaction of the log did to the outbox.
type logTx struct {
	end      record.LSN
	inserted map[string]string // what by id
	deleted  []string
}

// readLog takes the log's new transactions.
func (s *suite) readLog() {
	var tx logTx
	for _, row := range s.db.Strings("select lsn, data from pg_logical_slot_get_changes('oracle', null, null, " +
		"'include-xids', '0', 'skip-empty-xacts', '1')") {
		if row[1] == "BEGIN" {
			tx = logTx{inserted: map[string]string{}}
		}
		if row[1] == "COMMIT" {
			end, err := record.ParseLSN(row[0])
			if err != nil {
				s.t.Fatal(err)
			}
			// A slot goes back to where it was last persisted when its server is killed, and
			// gives what came after once more.
			if tx.end = end; len(s.log) == 0 || end > s.log[len(s.log)-1].end {
				s.log = append(s.log, tx)
			}
		}
		if rest, ok := strings.CutPrefix(row[1], "table public.outbox: INSERT: id[bigint]:"); ok {
			id, rest, _ := strings.Cut(rest, " ")
			_, what, _ := strings.Cut(rest, "what[text]:'")
			tx.inserted[id] = strings.TrimSuffix(what, "'")
		}
		if id, ok := strings.CutPrefix(row[1], "table public.outbox: DELETE: id[bigint]:"); ok {
			tx.deleted = append(tx.deleted, id)
		}
	}
}

// demanded are the events that the log demands, given the position of the snapshot:
// the rows that were there, and every insert after it, also of a row that its own
// transaction deleted.
func (s *suite) demanded(snapshot record.LSN) []string {
	var out []string
	for _, tx := range s.log {
		for id, what := range tx.inserted {
			if tx.end > snapshot || !slices.Contains(tx.deleted, id) {
				out = append(out, what)
			}
		}
	}
	return out
}

// compareEvents compares the file with the log: each event once, in commit order.
func (s *suite) compareEvents(when, file string) {
	s.readLog()
	var got, want, lost, doubled []string
	await.Within(10*time.Second, func() bool {
		events, snapshot := s.readEvents(when, file)
		got, want = events, s.demanded(snapshot)
		lost, doubled = difference(want, got), difference(got, want)
		return len(lost)+len(doubled) == 0 || s.t.Failed()
	})
	if len(lost)+len(doubled) > 0 {
		s.lost, s.duplicated = s.lost+len(lost), s.duplicated+len(doubled)
		s.t.Errorf("%s: %s: %d in the file, %d in the log; lost %q, doubled %q",
			when, file, len(got), len(want), lost, doubled)
	}
}

// readEvents returns the file's events and the position of the first, which is the
// snapshot's. The lines' positions never go back, and no id comes twice.
func (s *suite) readEvents(when, file string) (out []string, snapshot record.LSN) {
	f, err := os.Open(filepath.Join(s.app.dir, file))
	if err != nil {
		return nil, 0
	}
	defer f.Close()
	ids := map[string]bool{}
	last := record.LSN(0)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e struct {
			ID, Position string
			Value        struct{ What string }
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			break // the line that is being written
		}
		at, err := record.ParseLSN(e.Position)
		if err != nil || at < last {
			s.torn++
			s.t.Errorf("%s: event %s at %s comes after %s: %v", when, e.ID, e.Position, last, err)
		}
		if last = at; snapshot == 0 {
			snapshot = at
		}
		if ids[e.ID] {
			s.t.Errorf("%s: event %s is in the file twice", when, e.ID)
		}
		ids[e.ID] = true
		out = append(out, e.Value.What)
	}
	return out, snapshot
}

// difference returns what a has more of than b.
func difference(a, b []string) []string {
	count := map[string]int{}
	for _, x := range a {
		count[x]++
	}
	for _, x := range b {
		count[x]--
	}
	maps.DeleteFunc(count, func(_ string, n int) bool { return n <= 0 })
	return slices.Sorted(maps.Keys(count))
}

func (s *suite) same(what string, got, want [][]string) {
	s.t.Helper()
	if !slices.EqualFunc(got, want, slices.Equal) {
		lost, doubled := difference(lines(want), lines(got)), difference(lines(got), lines(want))
		s.lost, s.duplicated = s.lost+len(lost), s.duplicated+len(doubled)
		s.t.Errorf("%s: %d rows, SQL has %d:\n got %v\nwant %v", what, len(got), len(want), got, want)
	}
}

func lines(rows [][]string) []string {
	out := make([]string, len(rows))
	for i, row := range rows {
		out[i] = strings.Join(row, "|")
	}
	return out
}

// checkHits fails where a crash point was never reached.
func (s *suite) checkHits(cycles int) {
	data, err := os.ReadFile(s.app.hits)
	if err != nil {
		s.t.Fatal(err)
	}
	hits := map[string]int{}
	for line := range strings.Lines(string(data)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		hits[name]++
	}
	s.t.Logf("crash points: %v; %d of %d cycles applied transactions", hits, s.applied, cycles)
	if cycles < 3*len(cyclePoints) {
		return // too few cycles to go through all points
	}
	for _, point := range failpoint.Points() {
		if hits[point] == 0 {
			s.t.Errorf("crash point %s was never reached", point)
		}
	}
}
