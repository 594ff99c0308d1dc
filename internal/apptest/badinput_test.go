package apptest

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// rowsOf is a topology that shows a table as it is.
func rowsOf[V any](
	t *testing.T, name string, db *sources.Database, table string,
) (*topology.Topology, *view.View[int64, V]) {
	t.Helper()
	b := topology.New(name)
	v := sinks.View(sources.Table[int64, V](b, db, table), name)
	topo, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return topo, v
}

// TestRetypedColumn changes the type of a column that one of two topologies uses: that one
// stands still before the change, the other goes on, and with the type changed back and a
// restart nothing is missing.
func TestRetypedColumn(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items values (1, 10)")
	source := pgSource("shop", db)
	uses, _ := rowsOf[item](t, "uses", source, "public.items")
	other, ids := rowsOf[struct{ ID int64 }](t, "other", source, "public.items")
	app := start(t, tailrace.Config{App: "retyped", StateDir: t.TempDir() + "/state"}, uses, other)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	db.Exec("alter table items alter amount type text", "insert into items values (2, 'many')")
	await.That(t, "the topology is held", func() bool { return app.app.Status().Held["uses"] != nil })
	if held := app.app.Status().Held["uses"]; !errors.Is(held, sources.ErrSchema) ||
		!strings.Contains(held.Error(), "amount") || !strings.Contains(held.Error(), "text") {
		t.Errorf("it is held by %v", held)
	}
	await.That(t, "the other goes on", func() bool {
		_, ok, _, err := ids.Get(deadline(t), 2)
		return ok && err == nil
	})
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}

// TestValueOutOfRange has a value that its field cannot hold: the app stops before its
// transaction, names table and column and not the value, and keeps what came before.
func TestValueOutOfRange(t *testing.T) {
	type visit struct{ At time.Time }
	db := pgservertest.New(t)
	db.Exec("create table visits (id bigint primary key, at timestamptz not null)")
	cfg := tailrace.Config{App: "range", StateDir: t.TempDir() + "/state"}
	visits, _ := rowsOf[visit](t, "visits", pgSource("shop", db), "public.visits")
	app := start(t, cfg, visits)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	db.Exec("insert into visits values (1, '2024-01-01')", "insert into visits values (2, 'infinity')")
	for range 2 { // also after a restart
		err := app.wait(t)
		if !errors.Is(err, sources.ErrDecode) || !strings.Contains(err.Error(), "public.visits.at") ||
			!strings.Contains(err.Error(), "visit.At") {
			t.Errorf("got %v", err)
		}
		visits, _ = rowsOf[visit](t, "visits", pgSource("shop", db), "public.visits")
		app = start(t, cfg, visits)
	}
}

// TestNothingIsTold runs an app into failures with secrets and rows that can be told from
// anything else: none of them is in its log at any level, its errors, its metrics or what
// it answers to those without a token.
func TestNothingIsTold(t *testing.T) {
	const password, token, value = "canary-password-77", "canary-token-88", "canary-value-99"
	db, wh := pgservertest.New(t), pgservertest.New(t)
	role := "told_" + db.Name
	db.Exec("create table notes (id bigint primary key, text text not null, at timestamptz not null)",
		"create role "+role+" superuser login password '"+password+"'",
		"insert into notes values (1, '"+value+"', now())")
	t.Cleanup(func() {
		for _, d := range []*pgservertest.DB{db, wh} {
			d.Exec("reassign owned by " + role + " to postgres")
		}
		db.Exec("drop role " + role)
	})
	wh.Exec(
		"create table notes (key bigint primary key, text text not null check (length(text) < 20), at timestamptz not null)",
	)
	as := func(url string) string {
		_, rest, _ := strings.Cut(url, "@")
		return "postgres://" + role + ":" + password + "@" + rest
	}
	type note struct {
		Text string
		At   time.Time
	}
	b := topology.New("notes")
	notes := sources.Table[int64, note](b, sources.NewDatabase("shop",
		postgres.Source(postgres.Config{URL: as(db.URL)})), "public.notes")
	sinks.View(notes, "notes")
	sinks.Table(notes, sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: as(wh.URL)})), "notes")
	topo, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	var log logLines
	cfg := tailrace.Config{App: "told", StateDir: t.TempDir() + "/state", Token: token,
		Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	app := start(t, cfg, topo)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	told := fmt.Sprintf("%+v", app.app.Status())
	for _, path := range []string{"/metrics", "/readyz", "/livez", "/plan"} {
		answer := httptest.NewRecorder()
		app.app.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		told += answer.Body.String()
	}
	// A connection that is lost, a row that the target refuses, and one that cannot be read.
	db.Exec(
		"select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database()",
		"insert into notes values (2, '"+value+" and far more than twenty', now())",
		"insert into notes values (3, '"+value+"', 'infinity')",
	)
	end := app.wait(t)
	if !errors.Is(end, sources.ErrDecode) && !errors.Is(end, sinks.ErrRejected) {
		t.Errorf("got %v", end)
	}
	told += fmt.Sprint(end, app.app.Status())
	log.mu.Lock()
	defer log.mu.Unlock()
	told += log.text.String()
	for _, canary := range []string{password, token, value} {
		if at := strings.Index(told, canary); at >= 0 {
			t.Errorf("%s is told: %.300s", canary, told[max(0, at-150):])
		}
	}
}

// TestSinkOntoItsSource refuses an output that would be its topology's own input.
func TestSinkOntoItsSource(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items values (1, 1)")
	b := topology.New("loop")
	items := sources.Table[int64, item](b, pgSource("shop", db), "public.items")
	sinks.Table(items, sinks.NewTarget("same", pgsink.Target(pgsink.Config{URL: db.URL})), "items")
	loop, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	app := start(t, tailrace.Config{App: "loop", StateDir: t.TempDir() + "/state"}, loop)
	if err := app.wait(t); !errors.Is(err, sinks.ErrTargetSchema) ||
		!strings.Contains(err.Error(), `output "items" would write "items"`) ||
		!strings.Contains(err.Error(), "feedback loop") || strings.Contains(err.Error(), "ALTER TABLE") {
		t.Fatalf("got %v", err)
	}
}
