package apptest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// lagWhile writes a row and waits until a view shows it, again and again while going
// holds, and returns the longest it took and how often it was tried.
func lagWhile(t *testing.T, db *pgservertest.DB, s sum, going func() bool) (most time.Duration, n int) {
	t.Helper()
	for ; going(); n++ {
		most = max(most, lag(t, db, s, 1_000_000+n))
	}
	return most, n
}

// lag writes a row and returns how long it takes until a view shows it.
func lag(t *testing.T, db *pgservertest.DB, s sum, id int) time.Duration {
	t.Helper()
	db.ExecArgs("insert into items values ($1, 1)", id)
	began := time.Now()
	if err := s.view.WaitFor(deadline(t), head(t, db)); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// copied is a topology that copies items into a target.
func copied(t *testing.T, from *sources.Database, to *sinks.Target, table string) *topology.Topology {
	t.Helper()
	b := topology.New("copied-" + table)
	sinks.Table(sources.Table[int64, item](b, from, "public.items"), to, table)
	made, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// sameCopy waits until a copy in a target equals the table.
func sameCopy(t *testing.T, db, wh *pgservertest.DB, table string) {
	t.Helper()
	sum := func(db *pgservertest.DB, table, key string) string {
		return db.String("select count(*) || ' ' || coalesce(sum(" + key + " * 31 + amount), 0) from " + table)
	}
	var got string
	want := sum(db, "items", "id")
	if !await.Within(time.Minute, func() bool { got = sum(wh, table, "key"); return got == want }) {
		t.Fatalf("%s holds %s, want %s", table, got, want)
	}
}

// TestNewcomersUnderLoad adds three topologies beside a running one whose snapshots take
// long, while the application writes: the running one goes on as if nothing was, a kill in
// between costs only what the newcomers had, and in the end all equal SQL.
func TestNewcomersUnderLoad(t *testing.T) {
	const rows, perSecond = 12_000, 3000
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items select i, i from generate_series(1, 12000) i", "analyze items")
	cfg := tailrace.Config{App: "load", StateDir: t.TempDir() + "/state"}
	wh := pgservertest.New(t)
	to := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: wh.URL, CreateTables: true}))
	source := pgSource("shop", db)
	app := start(t, cfg, newSum(t, "first", source, amount).topology, copied(t, source, to, "old"))
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	slow := sources.NewDatabase("shop", postgres.Source(postgres.Config{
		URL: db.URL, SnapshotRateLimit: perSecond, SnapshotChunkRows: 500,
	}))
	var sums []sum
	begin := func() started {
		sums = nil
		for _, name := range []string{"first", "second", "third"} {
			sums = append(sums, newSum(t, name, slow, amount))
		}
		return start(t, cfg, sums[0].topology, sums[1].topology, sums[2].topology,
			copied(t, slow, to, "old"), copied(t, slow, to, "new"))
	}
	stop := trickle(t, db)
	killed := errors.New("killed")
	off := failpoint.Set(failpoint.Joining, func(int) error { return killed })
	app = begin()
	if err := app.wait(t); !errors.Is(err, killed) {
		t.Fatalf("the app ended with %v", err)
	}
	off()
	app = begin()
	if err := app.app.WaitFor(deadline(t), nil); err != nil {
		t.Fatal(err, app.stop())
	}
	began := time.Now()
	most, n := lagWhile(t, db, sums[0], func() bool { return len(app.app.Status().Joining) == 3 })
	took := time.Since(began)
	t.Logf(
		"while three topologies joined, %.1f s, a fourth showed %d rows, the slowest after %s",
		took.Seconds(),
		n,
		most,
	)
	if alone := time.Second * rows / perSecond / 2; took < alone || n < 10 {
		t.Errorf("the snapshots took %s, in which %d rows were shown", took, n)
	}
	if most > 2*time.Second {
		t.Errorf("the running topology lagged by %s", most)
	}
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	stop()
	for _, s := range sums {
		s.equal(t, db, "shop")
	}
	sameCopy(t, db, wh, "old")
	sameCopy(t, db, wh, "new")
	oneSlot(t, db)
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}

