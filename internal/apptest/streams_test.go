package apptest

import (
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
	"github.com/tailrace/tailrace/windows"
)

// counted is an app that shows how often each text has come in a stream.
type counted struct {
	t    *testing.T
	db   *pgservertest.DB
	cfg  tailrace.Config
	in   func(b *topology.Builder, shop *sources.Database) operators.Grouped[string, string]
	view *view.View[string, int64]
	app  started
}

func (c *counted) start(partitions int) {
	c.t.Helper()
	b := topology.New("counted")
	c.view = sinks.View(operators.Aggregate("count", c.in(b, pgSource("shop", c.db)),
		aggregate.Count[string]()), "counts")
	c.cfg.Partitions = partitions
	c.app = start(c.t, c.cfg, b.MustBuild())
	ready(c.t, c.app)
}

// shows compares the view with what is expected now.
func (c *counted) shows(want ...string) {
	c.t.Helper()
	if err := c.view.WaitFor(deadline(c.t), head(c.t, c.db)); err != nil {
		c.t.Fatal(err, c.app.stop())
	}
	if got := shown(c.t, c.view); !slices.Equal(got, want) {
		c.t.Errorf("got %q, want %q", got, want)
	}
}

func (c *counted) stop() {
	c.t.Helper()
	if err := c.app.stop(); err != nil {
		c.t.Fatal(err)
	}
}

// TestMessages counts logical messages. Those of a transaction that is rolled back do not
// count, those outside of transactions do, whatever becomes of the session's own; and what
// is written while the app is away counts once.
func TestMessages(t *testing.T) {
	c := &counted{
		t: t, db: pgservertest.New(t), cfg: tailrace.Config{App: "notes", StateDir: t.TempDir() + "/state"},
		in: func(b *topology.Builder, shop *sources.Database) operators.Grouped[string, string] {
			texts := operators.MapStreamValues(sources.Messages(b, shop, "notes"),
				func(_ string, m []byte) string { return string(m) })
			return operators.GroupBy(texts, func(_, text string) string { return text })
		},
	}
	emit := func(transactional bool, prefix, text string) string {
		return fmt.Sprintf("select pg_logical_emit_message(%v, '%s', '%s')", transactional, prefix, text)
	}
	c.db.Exec(emit(true, "notes", "before the first start"))
	c.start(1)
	c.db.Exec(emit(true, "notes", "in"), emit(false, "notes", "out"), emit(true, "other", "not read"),
		"begin; "+emit(true, "notes", "undone")+"; "+emit(false, "notes", "out")+"; rollback",
		"begin; "+emit(true, "notes", "in")+"; "+emit(true, "notes", "in")+"; commit")
	c.shows("in=3", "out=2")
	c.stop()
	// One outside of a transaction is on its way when the next commit is.
	c.db.Exec(emit(false, "notes", "out"), emit(true, "notes", "in"))
	c.start(2)
	c.shows("in=4", "out=3")
	c.db.Exec(emit(false, "notes", "out"), emit(true, "notes", "in"))
	c.shows("in=5", "out=4")
	c.stop()
}

// TestTableWithoutKey counts the rows of a table that has no key, many of which are alike.
// The application may update and delete its rows: that is no event, and nothing refuses it.
func TestTableWithoutKey(t *testing.T) {
	type click struct{ Page sql.Null[string] }
	c := &counted{
		t: t, db: pgservertest.New(t), cfg: tailrace.Config{App: "clicks", StateDir: t.TempDir() + "/state"},
		in: func(b *topology.Builder, shop *sources.Database) operators.Grouped[string, string] {
			clicks := sources.Stream[sources.NoKey, click](b, shop, "public.clicks",
				sources.WithSnapshot[click]())
			pages := operators.MapStreamValues(clicks, func(_ sources.NoKey, c click) string { return c.Page.V })
			return operators.GroupBy(pages, func(_ sources.NoKey, page string) string { return page })
		},
	}
	c.db.Exec("create table clicks (page text)", "insert into clicks values ('home'), ('home'), ('cart')")
	c.start(2)
	c.shows("cart=1", "home=2")
	c.db.Exec("insert into clicks values ('home'), ('home')", "insert into clicks values ('cart')",
		"update clicks set page = 'gone' where page = 'cart'", "delete from clicks where page = 'home'")
	c.shows("cart=2", "home=4")
	c.stop()
	c.db.Exec("insert into clicks values ('home'), ('back')")
	c.start(1)
	c.shows("back=1", "cart=2", "home=5")
	c.stop()
}

// TestWindowsCloseWhileIdle has windows show when they close, of a database in which nothing
// happens any more: heartbeats in its log let time pass.
func TestWindowsCloseWhileIdle(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema)
	shop := sources.NewDatabase("shop", postgres.Source(postgres.Config{
		URL: db.URL, HeartbeatInterval: 100 * time.Millisecond, MonitorInterval: 100 * time.Millisecond,
	}))
	b := topology.New("closing")
	all := operators.GroupBy(sources.Stream[int64, item](b, shop, "public.items"),
		func(int64, item) string { return "all" })
	closed := sinks.View(operators.Aggregate("per-window",
		operators.Window(all, windows.Tumbling(200*time.Millisecond)),
		aggregate.Sum(amount), operators.EmitOnClose()), "closed")
	app := start(t, tailrace.Config{App: "idle", StateDir: t.TempDir() + "/state"}, b.MustBuild())
	ready(t, app)
	db.Exec("insert into items values (1, 1), (2, 2)", "insert into items values (3, 4)")
	await.That(t, "the sums of windows that have closed", func() bool {
		total := int64(0)
		for _, n := range closed.Range(t.Context(), view.Span[windows.Windowed[string]]{}).All() {
			total += n
		}
		return total == 7
	})
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
}
