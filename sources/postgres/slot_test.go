package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// withState is a fixture that has run once: its next open continues.
func withState(t *testing.T, opts ...pgservertest.Option) *fixture {
	t.Helper()
	f := newFixture(t, opts...)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.want("public.t", "id;x")
	f.cfg.SlotWait = 300 * time.Millisecond
	s := f.open()
	m := sourcetest.NewModel(t)
	f.exec("INSERT INTO t VALUES (1, 1)")
	f.readTo(s, m, f.head())
	f.resume(s, m.Position)
	s.Close()
	await.That(t, "the slot is free", func() bool {
		var active bool
		err := f.db.Pool.QueryRow(t.Context(), "SELECT active FROM pg_replication_slots WHERE slot_name = $1", f.cfg.Slot).
			Scan(&active)
		return err == nil && !active
	})
	return f
}

// beginAnew is what `tailrace drop` does, and the loss of the state directory.
func (f *fixture) beginAnew() {
	f.t.Helper()
	if err := postgres.Source(f.cfg).
		Drop(f.t.Context(), sources.DropRequest{App: "app", Database: "shop"}); err != nil {
		f.t.Fatal(err)
	}
	f.req.Resume, f.req.System, f.published = 0, "", nil
}

var slotSQL = regexp.MustCompile(`SELECT pg_(drop_replication_slot|terminate_backend)\([^)]*\);`)

// Every state of the slot that cannot go on has its name and remedy, and goes on, or begins
// anew, once that was applied: sql says that the message has SQL, which is run first.
func TestSlotStates(t *testing.T) {
	t.Parallel()
	anew := (*fixture).beginAnew
	const tellsAnew = "run tailrace drop (App.Destroy), remove the state directory and begin with a new snapshot"
	const tellsEvents = "topologies with an Outbox then put out the rows that their tables still hold once more"
	gap := func(kind error) []error { return []error{kind, sources.ErrDataGap} }
	foreign := []error{postgres.ErrSlotForeign, sources.ErrConfig}
	var second sources.Session
	var taken *sourcetest.Model // by the second
	for _, c := range []struct {
		name string
		do   func(f *fixture)
		kind []error
		says []string
		sql  bool
		mend func(f *fixture)
	}{
		{"missing", func(f *fixture) { f.exec("SELECT pg_drop_replication_slot($1)", f.cfg.Slot) },
			gap(postgres.ErrSlotMissing), []string{tellsAnew, tellsEvents}, false, anew},
		{"ahead", func(f *fixture) {
			f.exec("INSERT INTO t VALUES (2, 2)")
			f.exec("SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())", f.cfg.Slot)
		}, gap(postgres.ErrSlotAhead), []string{"has been confirmed up to", tellsAnew}, true, anew},
		{"other plugin", func(f *fixture) {
			f.exec("SELECT pg_drop_replication_slot($1)", f.cfg.Slot)
			f.exec("SELECT pg_create_logical_replication_slot($1, 'test_decoding')", f.cfg.Slot)
		}, foreign, []string{`plugin "test_decoding"`, tellsAnew}, true, anew},
		{"physical", func(f *fixture) {
			f.exec("SELECT pg_drop_replication_slot($1)", f.cfg.Slot)
			f.exec("SELECT pg_create_physical_replication_slot($1)", f.cfg.Slot)
		}, foreign, []string{"physical", tellsAnew}, true, anew},
		{"other database", func(f *fixture) {
			g := newFixture(f.t)
			f.exec("SELECT pg_drop_replication_slot($1)", f.cfg.Slot)
			g.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", f.cfg.Slot)
		}, foreign, []string{"belongs to database", tellsAnew}, true, anew},
		{"went back", func(f *fixture) { f.req.Resume += 1 << 40 },
			[]error{sources.ErrWrongSystem}, []string{"restored from a backup", tellsAnew}, false, anew},
		{"another system", func(f *fixture) { f.req.System = "7000000000000000000/" + f.db.Name },
			[]error{sources.ErrWrongSystem},
			[]string{"7000000000000000000/", "connect to the former, or " + tellsAnew}, false, anew},
		{"publication missing", func(f *fixture) { f.exec("DROP PUBLICATION " + f.cfg.Slot) },
			gap(postgres.ErrPublicationMissing), []string{"was not published", tellsAnew}, false, anew},
		{"in use", func(f *fixture) {
			g := *f
			second, taken = g.open(), sourcetest.NewModel(f.t)
			g.readUntil(second, taken, func() bool {
				// Not by opening another session, which might get the slot first.
				return f.db.String("SELECT active FROM pg_replication_slots WHERE slot_name = '"+f.cfg.Slot+"'") == "t"
			})
		}, []error{sources.ErrInUse}, []string{"stop the other instance of this app"}, true,
			func(f *fixture) {
				second.Close() // which has acknowledged what others wrote meanwhile
				f.req.Resume = max(f.req.Resume, taken.Position)
			}},
		{"foreign orphan", func(f *fixture) {
			f.req.Resume, f.req.System, f.published = 0, "", nil
			f.cfg.Slot = "other_" + f.db.Name
			f.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", f.cfg.Slot)
		}, foreign, []string{"nothing shows that this app made it", "set Config.Slot to another name"}, true,
			func(*fixture) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := withState(t)
			c.do(f)
			_, err := f.tryOpen()
			for _, kind := range c.kind {
				if !errors.Is(err, kind) {
					t.Errorf("error is %v, want %v", err, kind)
				}
			}
			for _, says := range c.says {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("error doesn't say %q: %v", says, err)
				}
			}
			if sql := slotSQL.FindString(fmt.Sprint(err)); (sql != "") != c.sql {
				t.Errorf("error has the SQL %q: %v", sql, err)
			} else if sql != "" {
				f.exec(sql)
			}
			c.mend(f)
			f.cfg.SlotWait = 10 * time.Second
			f.exec("INSERT INTO t VALUES (3, 3)")
			s, m := f.open(), sourcetest.NewModel(t)
			if f.req.Resume != 0 { // It goes on from the row that withState has read.
				m.Tables["public.t"] = map[string]map[string]string{"1|": {"id": "1", "x": "1"}}
			}
			f.readTo(s, m, f.head())
			f.same(m, "public.t", "id", "x")
		})
	}
}

