package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// writers change rows of table t until stopped, each on keys of its own, and count.
func (f *fixture) writers(n int) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for w := range n {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(w)))
			for ctx.Err() == nil {
				id := w*1_000_000 + rng.IntN(2000)
				var err error
				switch rng.IntN(5) {
				case 0, 1:
					_, err = f.db.Pool.Exec(
						ctx,
						"INSERT INTO t VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET x = EXCLUDED.x",
						id,
						rng.IntN(1000),
					)
				case 2:
					_, err = f.db.Pool.Exec(ctx, "UPDATE t SET x = x + 1 WHERE id BETWEEN $1 AND $1 + 20", id)
				case 3:
					_, err = f.db.Pool.Exec(ctx, "DELETE FROM t WHERE id = $1", id)
				case 4:
					_, err = f.db.Pool.Exec(
						ctx,
						"UPDATE t SET id = id + 500000 WHERE id = $1 AND NOT EXISTS (SELECT FROM t WHERE id = $1 + 500000)",
						id,
					)
				}
				if err == nil {
					mu.Lock()
					total++
					mu.Unlock()
				}
			}
		})
	}
	return func() int {
		cancel()
		wg.Wait()
		return total
	}
}

// A server that is killed again and again: nothing is lost, nothing comes twice, and
// the slot is never ahead of what was acknowledged.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgservertest.Private(map[string]string{"fsync": "on"}))
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.want("public.t", "id;x")
	s := f.open()
	m := sourcetest.NewModel(t)
	for range 3 {
		stop := f.writers(2)
		n := len(m.Commits)
		f.readUntil(s, m, func() bool { return len(m.Commits) > n+50 })
		before := f.obs.count()
		if err := f.db.Server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := f.db.Server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		n = len(m.Commits)
		f.readUntil(s, m, func() bool { return len(m.Commits) > n+20 })
		stop()
		f.db.Pool.Reset()
		f.readTo(s, m, f.head())
		if c := f.confirmed(); c > m.Position {
			t.Errorf("the slot is at %s, we have acknowledged %s", record.LSN(c), record.LSN(m.Position))
		}
		if f.obs.count() == before {
			t.Error("no reconnect was counted")
		}
	}
	// A writer that was stopped in the middle of a commit may still commit.
	await.That(t, "nobody writes", func() bool {
		return f.db.String("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "+
			"AND state <> 'idle' AND pid <> pg_backend_pid()") == "0"
	})
	f.readTo(s, m, f.head())
	f.same(m, "public.t", "id", "x")
}

// The connection is cut in the snapshot, and where transactions are handed over in pieces.
func TestConnectionCut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	proxy, err := faultproxy.New(f.db.Server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int, pad text)")
	f.exec("INSERT INTO t SELECT i, 0, repeat('p', 100) FROM generate_series(1, 20000) i")
	f.cfg.URL = through(f.db.URL, proxy.Addr())
	f.cfg.SnapshotChunkRows = 2000
	f.cfg.MonitorInterval = time.Hour // Its bytes would blur where the cut is.
	f.want("public.t", "id;x,pad")
	s := f.open()
	m := sourcetest.NewModel(t)
	// In the snapshot: the reader repeats its chunk.
	for i := 1; i <= 3; i++ {
		proxy.CutAfter(faultproxy.ToClient, i*77_777)
		n := m.Snapshot
		f.readUntil(s, m, func() bool { return m.Snapshot > n+3000 || len(m.Commits) > 0 })
	}
	f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
	if m.Snapshot != 20_000 {
		t.Fatalf("snapshot of %d rows", m.Snapshot)
	}
	if f.obs.count() == 0 {
		t.Error("no cut hit the snapshot")
	}
	// Others that are at work still would take the first cut from the stream's connection.
	await.That(t, "the snapshot's connections end", func() bool {
		return f.db.String("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tailrace' "+
			"AND datname = current_database() AND backend_type = 'client backend' AND state <> 'idle'") == "0"
	})
	// In the stream: transactions of 1 to 25,000 rows, of which the large one is
	// partly handed over when the cut comes.
	id := 100_000
	for round, cut := range []int{4_000, 2_000_000, 1_700_000, 2_222_222} {
		before := f.obs.count()
		proxy.CutAfter(faultproxy.ToClient, cut)
		if round%3 == 1 {
			proxy.CutAfter(faultproxy.ToServer, cut%200+1)
		}
		sizes := []int{1, 10, 100}
		if cut > 10_000 {
			sizes = []int{1, 25_000, 1}
		}
		for _, n := range sizes {
			f.exec("INSERT INTO t SELECT $1 + i, 0, repeat('p', 50) FROM generate_series(1, $2::int) i", id, n)
			f.exec("UPDATE t SET x = x + 1 WHERE id = $1", id+1)
			id += n + 1
		}
		f.readTo(s, m, f.head())
		if f.obs.count() == before && round%3 != 1 {
			t.Errorf("the cut after %d bytes was not noticed", cut)
		}
	}
	f.same(m, "public.t", "id", "x", "pad")
}

