package postgres_test

import (
	"testing"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
)

func TestMain(m *testing.M) { pgservertest.Main(m) }

// The way of a first run and a second one: snapshot, changes of every kind, restart.
func TestSnapshotStreamResume(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE orders (id int PRIMARY KEY, status text, big text)")
	f.exec("ALTER TABLE orders ALTER big SET STORAGE EXTERNAL")
	f.exec("INSERT INTO orders SELECT i, E'a\\tb\\\\c\\n' || i, NULL FROM generate_series(1, 1000) i")
	f.want("public.orders", "id;status,big")
	s := f.open()
	m := newModel(t)
	f.readUntil(s, m, func() bool { return len(m.commits) == 1 })
	if m.snapshot != 1000 {
		t.Fatalf("snapshot of %d rows", m.snapshot)
	}
	f.exec("INSERT INTO orders VALUES (2001, 'new', repeat('x', 10000))")
	f.exec("UPDATE orders SET status = 'paid' WHERE id = 2001")
	f.exec("UPDATE orders SET id = 3001 WHERE id = 2001")
	f.exec("DELETE FROM orders WHERE id <= 10")
	f.exec("UPDATE orders SET status = NULL WHERE id = 20")
	f.readTo(s, m, f.head())
	f.same(m, "public.orders", "id", "status", "big")
	f.resume(s, m.position)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f.exec("TRUNCATE orders")
	f.exec("INSERT INTO orders VALUES (1, 'after', NULL)")
	s = f.open()
	commits := len(m.commits)
	f.readTo(s, m, f.head())
	f.same(m, "public.orders", "id", "status", "big")
	if got := len(m.commits) - commits; got != 2 {
		t.Errorf("%d transactions after the restart, want 2", got)
	}
}