// Too much retained log is told, or ends the session, by policy, and a slot that lost its
// log is named.
func TestRetainedWAL(t *testing.T) {
	t.Parallel()
	f := withState(t, pgservertest.Private(map[string]string{"fsync": "off", "max_slot_wal_keep_size": "1MB",
		"min_wal_size": "32MB", "max_wal_size": "32MB"}))
	f.exec("CREATE TABLE noise (x text)")
	noise := func() { f.exec("INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 2000)") }

	// The default: it warns, once in a while, and goes on.
	f.cfg.MaxRetainedWAL, f.cfg.MonitorInterval = 1<<20, 20*time.Millisecond
	before, lines := f.req.Logger, make(chan string, 100)
	f.req.Logger = slog.New(slog.NewTextHandler(lineWriter(lines), nil))
	s := f.open()
	noise()
	told := func(line string) bool {
		return strings.Contains(line, "level=WARN") && strings.Contains(line, "MaxRetainedWAL")
	}
	for line := <-lines; !told(line); line = <-lines {
		continue
	}
	f.exec("INSERT INTO t VALUES (2, 2)")
	m := sourcetest.NewModel(t)
	m.Tables["public.t"] = map[string]map[string]string{"1|": {"id": "1", "x": "1"}}
	f.readTo(s, m, f.head())
	f.same(m, "public.t", "id", "x")
	head := f.head()
	await.That(t, "the monitor has looked again", func() bool {
		f.obs.mu.Lock()
		defer f.obs.mu.Unlock()
		return f.obs.head >= head
	})
	f.resume(s, m.Position)
	s.Close()
	for len(lines) > 0 {
		if line := <-lines; told(line) {
			t.Errorf("it is told again: %s", line)
		}
	}
	f.req.Logger = before

	f.cfg.RetainedPolicy = postgres.RetainedStop
	s = f.open()
	noise()
	if err := f.readError(s); !errors.Is(err, postgres.ErrRetainedWAL) || errors.Is(err, sources.ErrDataGap) {
		t.Errorf("policy stop: %v", err)
	}
	s.Close()
	if f.obs.retained < 1<<20 || f.obs.head == 0 {
		t.Errorf("observed lag of %d bytes at %d", f.obs.retained, f.obs.head)
	}
	f.cfg.MaxRetainedWAL = 0
	for range 10 {
		noise()
		f.exec("SELECT pg_switch_wal()")
	}
	f.exec("CHECKPOINT")
	_, err := f.tryOpen()
	if !errors.Is(err, postgres.ErrSlotLost) || !errors.Is(err, sources.ErrDataGap) ||
		!strings.Contains(err.Error(), "SELECT pg_drop_replication_slot('"+f.cfg.Slot+"')") {
		t.Errorf("lost: %v", err)
	}
	// The remedy: without state the slot is made anew.
	f.req.Resume, f.req.System = 0, ""
	f.cfg.MaxRetainedWAL, f.cfg.RetainedPolicy, f.cfg.SlotWait = 1<<20, postgres.RetainedDrop, 10*time.Second
	s = f.open()
	f.readUntil(s, sourcetest.NewModel(t), func() bool { return true })
	noise()
	if err := f.readError(s); !errors.Is(err, postgres.ErrRetainedWAL) || !errors.Is(err, sources.ErrDataGap) {
		t.Errorf("policy drop: %v", err)
	}
	await.That(t, "the slot is gone", func() bool {
		var n int
		err := f.db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots").Scan(&n)
		return err == nil && n == 0
	})
}