// TestNewcomerOverDatabases adds topologies that read two databases beside one that reads
// the first of them, so that the other one is read by newcomers alone, and then beside one
// that reads both; under load, with a kill while they are on their way, and then equal to
// SQL.
func TestNewcomerOverDatabases(t *testing.T) {
	dbs := []*pgservertest.DB{pgservertest.New(t), pgservertest.New(t)}
	for i, db := range dbs {
		db.Exec(itemsSchema, fmt.Sprintf("insert into items select i, i from generate_series(%d, %d) i",
			1+500*i, 2000+500*i))
	}
	cfg := tailrace.Config{App: "over", StateDir: t.TempDir() + "/state"}
	wh := pgservertest.New(t)
	begin := func(newcomers ...string) (started, sum, []both) {
		one, other := pgSource("one", dbs[0]), pgSource("other", dbs[1])
		to := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: wh.URL, CreateTables: true}))
		first := newSum(t, "first", one, amount)
		topologies, all := []*topology.Topology{first.topology}, []both(nil)
		for _, name := range newcomers {
			b := newBoth(t, name, one, other, to)
			topologies, all = append(topologies, b.topology), append(all, b)
		}
		return start(t, cfg, topologies...), first, all
	}
	ready := func(app started) {
		if err := app.app.WaitReady(deadline(t)); err != nil {
			t.Fatal(err, app.stop())
		}
	}
	app, _, _ := begin()
	ready(app)
	stops := []func(){trickle(t, dbs[0]), trickle(t, dbs[1])}
	for _, newcomers := range [][]string{{"second"}, {"second", "third"}} {
		if err := app.stop(); err != nil {
			t.Fatal(err)
		}
		for _, point := range []string{failpoint.JoinerSync, failpoint.Joining} {
			killed := errors.New("killed")
			off := failpoint.Set(point, func(int) error { return killed })
			app, _, _ = begin(newcomers...)
			if err := app.wait(t); !errors.Is(err, killed) {
				t.Fatalf("at %s the app ended with %v", point, err)
			}
			off()
		}
		app, _, _ = begin(newcomers...)
		ready(app)
	}
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	app, first, all := begin("second", "third", "fourth")
	ready(app)
	for _, stop := range stops {
		stop()
	}
	first.equal(t, dbs[0], "one")
	for _, b := range all {
		b.equal(t, dbs, wh)
	}
	await.That(t, "no slots but the app's", func() bool {
		return dbs[0].String("select count(*) from pg_replication_slots where slot_name like 'tailrace_over_%'") == "2"
	})
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}

// both is a topology that joins the items of two databases, as a view and as a table of a
// target.
type both struct {
	topology *topology.Topology
	view     *view.View[int64, amounts]
	table    string
}

type amounts struct{ One, Other int64 }

func newBoth(t *testing.T, name string, one, other *sources.Database, to *sinks.Target) both {
	t.Helper()
	b := topology.New(name)
	joined := operators.OuterJoin("join",
		sources.Table[int64, item](b, one, "public.items"),
		sources.Table[int64, item](b, other, "public.items"),
		func(l item, _ bool, r item, _ bool) amounts { return amounts{l.Amount, r.Amount} })
	out := both{view: sinks.View(joined, name+"-view"), table: name}
	sinks.Table(joined, to, name)
	var err error
	if out.topology, err = b.Build(); err != nil {
		t.Fatal(err)
	}
	return out
}

// equal waits for all that is committed, and compares view and table with what SQL has.
func (b both) equal(t *testing.T, dbs []*pgservertest.DB, wh *pgservertest.DB) {
	t.Helper()
	at, want := record.Positions{}, map[int64]amounts{}
	for i, name := range []string{"one", "other"} {
		at[name] = written(t, dbs[i])
		for _, row := range dbs[i].Strings("select id, amount from items") {
			var id, amount int64
			if _, err := fmt.Sscan(row[0]+" "+row[1], &id, &amount); err != nil {
				t.Fatal(err)
			}
			a := want[id]
			if i == 0 {
				a.One = amount
			} else {
				a.Other = amount
			}
			want[id] = a
		}
	}
	if err := b.view.WaitFor(deadline(t), at); err != nil {
		t.Fatal(err)
	}
	got := maps.Collect(b.view.Range(deadline(t), view.All[int64]()).All())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: the view is not what SQL gives: %s", b.table, diff)
	}
	sums := [2]int64{}
	for _, a := range want {
		sums[0], sums[1] = sums[0]+a.One, sums[1]+a.Other
	}
	sum := fmt.Sprintf("%d %d %d", len(want), sums[0], sums[1])
	if !await.Within(time.Minute, func() bool {
		return wh.String("select count(*) || ' ' || sum(one) || ' ' || sum(other) from "+b.table) == sum
	}) {
		t.Errorf("%s: the table does not come to hold %s", b.table, sum)
	}
}

