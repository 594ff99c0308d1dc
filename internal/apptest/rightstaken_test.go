package apptest

import (
	"errors"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

// TestRightsTaken takes away from an app that runs what it needs to read, and ends its
// connection: it stops, with the error that says what to run, and goes on where that was done.
func TestRightsTaken(t *testing.T) {
	db := pgservertest.New(t)
	role := "taken_" + db.Name
	db.Exec(itemsSchema, "create role "+role+" login replication password 'first'",
		"grant select on items to "+role, "create publication taken for table items with (publish_via_partition_root)")
	t.Cleanup(func() {
		db.Exec("drop owned by "+role, "drop role "+role)
	})
	cfg := tailrace.Config{App: "taken", StateDir: t.TempDir() + "/state"}
	begin := func(password string) (sum, started) {
		_, rest, _ := strings.Cut(db.URL, "@")
		s := newSum(t, "sum", sources.NewDatabase("shop", postgres.Source(postgres.Config{
			URL: "postgres://" + role + ":" + password + "@" + rest, Publication: "taken",
		})), amount)
		return s, start(t, cfg, s.topology)
	}
	s, app := begin("first")
	ready(t, app)
	for _, c := range []struct{ take, says, give, password string }{
		{"alter role " + role + " noreplication", `ALTER ROLE "` + role + `" REPLICATION;`,
			"alter role " + role + " replication", "first"},
		{"revoke connect on database " + db.Name + " from public",
			`GRANT CONNECT ON DATABASE "` + db.Name + `" TO "` + role + `"`,
			"grant connect on database " + db.Name + " to " + role, "first"},
		{"alter role " + role + " password 'second'", "check user, password and pg_hba.conf", "select", "second"},
	} {
		db.Exec("insert into items select coalesce(max(id), 0) + 1, 7 from items")
		s.equal(t, db, "shop")
		db.Exec(c.take, "insert into items select max(id) + 1, 8 from items",
			"select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database()",
			"insert into items select max(id) + 1, 9 from items")
		if err := app.wait(t); !errors.Is(err, sources.ErrConfig) || !strings.Contains(err.Error(), c.says) ||
			strings.Count(err.Error(), "GRANT")+strings.Count(err.Error(), "ALTER") > 1 {
			t.Errorf("%s: got %v", c.take, err)
		}
		db.Exec(c.give)
		s, app = begin(c.password)
		ready(t, app)
		s.equal(t, db, "shop")
	}
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}