// A start that ended between the slot and the first state leaves a slot that the next
// start replaces; one that is at its snapshot cannot be robbed of it.
func TestOrphanSlot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.exec("INSERT INTO t SELECT i, 0 FROM generate_series(1, 5000) i")
	f.want("public.t", "id;x")
	f.cfg.SlotWait = 200 * time.Millisecond
	f.cfg.SnapshotRateLimit = 500 // The snapshot lasts.
	f.cfg.SnapshotChunkRows = 100
	s := f.open()
	m := sourcetest.NewModel(t)
	f.readUntil(s, m, func() bool { return m.Snapshot > 0 })
	if _, err := f.tryOpen(); !errors.Is(err, sources.ErrInUse) {
		t.Errorf("second start: %v", err)
	}
	if err := postgres.Source(f.cfg).
		Drop(t.Context(), sources.DropRequest{App: "app", Database: "shop"}); !errors.Is(
		err,
		sources.ErrInUse,
	) {
		t.Errorf("drop: %v", err)
	}
	s.Close() // In the snapshot: there is a slot and no state.
	f.cfg.SnapshotRateLimit = 0
	f.exec("UPDATE t SET x = 1")
	s = f.open()
	m = sourcetest.NewModel(t)
	f.readTo(s, m, f.head())
	f.same(m, "public.t", "id", "x")
	if m.Snapshot != 5000 {
		t.Errorf("snapshot of %d rows", m.Snapshot)
	}
}

// A table that is emptied or rewritten between the slot's snapshot and our lock looks
// empty to that snapshot: the snapshot begins again.
func TestRewriteDuringSlotCreation(t *testing.T) {
	f := newFixture(t) // Not parallel: the failpoint is the process's.
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.exec("INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) i")
	f.want("public.t", "id;x")
	rewrites := []string{"ALTER TABLE t ALTER x TYPE bigint", "VACUUM FULL t"}
	off := failpoint.Set(failpoint.SlotCreated, func(hit int) error {
		if hit <= len(rewrites) {
			f.exec(rewrites[hit-1])
		}
		return nil
	})
	s := f.open()
	off()
	m := sourcetest.NewModel(t)
	f.readTo(s, m, f.head())
	if m.Snapshot != 100 {
		t.Errorf("snapshot of %d rows, want 100", m.Snapshot)
	}
	f.same(m, "public.t", "id", "x")
}

