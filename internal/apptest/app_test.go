package apptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// item is a row of the table items, and of its parts.
type item struct{ Amount int64 }

const itemsSchema = `create table items (id bigint primary key, amount bigint not null, extra text)`

// sum is the view of a topology that adds up all items.
type sum struct {
	topology *topology.Topology
	view     *view.View[string, int64]
}

func newSum(t *testing.T, name string, db *sources.Database, f func(item) int64) sum {
	t.Helper()
	b := topology.New(name)
	out := sum{view: addSum(b, name, db, f)}
	var err error
	if out.topology, err = b.Build(); err != nil {
		t.Fatal(err)
	}
	return out
}

// addSum adds up all items.
func addSum(
	b *topology.Builder, name string, db *sources.Database, f func(item) int64,
) *view.View[string, int64] {
	items := sources.Table[int64, item](b, db, "public.items")
	return sinks.View(operators.Aggregate("total",
		operators.GroupBy(items, func(int64, item) string { return "all" }), aggregate.Sum(f)), name+"-view")
}

func amount(i item) int64 { return i.Amount }

// started is an app under test.
type started struct {
	app  *tailrace.App
	stop func() error
}

// start runs an app until stop or the test's end, and reads its log along. Its error is for
// the test to judge.
func start(t *testing.T, cfg tailrace.Config, topologies ...*topology.Topology) started {
	t.Helper()
	cfg.Logger = watched(t, cfg.Logger)
	app, err := tailrace.New(cfg, topologies...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var result error
	go func() {
		defer close(done)
		result = app.Run(ctx)
	}()
	stop := func() error {
		cancel()
		<-done
		return result
	}
	t.Cleanup(func() { _ = stop() }) // its error was looked at, or does not matter
	return started{app, stop}
}

// wait returns an app's own end, or fails after a while.
func (s started) wait(t *testing.T) error {
	t.Helper()
	await.That(t, "the app's end", func() bool { return s.app.Status().Stopped })
	return s.stop()
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// written is the position that a database has been written up to.
func written(t *testing.T, db *pgservertest.DB) uint64 {
	t.Helper()
	lsn, err := record.ParseLSN(db.String("select pg_current_wal_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	return uint64(lsn)
}

// head is that position of the database "shop".
func head(t *testing.T, db *pgservertest.DB) record.Positions {
	t.Helper()
	return record.Positions{"shop": written(t, db)}
}

// ready waits until an app shows what it has read at its start.
func ready(t *testing.T, app started) {
	t.Helper()
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
}

// shown are the rows of a view, in its order.
func shown[K comparable, V any](t *testing.T, v *view.View[K, V]) (out []string) {
	t.Helper()
	rows := v.Range(context.Background(), view.Span[K]{})
	for k, x := range rows.All() {
		out = append(out, fmt.Sprintf("%v=%v", k, x))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// equal waits for everything committed and compares the sum with SQL.
func (s sum) equal(t *testing.T, db *pgservertest.DB, source string) {
	t.Helper()
	ctx := deadline(t)
	if err := s.view.WaitFor(ctx, record.Positions{source: written(t, db)}); err != nil {
		t.Fatal(err)
	}
	got, _, _, err := s.view.Get(ctx, "all")
	if want := db.String("select coalesce(sum(amount),0) from items"); err != nil || fmt.Sprint(got) != want {
		t.Errorf("%s: %d, SQL %s, %v", s.view.Name(), got, want, err)
	}
}

func pgSource(name string, db *pgservertest.DB) *sources.Database {
	passwords.Store(db.Server.Password(), true)
	return sources.NewDatabase(name, postgres.Source(postgres.Config{URL: db.URL}))
}

// trickle inserts items until the returned function is called.
func trickle(t *testing.T, db *pgservertest.DB) (stop func()) {
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-done:
				return
			default:
				db.ExecArgs("insert into items values ($1, $2) on conflict (id) do update set amount = excluded.amount",
					i%500, i)
			}
		}
	})
	return func() { close(done); group.Wait() }
}

// TestNewcomer adds a topology to an app under load: both equal SQL, and the first
// goes on from its own state.
func TestNewcomer(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items select i, i from generate_series(1, 1000) i")
	cfg := tailrace.Config{App: "newcomer", StateDir: t.TempDir() + "/state"}
	first := newSum(t, "first", pgSource("shop", db), amount)
	app := start(t, cfg, first.topology)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	stop := trickle(t, db)
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	source := pgSource("shop", db)
	again, second := newSum(t, "first", source, amount), newSum(t, "second", source, amount)
	app = start(t, cfg, again.topology, second.topology)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	if err := second.view.WaitFor(deadline(t), nil); err != nil {
		t.Fatal(err)
	}
	stop()
	again.equal(t, db, "shop")
	second.equal(t, db, "shop")
	oneSlot(t, db)
}

// oneSlot waits until there is no slot but the app's.
func oneSlot(t *testing.T, db *pgservertest.DB) {
	t.Helper()
	await.That(t, "no slot but the app's", func() bool {
		return db.String("select count(*) from pg_replication_slots") == "1"
	})
}

// TestSchemaChange drops a column that one of two topologies uses: that one stands
// still before it with a named error, the other goes on.
func TestSchemaChange(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items values (1, 10, 'x')")
	source := pgSource("shop", db)
	plain := newSum(t, "plain", source, amount)
	type extra struct{ Extra string }
	uses, extras := rowsOf[extra](t, "wide", source, "public.items")
	cfg := tailrace.Config{App: "schema", StateDir: t.TempDir() + "/state"}
	app := start(t, cfg, plain.topology, uses)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	db.Exec("insert into items values (2, 20, 'y')")
	plain.equal(t, db, "shop")
	db.Exec("alter table items drop column extra", "insert into items values (3, 30)")
	plain.equal(t, db, "shop")
	held := app.app.Status().Held["wide"]
	if !errors.Is(held, sources.ErrSchema) || !strings.Contains(held.Error(), "extra") ||
		!strings.Contains(held.Error(), "raise the topology's Version") {
		t.Errorf("the topology that uses the column is held by %v", held)
	}
	if _, ok, _, err := extras.Get(deadline(t), 2); !ok || err != nil {
		t.Errorf("the held view lost what came before: %v %v", ok, err)
	}
	if _, ok, _, _ := extras.Get(deadline(t), 3); ok {
		t.Error("the held view shows what came after")
	}
	if err := app.stop(); err != nil {
		t.Error(err)
	}
	db.Exec("alter table items add column extra text default 'z'", "insert into items values (4, 40, 'w')")
	source = pgSource("shop", db)
	plain = newSum(t, "plain", source, amount)
	uses, extras = rowsOf[extra](t, "wide", source, "public.items", topology.Version(1))
	app = start(t, cfg, plain.topology, uses)
	ready(t, app)
	db.Exec("delete from items where id = 1")
	plain.equal(t, db, "shop")
	asSQL(t, db, extras, "select id, '{' || extra || '}' from items order by id")
}

// misfit is an app of two topologies, of which one cannot read its table at times.
type misfit struct {
	t      *testing.T
	db     *pgservertest.DB
	source *sources.Database
	cfg    tailrace.Config
	// version is that of the topology that cannot.
	version int
	fits    sum
	others  *view.View[int64, item]
	app     started
}

func newMisfit(t *testing.T) *misfit {
	t.Helper()
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "create table others (id bigint primary key, amount bigint not null)",
		"insert into items select i, i from generate_series(1, 10) i",
		"insert into others select i, i from generate_series(1, 10) i")
	return &misfit{
		t: t, db: db, source: pgSource("shop", db),
		cfg: tailrace.Config{App: "misfit", StateDir: t.TempDir() + "/state"},
	}
}

func (m *misfit) start() {
	m.t.Helper()
	m.fits = newSum(m.t, "fits", m.source, amount)
	b := topology.New("others", topology.Version(m.version))
	m.others = sinks.View(sources.Table[int64, item](b, m.source, "public.others"), "others")
	topo, err := b.Build()
	if err != nil {
		m.t.Fatal(err)
	}
	m.app = start(m.t, m.cfg, m.fits.topology, topo)
}

func (m *misfit) ready() {
	m.t.Helper()
	if err := m.app.app.WaitReady(deadline(m.t)); err != nil {
		m.t.Fatal(err, m.app.stop())
	}
}

func (m *misfit) stop() {
	m.t.Helper()
	if err := m.app.stop(); err != nil {
		m.t.Fatal(err)
	}
}

// held sees that the topology is held for its table, and that the error says a word.
func (m *misfit) held(word string) {
	m.t.Helper()
	err := m.app.app.Status().Held["others"]
	if !errors.Is(err, sources.ErrSchema) || !strings.Contains(err.Error(), word) {
		m.t.Errorf("the topology is held by %v", err)
	}
}

// heldHeader looks at what HTTP says of the view of the held topology, which has rows if it
// is old, and of the other one.
func (m *misfit) heldHeader(old bool) {
	m.t.Helper()
	paths := map[string]bool{"/views/others": true, "/views/" + m.fits.view.Name(): false, "/views": true}
	for path, held := range paths {
		w := httptest.NewRecorder()
		m.app.app.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		got := w.Header().Get("Tailrace-Held")
		if held != strings.HasPrefix(got, "others; ") || held && old != strings.Contains(got, "; position=shop:") ||
			held && (!strings.Contains(got, `; reason="`) || strings.ContainsAny(got, "\n\r")) {
			m.t.Errorf("%s: the header is %q", path, got)
		}
		rows := w.Code == http.StatusOK && strings.Contains(w.Body.String(), `"key":1`)
		if path == "/views/others" && old && !rows {
			m.t.Errorf("the held view: %d %s", w.Code, w.Body)
		}
	}
}

// TestMisfitAtStart starts an app of which one topology cannot read its table: that one
// is held, the other goes on, and once the table is mended both equal SQL.
func TestMisfitAtStart(t *testing.T) {
	for _, old := range []bool{false, true} { // whether the misfit has run before
		t.Run(fmt.Sprintf("old=%v", old), func(t *testing.T) {
			m := newMisfit(t)
			if old {
				m.start()
				m.ready()
				m.stop()
			}
			m.db.Exec("alter table others rename column amount to sum", "insert into others values (11, 11)")
			m.start()
			m.ready()
			m.db.Exec("insert into items values (12, 12)")
			m.fits.equal(t, m.db, "shop")
			m.held("amount")
			if _, ok, _, err := m.others.Get(deadline(t), 1); old && (!ok || err != nil) || !old && err == nil {
				t.Errorf("the held view: %v %v", ok, err)
			}
			m.heldHeader(old)
			m.db.Exec("insert into others values (13, 13)")
			m.fits.equal(t, m.db, "shop")
			m.stop()
			m.db.Exec("alter table others rename column sum to amount", "insert into others values (14, 14)")
			if old { // Its log still has the rows of the other shape.
				m.start()
				await.That(t, "the topology is held again", func() bool {
					return m.app.app.Status().Held["others"] != nil
				})
				m.held("Version")
				m.stop()
				m.version++
			}
			m.start()
			m.ready()
			for _, id := range []int64{1, 11, 13, 14} {
				if got, ok, _, err := m.others.Get(deadline(t), id); !ok || err != nil || got.Amount != id {
					t.Errorf("%d: %v %v %v", id, got, ok, err)
				}
			}
		})
	}
}

// TestHeldTableStaysPublished holds a topology while another goes on: what is written
// to its table meanwhile has to be in the log when it comes back.
func TestHeldTableStaysPublished(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "create table others (id bigint primary key, amount bigint not null)")
	source := pgSource("shop", db)
	fits := newSum(t, "fits", source, amount)
	b := topology.New("others")
	sinks.View(sources.Table[int64, item](b, source, "public.others"), "others")
	topo, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	app := start(t, tailrace.Config{App: "held", StateDir: t.TempDir() + "/state"}, fits.topology, topo)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	db.Exec("alter table others rename column amount to sum", "insert into others values (1, 1)",
		"insert into items values (1, 1)")
	fits.equal(t, db, "shop")
	if app.app.Status().Held["others"] == nil {
		t.Fatal("the topology is not held")
	}
	if n := db.String("select count(*) from pg_publication_tables where tablename = 'others'"); n != "1" {
		t.Errorf("the table of the held topology is in %s publications", n)
	}
}