// Without a connection for a while, and with one that hangs: the session goes on where
// it was.
func TestConnectionRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	proxy, err := faultproxy.New(f.db.Server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.cfg.URL = through(f.db.URL, proxy.Addr())
	f.want("public.t", "id;x")
	s := f.open()
	m := sourcetest.NewModel(t)
	f.exec("INSERT INTO t VALUES (1, 1)")
	f.readTo(s, m, f.head())
	proxy.Refuse(true)
	proxy.Cut()
	f.exec("INSERT INTO t VALUES (2, 2)")
	await.That(t, "several attempts", func() bool { return f.obs.count() >= 3 })
	if n := f.obs.back(); n != 0 {
		t.Errorf("%d connections are said to be there again, and none is", n)
	}
	proxy.Refuse(false)
	f.readTo(s, m, f.head())
	if n := f.obs.back(); n != 1 {
		t.Errorf("%d losses are said to be mended, and one was", n)
	}
	f.same(m, "public.t", "id", "x")
	// Close ends even a session whose server says nothing any more.
	proxy.Blackhole(true)
	start := time.Now()
	s.Close()
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("Close took %s", d)
	}
	// What had arrived before comes first, the frontier for one.
	if err := f.readError(s); !errors.Is(err, postgres.ErrClosed) {
		t.Errorf("Next after Close: %v", err)
	}
}

// A stream ends, with an error that says what to do, where a transaction cannot be kept aside
// over several connections.
func TestNoRoomForAnOpenTransaction(t *testing.T) {
	t.Parallel()
	f := newFixture(
		t,
		pgservertest.Private(map[string]string{"logical_decoding_work_mem": "64kB", "fsync": "off"}),
	)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, pad text)")
	f.cfg.Streaming, f.cfg.StreamMemory, f.cfg.TempDir = true, 50_000, filepath.Join(t.TempDir(), "gone")
	f.want("public.t", "id;pad")
	s := f.open()
	f.exec("INSERT INTO t SELECT i, repeat('p', 100) FROM generate_series(1, 5000) i")
	if err := f.readError(s); !errors.Is(err, postgres.ErrTempDir) {
		t.Errorf("got %v", err)
	}
	if n := f.obs.count(); n != 2 {
		t.Errorf("it was tried again %d times", n)
	}
}