// TestNewcomerLosesItsConnection cuts a newcomer's connections while it copies, so that
// its snapshot is lost, and while it catches up. The one beside which it is added goes on
// over connections of its own, and in the end both equal SQL.
func TestNewcomerLosesItsConnection(t *testing.T) {
	db, wh := pgservertest.New(t), pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items select i, i from generate_series(1, 6000) i", "analyze items")
	proxy, err := faultproxy.New(db.Server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = proxy.Addr()
	var anew counter
	cfg := tailrace.Config{App: "cut", StateDir: t.TempDir() + "/state", Logger: slog.New(&anew)}
	target := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: wh.URL, CreateTables: true}))
	app := start(t, cfg, newSum(t, "first", pgSource("shop", db), amount).topology)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	// The app's own session and the newcomer's have a way each.
	source := sources.NewDatabase("shop", &twoWays{
		Connector: postgres.Source(postgres.Config{URL: db.URL}),
		joining: postgres.Source(postgres.Config{
			URL: u.String(), SnapshotChunkRows: 500, SnapshotRateLimit: 3000,
		}),
	})
	stop := trickle(t, db)
	first, second := newSum(t, "first", source, amount), newSum(t, "second", source, amount)
	cuts := 0
	// Each commit of the newcomer but the last that may be finds its connections cut.
	off := failpoint.Set(failpoint.JoinerSync, func(hit int) error {
		if hit <= 3 {
			cuts++
			proxy.Cut()
		}
		return nil
	})
	defer off()
	app = start(t, cfg, first.topology, second.topology, copied(t, source, target, "copy"))
	if err := app.app.WaitFor(deadline(t), nil); err != nil {
		t.Fatal(err, app.stop())
	}
	for i := range 3 { // while it copies
		before := proxy.Accepted()
		await.That(t, "that it copies", func() bool {
			return db.String("select count(*) from pg_stat_activity where query like 'COPY%items%'") != "0"
		})
		proxy.Cut()
		await.That(t, "that it begins anew", func() bool { return anew.Load() > int64(i) })
		await.That(t, "that it comes again", func() bool { return proxy.Accepted() > before })
		if took := lag(t, db, first, 1_000_000+i); took > 5*time.Second {
			t.Errorf("after cut %d a row was shown after %s", i, took)
		}
	}
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	stop()
	if cuts < 2 {
		t.Errorf("%d cuts while it caught up", cuts)
	}
	first.equal(t, db, "shop")
	second.equal(t, db, "shop")
	sameCopy(t, db, wh, "copy")
	oneSlot(t, db)
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}

// twoWays opens the sessions of newcomers by a way of their own.
type twoWays struct {
	sources.Connector
	joining sources.Connector
}

func (w *twoWays) Open(ctx context.Context, req sources.OpenRequest) (sources.Session, error) {
	if req.Joins != "" {
		return w.joining.Open(ctx, req)
	}
	return w.Connector.Open(ctx, req)
}

// counter is a log that counts how often newcomers begin anew.
type counter struct{ atomic.Int64 }

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }
func (c *counter) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c *counter) WithGroup(string) slog.Handler            { return c }

func (c *counter) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "begin anew") {
		c.Add(1)
	}
	return nil
}

// stuck is a source that cannot drop the slots of newcomers once it has made one.
type stuck struct {
	sources.Connector
	made atomic.Bool
}

func (s *stuck) Open(ctx context.Context, req sources.OpenRequest) (sources.Session, error) {
	s.made.Store(req.Joins != "")
	return s.Connector.Open(ctx, req)
}

func (s *stuck) Drop(ctx context.Context, req sources.DropRequest) error {
	if s.made.Load() {
		return errors.New("the connection is refused")
	}
	return s.Connector.Drop(ctx, req)
}

// TestDestroyAfterNewcomer removes what is left of an app from which a topology was removed
// that died on its way and could not drop its slot.
func TestDestroyAfterNewcomer(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema)
	cfg := tailrace.Config{App: "gone", StateDir: t.TempDir() + "/state"}
	begin := func(source *sources.Database, names ...string) started {
		var topologies []*topology.Topology
		for _, name := range names {
			topologies = append(topologies, newSum(t, name, source, amount).topology)
		}
		return start(t, cfg, topologies...)
	}
	app := begin(pgSource("shop", db), "first")
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	killed := errors.New("killed")
	source := sources.NewDatabase("shop", &stuck{Connector: postgres.Source(postgres.Config{URL: db.URL})})
	off := failpoint.Set(failpoint.JoinerSync, func(int) error { return killed })
	defer off()
	app = begin(source, "first", "second")
	if err := app.wait(t); !errors.Is(err, killed) {
		t.Fatalf("the app ended with %v", err)
	}
	if n := db.String("select count(*) from pg_replication_slots where database = current_database()"); n != "2" {
		t.Fatalf("%s slots are left by the crash, want the app's and the newcomer's", n)
	}
	again, err := tailrace.New(cfg, newSum(t, "first", pgSource("shop", db), amount).topology)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Destroy(deadline(t)); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, db)
}
