package apptest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

// TestWrongSystem has the app's address lead to another server, with a database of the same
// name, table and password, while the app runs and at its start: it takes nothing from there
// and leaves nothing there, says what to do, and goes on where the address is right again.
func TestWrongSystem(t *testing.T) {
	db := pgservertest.New(t)
	other := pgservertest.New(t, pgservertest.Private(map[string]string{"fsync": "off"}))
	other.Exec("create database " + db.Name)
	there, err := pgx.Connect(t.Context(), other.Server.URL(db.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close(context.Background())
	exec := func(sql string) {
		if _, err := there.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(itemsSchema)
	exec("insert into items select i, 1000000 from generate_series(1, 100) i")
	exec("alter role postgres password '" + db.Server.Password() + "'")
	db.Exec(itemsSchema, "insert into items select i, i from generate_series(1, 10) i")
	proxy, err := faultproxy.New(db.Server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	cfg := tailrace.Config{App: "moved", StateDir: t.TempDir() + "/state"}
	begin := func() (sum, started) {
		s := newSum(t, "sum", sources.NewDatabase("shop",
			postgres.Source(postgres.Config{URL: db.URLVia(proxy.Addr())})), amount)
		return s, start(t, cfg, s.topology)
	}
	s, app := begin()
	ready(t, app)
	for round, when := range []string{"while it runs", "at its start"} {
		s.equal(t, db, "shop")
		if round == 1 {
			if err := app.stop(); err != nil {
				t.Fatal(err)
			}
		}
		proxy.Redirect(other.Server.Addr())
		proxy.Cut()
		db.Exec(fmt.Sprintf("insert into items select i, i from generate_series(%d, %[1]d + 9) i", 11+10*round))
		exec("insert into items select max(id) + 1, 1000000 from items")
		if round == 1 {
			_, app = begin()
		}
		err := app.wait(t)
		if !errors.Is(err, sources.ErrWrongSystem) ||
			!strings.Contains(err.Error(), "connect to the former, or run tailrace drop (App.Destroy), remove the state directory") {
			t.Errorf("%s: got %v", when, err)
		}
		var left int
		if err := there.QueryRow(t.Context(), `select (select count(*) from pg_publication) +
			(select count(*) from pg_replication_slots)`).Scan(&left); err != nil || left > 0 {
			t.Errorf("%s: %d slots and publications are left on the other server, %v", when, left, err)
		}
		proxy.Redirect(db.Server.Addr())
		s, app = begin()
		ready(t, app)
		db.Exec("update items set amount = amount + 1 where id % 2 = 0")
		s.equal(t, db, "shop")
	}
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}