// Large transactions streamed before their commit, interleaved, with rolled back
// savepoints and as a whole rolled back, in memory and in files: only what committed
// arrives, in commit order.
func TestStreamedTransactions(t *testing.T) {
	t.Parallel()
	for _, memory := range []int64{64 << 20, 50_000} {
		t.Run(fmt.Sprint(memory), func(t *testing.T) {
			t.Parallel()
			f := newFixture(
				t,
				pgservertest.Private(map[string]string{"logical_decoding_work_mem": "64kB", "fsync": "off"}),
			)
			f.exec("CREATE TABLE t (id int PRIMARY KEY, x int, pad text)")
			f.exec("CREATE TABLE other (id int PRIMARY KEY, x int)")
			f.cfg.Streaming, f.cfg.StreamMemory, f.cfg.TempDir = true, memory, t.TempDir()
			f.want("public.t", "id;x,pad").want("public.other", "id;x")
			s := f.open()
			m := sourcetest.NewModel(t)
			f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
			ctx := t.Context()
			const open = 3 // The pool has one more.
			txs := make([]interface {
				Commit(context.Context) error
				Rollback(context.Context) error
			}, open)
			conns := make([]func(string, ...any), open)
			for i := range open {
				tx, err := f.db.Pool.Begin(ctx)
				if err != nil {
					t.Fatal(err)
				}
				txs[i] = tx
				conns[i] = func(sql string, args ...any) {
					t.Helper()
					if _, err := tx.Exec(ctx, sql, args...); err != nil {
						t.Fatal(err)
					}
				}
			}
			insert := "INSERT INTO t SELECT $1::int + i, 0, repeat('p', 100) FROM generate_series(1, $2::int) i"
			for part := range 3 {
				for i := range open {
					base := i*100_000 + part*10_000
					conns[i](insert, base, 1500)
					conns[i]("SAVEPOINT a")
					conns[i](insert, base+2000, 1500)
					conns[i]("SAVEPOINT b")
					conns[i](insert, base+4000, 1500)
					if part == 1 {
						conns[i]("INSERT INTO other VALUES ($1, 1)", base) // First described in a part rolled back.
						conns[i]("ROLLBACK TO b")
						conns[i](insert, base+6000, 100)
					}
					if part == 2 {
						if i == 0 {
							conns[i]("RELEASE b") // which is a's then
						}
						conns[i]("ROLLBACK TO a")
						conns[i]("INSERT INTO other VALUES ($1, 2)", base)
					}
					conns[i]("UPDATE t SET x = x + 1 WHERE id BETWEEN $1 AND $1 + 9999", base)
					f.exec("INSERT INTO t VALUES ($1, 5, 'small')", 1_000_000+base)
				}
			}
			if files, _ := os.ReadDir(f.cfg.TempDir); len(files) > 0 {
				t.Errorf("%d temporary files have names", len(files))
			}
			for _, i := range []int{2, 0} {
				if err := txs[i].Commit(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if err := txs[1].Rollback(ctx); err != nil {
				t.Fatal(err)
			}
			f.readTo(s, m, f.head())
			f.same(m, "public.t", "id", "x", "pad")
			f.same(m, "public.other", "id", "x")
			var streamed int64
			if err := f.db.Pool.QueryRow(ctx, "SELECT stream_count FROM pg_stat_replication_slots WHERE slot_name = $1", f.cfg.Slot).
				Scan(&streamed); err == nil &&
				streamed == 0 {
				await.That(t, "the server streamed", func() bool {
					_ = f.db.Pool.QueryRow(ctx, "SELECT stream_count FROM pg_stat_replication_slots WHERE slot_name = $1", f.cfg.Slot).
						Scan(&streamed)
					return streamed > 0
				})
			}
			if len(m.Commits) != 1+9+2 {
				t.Errorf("%d transactions", len(m.Commits))
			}
		})
	}
}

// A slot never holds the log of an idle database, or of one where only other tables
// are written: the frontier moves, and acknowledging it moves the slot.
func TestIdleFrontier(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (x text)")
	f.want("public.t", "id;")
	s := f.open()
	m := sourcetest.NewModel(t)
	f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
	for range 5 {
		f.exec("INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 100)")
		head := f.head()
		f.readTo(s, m, head)
		await.That(t, "the slot follows", func() bool { return f.confirmed() >= head })
	}
	if len(m.Commits) != 1 {
		t.Errorf("%d transactions came of a table that nobody reads", len(m.Commits))
	}
	// A connection lost now goes on from the frontier, which the slot has been told.
	lost := f.obs.count()
	f.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1", f.cfg.Slot)
	await.That(t, "the loss is noticed", func() bool { return f.obs.count() > lost })
	f.exec("INSERT INTO other VALUES ('z')")
	f.readTo(s, m, f.head())
	// What is not acknowledged is not confirmed, whatever the server's position is.
	at := m.Position
	for range 20 {
		f.exec("INSERT INTO t VALUES ((SELECT coalesce(max(id), 0) + 1 FROM t))")
		f.exec("INSERT INTO other VALUES ('y')")
	}
	head := f.head()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for m.Position < head {
		b, err := s.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		m.Apply(b)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	for range 20 { // Eight status intervals.
		<-tick.C
		if c := f.confirmed(); c > at {
			t.Fatalf("confirmed %s, acknowledged %s", record.LSN(c), record.LSN(at))
		}
	}
	s.Ack(m.Position + 1_000_000) // Never beyond what was handed out.
	s.Close()
	await.That(t, "Close tells the server", func() bool { return f.confirmed() >= head })
	if c := f.confirmed(); c > m.Position {
		t.Errorf("confirmed %s, handed out %s", record.LSN(c), record.LSN(m.Position))
	}
}

// Heartbeats move time in an idle database, by transactions of the log.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY)")
	f.want("public.t", "id;")
	f.req.EventTime, f.cfg.HeartbeatInterval = true, 50*time.Millisecond
	s := f.open()
	last := int64(0)
	beats := 0
	for beats < 5 {
		b, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, tx := range b.Txs {
			for _, m := range tx.Messages {
				if m.Prefix != sources.HeartbeatPrefix || tx.Tx.CommitTime <= last {
					t.Errorf("message %q at %d after %d", m.Prefix, tx.Tx.CommitTime, last)
				}
				last = tx.Tx.CommitTime
				beats++
			}
		}
		b.Release()
	}
	if d := time.Since(time.UnixMicro(last)); d < 0 || d > time.Minute {
		t.Errorf("the last heartbeat was %s ago", d)
	}
}

// Transactions of another origin are marked, or left out where that is asked for.
func TestOrigin(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY)")
	f.want("public.t", "id;")
	f.exec("SELECT pg_replication_origin_create($1)", "far_"+f.db.Name)
	defer f.exec("SELECT pg_replication_origin_drop($1)", "far_"+f.db.Name)
	s := f.open()
	conn, err := f.db.Pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"SELECT pg_replication_origin_session_setup('far_" + f.db.Name + "')",
		"INSERT INTO t VALUES (1)", "SELECT pg_replication_origin_session_reset()", "INSERT INTO t VALUES (2)"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	conn.Release()
	head := f.head()
	origins := map[string]string{}
	m := sourcetest.NewModel(t)
	for m.Position < head {
		b, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m.Apply(b)
		for _, tx := range b.Txs {
			for _, r := range tx.Rows {
				origins[sourcetest.Text(r.New)] = tx.Tx.Origin
			}
		}
		b.Release()
	}
	if origins["(1)"] != "far_"+f.db.Name || origins["(2)"] != "" {
		t.Errorf("origins are %v", origins)
	}
	f.resume(s, m.Commits[0])
	s.Close()
	if f.major() < 16 {
		return // Filters came with 16.
	}
	f.cfg.LocalOnly = true
	s = f.open()
	m = sourcetest.NewModel(t)
	f.readTo(s, m, head)
	if got := strings.Join(m.Events, ";"); got != "INSERT public.t old=() new=(2)" {
		t.Errorf("events are %s", got)
	}
}