// TestFailingFunction lets a user function panic at one row: Run ends with an error
// that names the node, what came before is kept, and a mended function goes on.
func TestFailingFunction(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema)
	cfg := tailrace.Config{App: "failing", StateDir: t.TempDir() + "/state"}
	var log bytes.Buffer
	cfg.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
	line := 0
	bad := newSum(t, "sum", pgSource("shop", db), func(i item) int64 {
		if i.Amount == 666 {
			_, _, line, _ = runtime.Caller(0)
			panic("unlucky")
		}
		return i.Amount
	})
	app := start(t, cfg, bad.topology)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	db.Exec("insert into items values (1, 1)", "insert into items values (2, 2)",
		"insert into items values (3, 666)", "insert into items values (4, 4)")
	err := app.wait(t)
	var f *topology.Failure
	if !errors.Is(err, topology.ErrUserFunction) || !errors.As(err, &f) || f.Node.Name != "total" ||
		f.Key != int64(3) {
		t.Fatalf("got %v", err)
	}
	if strings.Contains(err.Error(), "666") {
		t.Error("the error holds a row's value")
	}
	place := fmt.Sprintf("app_test.go:%d", line+1)
	if !strings.Contains(err.Error(), "panic: unlucky ("+place+")") {
		t.Errorf("the error does not tell the place %s: %v", place, err)
	}
	if l := log.String(); !strings.Contains(l, `"stack":"goroutine`) || !strings.Contains(l, "/apptest/"+place) {
		t.Errorf("the log has no stack with the place: %s", l)
	}
	cfg.Logger = nil
	good := newSum(t, "sum", pgSource("shop", db), amount)
	app = start(t, cfg, good.topology)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	good.equal(t, db, "shop")
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}

