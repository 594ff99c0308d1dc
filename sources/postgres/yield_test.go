package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// TestUnreadSnapshotYields opens two databases of one server, as an app does that reads both:
// nothing is read before both are open. A transaction of the first one has written
// something, so that the slot of the second one waits for it, and then waits itself to
// truncate a table that the first one's snapshot has locked.
func TestUnreadSnapshotYields(t *testing.T) {
	t.Parallel()
	one, other := newFixture(t), newFixture(t)
	one.exec("CREATE TABLE t (id int PRIMARY KEY, x text)")
	one.exec("CREATE TABLE unread (id int)")
	one.exec("INSERT INTO t SELECT i, repeat('x', 300) FROM generate_series(1, 50000) i")
	other.exec("CREATE TABLE t (id int PRIMARY KEY, x text)")
	one.want("public.t", "id;x")
	other.want("public.t", "id;x")

	first := one.open()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tx, err := one.db.Pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "INSERT INTO unread VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := tx.Exec(ctx, "TRUNCATE t")
		done <- errors.Join(err, tx.Commit(ctx))
	}()
	other.open()
	if err := <-done; err != nil {
		t.Fatalf("the application's transaction: %v", err)
	}
	for err == nil {
		_, err = first.Next(ctx)
	}
	if !errors.Is(err, sources.ErrReopen) {
		t.Fatalf("the first database's session ends with %v, want ErrReopen", err)
	}
	first.Close()
	m := sourcetest.NewModel(t)
	one.exec("INSERT INTO t VALUES (1, 'after')")
	one.readTo(one.open(), m, one.head())
	one.same(m, "public.t", "id", "x")
}

// TestSnapshotOutlivesItsAnchor ends the connection that asks who waits, while nothing is
// read: the rows are with the readers, and the snapshot goes on, but still yields.
func TestSnapshotOutlivesItsAnchor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x text)")
	f.exec("INSERT INTO t SELECT i, repeat('x', 300) FROM generate_series(1, 50000) i")
	f.want("public.t", "id;x")
	f.cfg.SnapshotChunkRows = 1000 // which keeps the readers there, with their locks
	asked := make(chan struct{}, 1)
	f.req.Logger = slog.New(slog.NewTextHandler(onLine{"asking over new connections", asked}, nil))
	s := f.open()
	await.That(t, "the snapshot's first rows", func() bool {
		f.obs.mu.Lock()
		defer f.obs.mu.Unlock()
		return f.obs.rows["public.t"] > 0
	})
	f.exec("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted " +
		"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
	select {
	case <-asked:
	case <-time.After(60 * time.Second):
		t.Fatal("nobody asked who waits for the snapshot")
	}
	// Who asks to have a table all to himself gets it all the same.
	f.exec("SET lock_timeout = '40s'; TRUNCATE t")
	if err := f.readError(s); !errors.Is(err, sources.ErrReopen) {
		t.Fatalf("the session ends with %v, want ErrReopen", err)
	}
	s.Close()
	s = f.open()
	m := sourcetest.NewModel(t)
	f.exec("INSERT INTO t VALUES (0, 'after')")
	f.readTo(s, m, f.head())
	f.same(m, "public.t", "id", "x")
}

// onLine tells of a line of a log that holds a text.
type onLine struct {
	text string
	came chan<- struct{}
}

func (l onLine) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(l.text)) {
		select {
		case l.came <- struct{}{}:
		default:
		}
	}
	return len(p), nil
}
