package apptest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// altered is what is done to a table that a topology has read, and what the topology is
// then held for; "" where it goes on.
type altered struct {
	name, sql, held string
}

// alterations are those that the log tells nothing of, or not that rows before and after
// are not of one table.
var alterations = []altered{
	{"values written anew in the same type",
		`alter table goods alter amount type bigint using amount * 2`,
		`column "amount" was altered, and its values were written anew`},
	{"values written anew in another type", `alter table goods alter amount type int using amount * 2`,
		`column "amount" was of type bigint and is of type integer`},
	{"a column dropped and added again",
		`alter table goods drop column amount; alter table goods add column amount bigint not null default 7`,
		`column "amount" is another one`},
	{"columns that change names",
		`alter table goods rename amount to x; alter table goods rename other to amount; alter table goods rename x to other`,
		`column "amount" is another one`},
	{"a table dropped and made again",
		`drop table goods; create table goods (like goods_kept including all); insert into goods values (50, 0, 50, 'new', 'x')`,
		`it is not in publication`},
	{"tables that change names",
		`alter table goods rename to goods_old; alter table goods_kept rename to goods; insert into goods values (61, 0, 61, 'new', 'x')`,
		`it is not in publication`},
	{"another primary key",
		`alter table goods drop constraint goods_pkey; alter table goods add primary key (amount)`,
		`its key was (id) and is (amount)`},
	{"another replica identity",
		`alter table goods add constraint u unique (amount); alter table goods replica identity using index u`,
		`its key was (id) and is (amount)`},
	{"a value of an enumerated type renamed", `alter type mood rename value 'new' to 'fresh'`,
		`column "mood" has a value that was renamed from "new" to "fresh"`},
	{"a type that shows values otherwise without writing them", `alter table goods alter note type bpchar`,
		`which may show the same value otherwise`},

	{"rows moved to another file", `vacuum full goods`, ""},
	{"a constraint on a column", `alter table goods alter note set not null`, ""},
	{"a column that nobody reads", `alter table goods drop column other; alter table goods add column more int default 3`, ""},
	{"a wider type", `alter table goods alter note type varchar(20)`, ""},
	{"one more value of an enumerated type", `alter type mood add value 'worn' before 'new'`, ""},
	{"a larger replica identity", `alter table goods replica identity full`, ""},
	{"rows that all go", `truncate goods; insert into goods values (9, 9, 9, 'new', 'nine')`, ""},
	{"statistics", `analyze goods`, ""},
}

type good struct {
	Amount int64
	Mood   string
	Note   string
}

// TestAlteredTable alters a table while the app runs and while it does not. Where what a
// topology holds does not go with the rows that come, that topology is held and says what
// has happened, and others go on; its next version holds what SQL tells.
func TestAlteredTable(t *testing.T) {
	for _, running := range []bool{true, false} {
		for _, c := range alterations {
			t.Run(fmt.Sprintf("running %v/%s", running, c.name), func(t *testing.T) { alter(t, c, running) })
		}
	}
}

func alter(t *testing.T, c altered, running bool) {
	db := pgservertest.New(t)
	table := " (id bigint primary key, other bigint, amount bigint not null, mood mood not null, note varchar(10))"
	db.Exec("create type mood as enum ('new', 'old')",
		"create table goods"+table, "create table goods_kept"+table,
		"insert into goods values (1, 5, 10, 'new', 'one'), (2, 6, 20, 'old', 'two')",
		"create table ticks (id bigint primary key, amount bigint not null)", "insert into ticks values (1, 1)")
	shop := sources.NewDatabase("shop", postgres.Source(postgres.Config{
		URL: db.URL, MonitorInterval: 50 * time.Millisecond,
	}))
	cfg := tailrace.Config{App: "altered", StateDir: t.TempDir() + "/state"}
	var goods *view.View[int64, good]
	var ticks *view.View[int64, item]
	begin := func(version int) started {
		b := topology.New("goods", topology.Version(version))
		goods = sinks.View(sources.Table[int64, good](b, shop, "public.goods"), "goods")
		other := topology.New("ticks")
		ticks = sinks.View(sources.Table[int64, item](other, shop, "public.ticks"), "ticks")
		return start(t, cfg, b.MustBuild(), other.MustBuild())
	}
	app := begin(1)
	ready(t, app)
	if !running {
		if err := app.stop(); err != nil {
			t.Fatal(err)
		}
	}
	alone := strings.Contains(c.sql, "vacuum") || strings.Contains(c.sql, "add value")
	if sql := c.sql; alone {
		db.Exec(sql)
	} else {
		db.Exec("begin; " + sql + "; commit")
	}
	if !running {
		app = begin(1)
	}
	if c.held == "" {
		db.Exec("insert into goods (id, amount, mood, note) values (3, 30, 'old', 'three')",
			"update goods set amount = amount + 1 where id = 3")
		shows(t, db, app, goods)
		if held := app.app.Status().Held; len(held) > 0 {
			t.Errorf("held: %v", held)
		}
		return
	}
	await.That(t, "the topology to be held", func() bool { return len(app.app.Status().Held) > 0 })
	err := app.app.Status().Held["goods"]
	named := errors.Is(err, sources.ErrSchema) || errors.Is(err, sources.ErrDataGap)
	if !named || !strings.Contains(err.Error(), c.held) || !strings.Contains(err.Error(), "Version") {
		t.Errorf("it is held for %v", err)
	}
	db.Exec("update ticks set amount = amount + 1")
	if err := ticks.WaitFor(deadline(t), head(t, db)); err != nil {
		t.Error("the others do not go on:", err)
	}
	if err := app.stop(); err != nil {
		t.Error(err)
	}
	// It stands for good, until there is a new version.
	app = begin(1)
	await.That(t, "the topology to be held again", func() bool { return len(app.app.Status().Held) > 0 })
	if err := app.stop(); err != nil {
		t.Error(err)
	}
	app = begin(2)
	shows(t, db, app, goods)
}