// TestChangedTopology changes what a topology computes: its state is rebuilt.
func TestChangedTopology(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items select i, i from generate_series(1, 10) i")
	cfg := tailrace.Config{App: "changed", StateDir: t.TempDir() + "/state"}
	for round, build := range []func(*topology.Builder, topology.Table[int64, item]) *view.View[string, int64]{
		func(_ *topology.Builder, items topology.Table[int64, item]) *view.View[string, int64] {
			return sinks.View(operators.Aggregate("n", operators.GroupBy(items,
				func(int64, item) string { return "all" }), aggregate.Count[item]()), "v")
		},
		func(_ *topology.Builder, items topology.Table[int64, item]) *view.View[string, int64] {
			return sinks.View(operators.Aggregate("n", operators.GroupBy(items,
				func(int64, item) string { return "all" }), aggregate.Sum(amount)), "v")
		},
	} {
		b := topology.New("t")
		v := build(b, sources.Table[int64, item](b, pgSource("shop", db), "public.items"))
		topo, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		app := start(t, cfg, topo)
		if err := app.app.WaitReady(deadline(t)); err != nil {
			t.Fatal(err, app.stop())
		}
		got, _, _, err := v.Get(deadline(t), "all")
		if want := []int64{10, 55}[round]; err != nil || got != want {
			t.Errorf("round %d: got %d, want %d: %v", round, got, want, err)
		}
		if err := app.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRefusals starts apps that cannot run; each error is named, and nothing is left
// in the database.
func TestRefusals(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "create table keyless (a int)")
	sumOf := func(name string) *topology.Topology {
		return newSum(t, name, pgSource("shop", db), amount).topology
	}
	shared := t.TempDir() + "/shared"
	holder := start(t, tailrace.Config{App: "holder", StateDir: shared}, sumOf("t"))
	if err := holder.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, holder.stop())
	}
	missing := topology.New("t")
	sinks.View(sources.Table[int64, struct{ Nope string }](missing, pgSource("shop", db), "public.items"), "v")
	keyless := topology.New("t")
	sinks.View(sources.Table[int64, struct{ A int32 }](keyless, pgSource("shop", db), "public.keyless"), "v")
	gone := topology.New("t")
	sinks.View(sources.Table[int64, item](gone, pgSource("shop", db), "public.gone"), "v")
	build := func(b *topology.Builder) *topology.Topology {
		topo, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		return topo
	}
	for name, c := range map[string]struct {
		dir  string
		topo *topology.Topology
		want string
	}{
		"a directory in use":  {shared, sumOf("t"), "in use"},
		"a column not there":  {t.TempDir() + "/s", build(missing), "nope"},
		"a table without key": {t.TempDir() + "/s", build(keyless), "primary key"},
		"a table not there":   {t.TempDir() + "/s", build(gone), "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			app := start(t, tailrace.Config{App: "refused", StateDir: c.dir}, c.topo)
			if err := app.waitEnd(t); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want something about %q", err, c.want)
			}
		})
	}
	if err := holder.stop(); err != nil {
		t.Error(err)
	}
	thief := start(t, tailrace.Config{App: "refused", StateDir: shared}, sumOf("t"))
	if err := thief.waitEnd(t); !errors.Is(err, state.ErrMismatch) ||
		!strings.Contains(err.Error(), `holds the state of app "holder", not "refused": give each app a directory`) {
		t.Errorf("a directory of another app: got %v", err)
	}
	db.Exec("insert into items values (1, 1), (2, 2)")
	owner := newSum(t, "t", pgSource("shop", db), amount)
	var log logLines
	holder = start(t, tailrace.Config{App: "holder", StateDir: shared,
		Logger: log.logger()}, owner.topology)
	ready(t, holder)
	owner.equal(t, db, "shop")
	if again := log.with(t, "rows_per_second"); len(again) > 0 {
		t.Errorf("the owner has begun anew: %v", again)
	}
	slots := db.Strings("select slot_name from pg_replication_slots where slot_name like '%refused%'")
	if len(slots) > 0 {
		t.Errorf("refused apps left %v", slots)
	}
}

