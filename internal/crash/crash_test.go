// Package crash kills a running app, and the database under it, over and over, and
// compares what it shows with SQL and with the log after each restart.
package crash

import (
	"bufio"
	"context"
	"encoding/json"
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

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tailrace/tailrace/internal/apptest"
	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

func TestMain(m *testing.M) {
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
	db, wh    *pgservertest.DB
	pool      *pgxpool.Pool // for writers, whose errors are expected
	app, dir  string
	stamp     atomic.Int64
	writing   sync.RWMutex // held for writing while the writers pause
	committed atomic.Int64
	applied   int // cycles in which transactions were applied since the last kill
	hits      map[string]int
	log       []logTx
	identity  string
	wipes     int
}

// TestCrash kills the app in each cycle and the database in some. Its closing line
// says what was lost, doubled or torn; a run that misses a crash point fails.
// TAILRACE_CRASH_CYCLES and TAILRACE_CRASH_FIRST choose the cycles.
func TestCrash(t *testing.T) {
	cycles, first := setting("TAILRACE_CRASH_CYCLES", 60), setting("TAILRACE_CRASH_FIRST", 1)
	s := &suite{
		t: t, app: "crash", dir: t.TempDir(), hits: map[string]int{},
		db: pgservertest.New(t, pgservertest.Private(nil)), wh: pgservertest.New(t),
	}
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
	stop := s.startWriters(uint64(first))
	s.snapshotCycles()
	for n := first; n < first+cycles && !t.Failed(); n++ {
		s.cycle(n)
	}
	stop()
	s.checkHits(cycles)
	if 2*s.applied < cycles {
		t.Errorf("only %d of %d cycles had applied transactions since the last kill", s.applied, cycles)
	}
	if !t.Failed() {
		fmt.Printf("cycles %d, lost 0, duplicated 0, torn 0, wipes %d\n", cycles, s.wipes)
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
				_, err := s.pool.Exec(context.Background(), "set deadlock_timeout = 20;"+apptest.RandomTx(r, s.stamp.Add(1)))
				s.writing.RUnlock()
				if err == nil {
					s.committed.Add(1)
				}
				time.Sleep(2 * time.Millisecond) // leaves the machine to the app
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
		s.crashAt(point, 1)
	}
	s.check("the first start")
}

// crashAt starts the app with a failpoint and waits until it has ended there.
func (s *suite) crashAt(point string, hit int) {
	s.t.Helper()
	c := startChild(s.t, s.app, s.dir, s.db.URL, s.wh.URL, fmt.Sprintf("%s=exit@%d", point, hit))
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
	failpoint.Received, failpoint.BatchSync, failpoint.BeforeAck, failpoint.AfterAck,
	failpoint.SinkApplied, failpoint.SinkCommit, failpoint.SinkCommitted,
	failpoint.FileWritten, failpoint.FileTorn,
}

// cycle lets the app run, ends it in one of several ways, and compares.
func (s *suite) cycle(n int) {
	r := rand.New(rand.NewPCG(uint64(n), 99))
	before := s.committed.Load()
	switch n % 3 {
	case 0: // at a failpoint
		s.crashAt(cyclePoints[n/3%len(cyclePoints)], 1+r.IntN(3))
	case 1: // at a random moment
		c := startChild(s.t, s.app, s.dir, s.db.URL, s.wh.URL, "")
		time.Sleep(time.Duration(50+r.IntN(900)) * time.Millisecond)
		c.kill()
	case 2: // the database server, and the app sometimes
		c := startChild(s.t, s.app, s.dir, s.db.URL, s.wh.URL, failpoint.AfterAckServer+"=count;"+failpoint.Reconnect+"=count")
		time.Sleep(time.Duration(300+r.IntN(500)) * time.Millisecond)
		if n%2 == 0 {
			s.killServer()
			time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		}
		c.kill()
	}
	if s.committed.Load() > before {
		s.applied++
	}
	s.check(fmt.Sprintf("cycle %d", n))
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
	s.checkSlot(when)
	s.writing.Lock()
	defer s.writing.Unlock()
	c := startChild(s.t, s.app, s.dir, s.db.URL, s.wh.URL, failpoint.Reconnect+"=count")
	defer c.kill()
	var addr string
	select {
	case addr = <-c.ready:
	case <-c.done:
		s.t.Fatalf("%s: the app does not start again:\n%s", when, c.log)
	case <-time.After(60 * time.Second):
		c.dump()
		s.t.Fatalf("%s: the app is not ready after 60 s:\n%s", when, c.log)
	}
	lsn := s.db.String("select pg_current_wal_lsn()")
	s.compareViews(when, addr, lsn)
	s.compareSink(when)
	s.compareEvents(when)
	if s.t.Failed() {
		c.dump()
		s.t.Logf("log of the app:\n%s", c.log)
	}
}

// checkSlot looks at the state directory at rest: the slot never confirms more than
// the checkpoint holds, and the directory stays the same one.
func (s *suite) checkSlot(when string) {
	dir, err := state.OpenDir(filepath.Join(s.dir, "state"), state.Identity{App: s.app}, state.Options{})
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
		return
	}
	confirmed, err := record.ParseLSN(s.db.String(
		"select confirmed_flush_lsn from pg_replication_slots where plugin = 'pgoutput'"))
	if err != nil {
		s.t.Fatal(err)
	}
	if uint64(confirmed) > at {
		s.t.Errorf("%s: the slot confirms %s, the checkpoint holds %s", when, confirmed, record.LSN(at))
	}
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
// never does.
func (s *suite) compareSink(when string) {
	want := s.db.Strings(apptest.DocsSQL)
	deadline := time.Now().Add(30 * time.Second)
	var got [][]string
	for time.Now().Before(deadline) {
		if s.wh.String("select to_regclass('docs') is null") == "t" {
			time.Sleep(10 * time.Millisecond) // the target has not been opened yet
			continue
		}
		got = s.wh.Strings("select key, status, customer, note_len, bio_len, lines, cents from docs order by key")
		if slices.EqualFunc(got, want, slices.Equal) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.same(when+", sink docs", got, want)
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
func (s *suite) compareEvents(when string) {
	s.readLog()
	deadline := time.Now().Add(10 * time.Second)
	for {
		got, snapshot := s.readEvents(when)
		want := s.demanded(snapshot)
		lost, doubled := difference(want, got), difference(got, want)
		if len(lost)+len(doubled) == 0 {
			return
		}
		if time.Now().After(deadline) || s.t.Failed() {
			if d := os.Getenv("TAILRACE_CRASH_KEEP"); d != "" {
				_ = os.CopyFS(d, os.DirFS(s.dir))
				for _, tx := range s.log {
					for _, w := range tx.inserted {
						fmt.Println("LOG", tx.end, w)
					}
				}
			}
			s.t.Errorf("%s: events: %d in the file, %d in the log; lost %q, doubled %q",
				when, len(got), len(want), lost, doubled)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// readEvents returns the file's events and the position of the first, which is the
// snapshot's. The lines' positions never go back, and no id comes twice.
func (s *suite) readEvents(when string) (out []string, snapshot record.LSN) {
	f, err := os.Open(filepath.Join(s.dir, "events.jsonl"))
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
		s.t.Errorf("%s: %d rows, SQL has %d:\n got %v\nwant %v", what, len(got), len(want), got, want)
	}
}

// checkHits fails where a crash point was never reached.
func (s *suite) checkHits(cycles int) {
	data, err := os.ReadFile(filepath.Join(s.dir, "hits"))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		s.hits[name]++
	}
	s.t.Logf("crash points: %v", s.hits)
	if cycles < 3*len(cyclePoints) {
		return // too few cycles to go through all points
	}
	for _, point := range append(slices.Clone(cyclePoints), failpoint.SlotCreated, failpoint.SnapshotRows,
		failpoint.SnapshotTable, failpoint.SnapshotSwitch, failpoint.SnapshotDone,
		failpoint.AfterAckServer, failpoint.Reconnect) {
		if s.hits[point] == 0 {
			s.t.Errorf("crash point %s was never reached", point)
		}
	}
}