// The snapshot reports its progress and keeps its rate.
func TestSnapshotRate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.exec("INSERT INTO t SELECT i, 0 FROM generate_series(1, 3000) i; ANALYZE t")
	f.want("public.t", "id;x")
	f.cfg.SnapshotRateLimit, f.cfg.SnapshotChunkRows = 3000, 300
	start := time.Now()
	s := f.open()
	m := sourcetest.NewModel(t)
	f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
	if d := time.Since(start); d < 900*time.Millisecond {
		t.Errorf("3000 rows in %s at 3000 rows/s", d)
	}
	f.obs.mu.Lock()
	defer f.obs.mu.Unlock()
	if f.obs.rows["public.t"] != 3000 {
		t.Errorf("progress is %v", f.obs.rows)
	}
}

// A session whose reader has gone away ends without leaving anything running, at any
// moment of its life.
func TestCloseAnytime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.exec("INSERT INTO t SELECT i, 0 FROM generate_series(1, 20000) i")
	f.want("public.t", "id;x")
	f.cfg.SnapshotChunkRows = 500
	for i := range 8 {
		s := f.open()
		m := sourcetest.NewModel(t)
		f.readUntil(s, m, func() bool { return m.Snapshot >= i*2500 || len(m.Commits) > 0 })
		done := make(chan error, 1)
		go func() { done <- s.Close() }()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("Close hangs")
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(fmt.Errorf("enough"))
		if _, err := s.Next(ctx); err == nil {
			t.Error("Next on a context that is done")
		}
	}
	await.That(t, "all connections are gone", func() bool {
		var n int
		err := f.db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tailrace' AND datname = $1", f.db.Name).
			Scan(&n)
		return err == nil && n == 0
	})
}

// lockers returns how many sessions of the application wait for a lock.
func (f *fixture) lockers() int {
	f.t.Helper()
	var n int
	err := f.db.Pool.QueryRow(f.t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
		AND wait_event_type = 'Lock' AND application_name <> 'tailrace'`).
		Scan(&n)
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// An application that wants to empty tables in the middle of the snapshot waits for its
// end, and the snapshot does not wait for the application.
func TestTruncateDuringSnapshot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, name := range []string{"a", "b", "c"} {
		f.exec("CREATE TABLE " + name + " (id int PRIMARY KEY, x int)")
		f.exec("INSERT INTO " + name + " SELECT i, 0 FROM generate_series(1, 3000) i; ANALYZE " + name)
		f.want("public."+name, "id;x")
	}
	f.cfg.SnapshotChunkRows = 300
	s := f.open()
	m := sourcetest.NewModel(t)
	f.readUntil(s, m, func() bool { return m.Snapshot > 0 })
	truncated := make(chan error, 1)
	go func() {
		_, err := f.db.Pool.Exec(t.Context(), "TRUNCATE c, b, a")
		truncated <- err
	}()
	await.That(t, "the application waits", func() bool { return f.lockers() == 1 })
	f.readUntil(s, m, func() bool { return len(m.Commits) > 0 })
	if m.Snapshot != 9000 {
		t.Errorf("snapshot of %d rows", m.Snapshot)
	}
	if err := <-truncated; err != nil {
		t.Errorf("the application's TRUNCATE: %v", err)
	}
	f.readTo(s, m, f.head())
	for _, name := range []string{"a", "b", "c"} {
		f.same(m, "public."+name, "id", "x")
	}
}

// An application that holds one table and asks for another while the snapshot locks
// them gets both: it is the snapshot that steps back, and begins again.
func TestTruncateWhileLocking(t *testing.T) {
	f := newFixture(t) // Not parallel: the failpoint is the process's.
	for _, name := range []string{"a", "b"} {
		f.exec("CREATE TABLE " + name + " (id int PRIMARY KEY, x int)")
		f.exec("INSERT INTO " + name + " SELECT i, 0 FROM generate_series(1, 10) i")
		f.want("public."+name, "id;x")
	}
	held, truncated := make(chan error, 1), make(chan error, 1)
	defer failpoint.Set(failpoint.SlotCreated, func(hit int) error {
		if hit > 1 {
			return nil
		}
		tx, err := f.db.Pool.Begin(t.Context())
		if err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), "TRUNCATE b"); err != nil {
			return err
		}
		go func() {
			// Once the snapshot has a, and waits for b.
			_, err := f.db.Pool.Exec(t.Context(), `DO $$ BEGIN
				WHILE NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'b'::regclass AND NOT granted) LOOP
					PERFORM pg_sleep(0.001);
				END LOOP; END $$`)
			held <- err
			_, err = tx.Exec(t.Context(), "TRUNCATE a; INSERT INTO a VALUES (77, 7)")
			truncated <- errors.Join(err, tx.Commit(t.Context()))
		}()
		return nil
	})()
	s := f.open()
	for _, err := range []error{<-held, <-truncated} {
		if err != nil {
			t.Errorf("the application's transaction: %v", err)
		}
	}
	m := sourcetest.NewModel(t)
	f.readTo(s, m, f.head())
	if m.Snapshot != 1 {
		t.Errorf("snapshot of %d rows, want the one of after the application's transaction", m.Snapshot)
	}
	f.same(m, "public.a", "id", "x")
	f.same(m, "public.b", "id", "x")
}

// A reader that is lost while an application waits to empty the tables cannot lock
// them again: that ends the snapshot, with an error that says so.
func TestReaderLostBehindTruncate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.exec("INSERT INTO t SELECT i, 0 FROM generate_series(1, 5000) i; ANALYZE t")
	f.want("public.t", "id;x")
	f.cfg.SnapshotChunkRows, f.cfg.SnapshotRateLimit = 100, 5000
	f.cfg.SlotWait = time.Second
	s := f.open()
	m := sourcetest.NewModel(t)
	f.readUntil(s, m, func() bool { return m.Snapshot > 0 })
	truncated := make(chan error, 1)
	go func() {
		_, err := f.db.Pool.Exec(t.Context(), "TRUNCATE t")
		truncated <- err
	}()
	await.That(t, "the application waits", func() bool { return f.lockers() == 1 })
	f.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
		AND application_name = 'tailrace' AND query LIKE 'COPY%'`)
	if err := f.readError(s); err == nil || !strings.Contains(err.Error(), "cannot be locked again") {
		t.Errorf("the snapshot ended with: %v", err)
	}
	if err := <-truncated; err != nil {
		t.Errorf("the application's TRUNCATE: %v", err)
	}
}