// waitEnd waits for WaitReady to fail, which it does when Run ends.
func (s started) waitEnd(t *testing.T) error {
	t.Helper()
	if err := s.app.WaitReady(deadline(t)); !errors.Is(err, tailrace.ErrStopped) {
		t.Fatalf("WaitReady: %v", err)
	}
	return s.stop()
}

// TestDestroy removes what an app left in its database.
func TestDestroy(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema)
	s := newSum(t, "t", pgSource("shop", db), amount)
	app := start(t, tailrace.Config{App: "destroyed", StateDir: t.TempDir() + "/state"}, s.topology)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again is no error
		if err := app.app.Destroy(deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
	nothingLeft(t, db)
}

// nothingLeft checks that there are no slots and publications in a database.
func nothingLeft(t *testing.T, db *pgservertest.DB) {
	t.Helper()
	left := slices.Concat(
		db.Strings("select slot_name from pg_replication_slots where database = current_database()"),
		db.Strings("select pubname from pg_publication"),
	)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestOutputsSpill writes two tables of a target in one epoch that is far larger
// than the memory budget: what was spilled for one must not come out for the other.
func TestOutputsSpill(t *testing.T) {
	db, wh := pgservertest.New(t), pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items select i, i from generate_series(1, 30000) i")
	b := topology.New("spill")
	items := sources.Table[int64, item](b, pgSource("shop", db), "public.items")
	target := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: wh.URL, CreateTables: true}))
	sinks.Table(items, target, "plain")
	sinks.Table(
		operators.MapValues(items, func(_ int64, i item) item { return item{-i.Amount} }),
		target,
		"negated",
	)
	topo, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	app := start(t, tailrace.Config{App: "spill", StateDir: t.TempDir() + "/state", Memory: 256 << 10}, topo)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	want := "30000,450015000,30000,-450015000"
	got := ""
	if !await.Within(time.Minute, func() bool {
		if wh.String("select to_regclass('negated') is null or to_regclass('plain') is null") == "f" {
			got = wh.String("select (select count(*) || ',' || sum(amount) from plain) || ',' || " +
				"(select count(*) || ',' || sum(amount) from negated)")
		}
		return got == want
	}) {
		t.Errorf("the target holds %s, want %s", got, want)
	}
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}