// TestAlteredBeforeRows writes to a table right before and right after a change that the
// log describes: the topology stands with all from before, and with nothing from after.
func TestAlteredBeforeRows(t *testing.T) {
	for i, sql := range []string{
		"alter table goods rename amount to x; alter table goods rename other to amount; " +
			"alter table goods rename x to other",
		"alter table goods add constraint u unique (amount); alter table goods replica identity using index u",
		"alter table goods drop constraint goods_pkey; alter table goods add primary key (amount)",
		"alter table goods drop column amount; alter table goods add column amount bigint not null default 7",
	} {
		db := pgservertest.New(t)
		db.Exec("create table goods (id bigint primary key, amount bigint not null, other bigint not null default 0, "+
			"mood text default 'new', note text default '')", "insert into goods values (1, 10)",
			"create table ticks (id bigint primary key, amount bigint not null)")
		shop := sources.NewDatabase("shop", postgres.Source(postgres.Config{
			URL: db.URL, MonitorInterval: time.Hour,
		}))
		b, other := topology.New("goods"), topology.New("ticks")
		goods := sinks.View(sources.Table[int64, good](b, shop, "public.goods"), "goods")
		ticks := sinks.View(sources.Table[int64, item](other, shop, "public.ticks"), "ticks")
		cfg := tailrace.Config{App: fmt.Sprint("before", i), StateDir: t.TempDir() + "/state"}
		app := start(t, cfg, b.MustBuild(), other.MustBuild())
		ready(t, app)
		for id := range 20 {
			db.Exec(fmt.Sprintf("insert into goods values (%d, %d)", id+2, 1000+id))
		}
		want := goodsIn(t, db)
		db.Exec("begin; "+sql+"; update goods set other = other + 1; commit", "insert into ticks values (1, 1)")
		if err := ticks.WaitFor(deadline(t), head(t, db)); err != nil {
			t.Fatal(err, app.app.Status())
		}
		if got := shown(t, goods); !slices.Equal(got, want) {
			t.Errorf("%s: the view shows rows from after the change: %q, want %q", sql, got, want)
		}
		if err := app.app.Status().Held["goods"]; !errors.Is(err, sources.ErrSchema) {
			t.Errorf("%s: it is held for %v", sql, err)
		}
		if err := app.stop(); err != nil {
			t.Error(err)
		}
	}
}

// shows waits until a view is up to date and compares it with SQL.
func shows(t *testing.T, db *pgservertest.DB, app started, v *view.View[int64, good]) {
	t.Helper()
	ready(t, app)
	if err := v.WaitFor(deadline(t), head(t, db)); err != nil {
		t.Fatal(err, app.app.Status().Held)
	}
	if got, want := shown(t, v), goodsIn(t, db); !slices.Equal(got, want) {
		t.Errorf("the view has %q, SQL %q", got, want)
	}
}

// goodsIn are the rows that SQL has, under what identifies them now.
func goodsIn(t *testing.T, db *pgservertest.DB) (out []string) {
	t.Helper()
	key := db.String(`select attname from pg_index i join pg_attribute a on a.attrelid = indrelid and attnum = indkey[0]
		where indrelid = 'goods'::regclass and (indisprimary or indisreplident) order by indisreplident desc limit 1`)
	for _, r := range db.Strings("select " + key + ", amount, mood, coalesce(note, '') from goods order by 1") {
		out = append(out, r[0]+"={"+strings.Join(r[1:], " ")+"}")
	}
	return out
}
