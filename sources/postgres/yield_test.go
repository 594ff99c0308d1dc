package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

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
