package pgservertest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"

	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgserver"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
)

func TestMain(m *testing.M) { pgservertest.Main(m) }

func TestDatabasesAreSeparateAndGoAway(t *testing.T) {
	outer := pgservertest.New(t)
	var name string
	t.Run("inner", func(t *testing.T) {
		db := pgservertest.New(t)
		name = db.Name
		if db.Server != outer.Server {
			t.Error("two tests of one version have two servers")
		}
		db.Exec("CREATE TABLE t (id int PRIMARY KEY, name text)", "INSERT INTO t VALUES (1, 'a'), (2, NULL)")
		if n := db.ExecArgs("UPDATE t SET name = $1 WHERE id = $2", "b", 1); n != 1 {
			t.Errorf("updated %d rows", n)
		}
		got := db.Strings("SELECT * FROM t ORDER BY id")
		if want := [][]string{{"1", "b"}, {"2", pgservertest.Null}}; !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("rows %q, want %q", got, want)
		}
		if rows := db.Query("SELECT id FROM t ORDER BY id"); len(rows) != 2 || rows[1][0] != int32(2) {
			t.Errorf("rows %v", rows)
		}
		holdSlot(t, db)
	})
	if n := outer.String("SELECT count(*) FROM pg_database WHERE datname = '" + name + "'"); n != "0" {
		t.Error("the inner test's database is still there")
	}
	if n := outer.String("SELECT count(*) FROM pg_replication_slots"); n != "0" {
		t.Errorf("%s slots are left", n)
	}
}

const startReplication = `START_REPLICATION SLOT held LOGICAL 0/0 (proto_version '1', publication_names 'p')`

// holdSlot leaves a slot that a client is streaming from, and a session in a
// transaction: what a test that failed half-way leaves.
func holdSlot(t *testing.T, db *pgservertest.DB) {
	t.Helper()
	ctx := context.Background()
	db.Exec("CREATE PUBLICATION p FOR ALL TABLES",
		"SELECT pg_create_logical_replication_slot('held', 'pgoutput')")
	conn, err := pgx.Connect(ctx, db.ReplicationURL())
	if err != nil {
		t.Fatal(err)
	}
	conn.PgConn().Frontend().SendQuery(&pgproto3.Query{String: startReplication})
	if err := conn.PgConn().Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.PgConn().ReceiveMessage(ctx); err != nil {
		t.Fatal(err)
	}
	session, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Exec(ctx, "BEGIN; LOCK TABLE t"); err != nil {
		t.Fatal(err)
	}
}

func TestPrivateServerHasItsSettings(t *testing.T) {
	db := pgservertest.New(t, pgservertest.Private(map[string]string{"max_replication_slots": "1"}))
	if got := db.String("SHOW max_replication_slots"); got != "1" {
		t.Errorf("max_replication_slots = %s", got)
	}
	if got := db.String("SHOW fsync"); got != "on" {
		t.Errorf("fsync = %s", got)
	}
	if err := db.Server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := db.Server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestEachVersion(t *testing.T) {
	for _, version := range pgserver.Versions() {
		t.Run(version, func(t *testing.T) {
			db := pgservertest.New(t, pgservertest.Version(version), pgservertest.Private(nil))
			if got := db.String("SHOW wal_level"); got != "logical" {
				t.Errorf("wal_level = %s", got)
			}
			db.Exec("SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
				"CREATE EXTENSION hstore", "CREATE EXTENSION citext", "CREATE EXTENSION ltree")
		})
	}
}

func TestIgnoreSharedHidesTheServerOnly(t *testing.T) {
	pgservertest.New(t).Pool.Close()
	if err := goleak.Find(pgservertest.IgnoreShared()...); err != nil {
		t.Error(err)
	}
}

func TestCommitCutOff(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	proxy, err := faultproxy.New(db.Server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	for id, direction := range []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient} {
		conn, err := pgx.Connect(t.Context(), db.URLVia(proxy.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(t.Context(), fmt.Sprintf("BEGIN; INSERT INTO t VALUES (%d)", id)); err != nil {
			t.Fatal(err)
		}
		proxy.CutAfter(direction, 0)
		if _, err := conn.Exec(t.Context(), "COMMIT"); err == nil {
			t.Errorf("direction %d: the cut commit succeeded", direction)
		}
	}
	// The first commit never arrived; of the second only the answer was lost.
	if got := db.Strings("SELECT id FROM t"); len(got) != 1 || got[0][0] != "1" {
		t.Errorf("committed: %v", got)
	}
}