// A second instance says at once whom it waits for.
func TestSecondInstanceSaysWhomItWaitsFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.want("public.t", "id;x")
	s := f.open()
	m := sourcetest.NewModel(t)
	f.exec("INSERT INTO t VALUES (1, 1)")
	f.readTo(s, m, f.head())
	f.resume(s, m.Position)
	lines := make(chan string, 100)
	f.req.Logger = slog.New(slog.NewTextHandler(lineWriter(lines), nil))
	f.cfg.SlotWait = time.Minute
	told := make(waits, 100)
	f.req.Observe = told
	opened := make(chan error, 1)
	go func() {
		second, err := postgres.Source(f.cfg).Open(t.Context(), f.req)
		if err == nil {
			err = second.Close()
		}
		opened <- err
	}()
	for {
		select {
		case line := <-lines:
			if strings.Contains(line, "in use") && strings.Contains(line, "pid=") &&
				strings.Contains(line, "application_name=tailrace") && strings.Contains(line, "client=127") {
				holder := f.db.String("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '" + f.cfg.Slot + "'")
				err := <-told
				if !errors.Is(err, sources.ErrInUse) || !strings.Contains(err.Error(), "process "+holder+",") ||
					!strings.Contains(err.Error(), "application_name tailrace") {
					t.Errorf("the observer is told %v, the slot is held by %s", err, holder)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				if err := <-opened; err != nil {
					t.Error(err)
				}
				return
			}
		case err := <-opened:
			t.Fatalf("it has opened: %v", err)
		case <-time.After(20 * time.Second):
			t.Fatal("it says nothing")
		}
	}
}

// waits observes whom an Open waits for.
type waits chan error

func (waits) SnapshotProgress(string, int64, int64) {}
func (waits) Lag(uint64, int64)                     {}
func (waits) Disconnected(error)                    {}
func (waits) Reconnected(error)                     {}
func (w waits) Waiting(cause error)                 { w <- cause }

type lineWriter chan string

func (w lineWriter) Write(p []byte) (int, error) {
	select {
	case w <- string(p):
	default:
	}
	return len(p), nil
}
