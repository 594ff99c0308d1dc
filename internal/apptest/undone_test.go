package apptest

import (
	"context"
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

// undone are changes that are taken back once rows were written, so that the catalog shows
// nothing of them by the time that the rows are read; or changes that the log does not tell
// apart from none. T is the table. held is what the topology is held for, "" where it goes on.
// late is what a transaction writes then that began before.
var undone = []struct{ name, sql, held, late string }{
	{"a table renamed", `alter table T rename to T_x; insert into T_x values (8, 8);
		update T_x set amount = 7 where id = 1; alter table T_x rename to T`, "it is called public.T_x now", ""},
	{"a table moved", `create schema S_T; alter table T set schema S_T; insert into S_T.T values (8, 8);
		alter table S_T.T set schema public`, "it is called S_T.T now", ""},
	{"columns that change names", `alter table T rename amount to x; alter table T rename other to amount;
		insert into T (id, x, amount) values (8, 20, 99); update T set x = 11 where id = 1;
		alter table T rename amount to other; alter table T rename x to amount`, `column "amount" is another one`, ""},
	{"a column beside the one of its name", `alter table T rename amount to x; alter table T add column amount bigint;
		insert into T (id, x, amount) values (8, 20, 99); alter table T drop column amount;
		alter table T rename x to amount`, `column "amount" is another one`, ""},
	{"a column renamed", `alter table T rename amount to x; insert into T (id, x) values (8, 20);
		alter table T rename x to amount`, `amount`, ""},
	{"the last column dropped and added again", `alter table T drop column last;
		alter table T add column last bigint not null default 7; update T set amount = amount + 1`,
		`another one: it was dropped and added again`, ""},
	{"the same in a subtransaction", `do $$ begin
		begin alter table T drop column last, add column last bigint not null default 7;
			exception when others then null; end;
		update T set last = 9 where id = 1; end $$`, `another one: it was dropped and added again`, ""},
	{"the same before an older transaction writes", `alter table T drop column last,
		add column last bigint not null default 7`, `another one: it was dropped and added again`,
		`insert into T values (8, 8)`},
	{"a column retyped", `alter table T alter amount type text using 'x' || amount; insert into T values (8, '5');
		alter table T alter amount type bigint using 3`, `column "amount"`, ""},
	{"a partition's identity", `create unique index T_u on T_p (last, amount);
		alter table T_p replica identity using index T_u; update T set last = 10 where id = 1;
		delete from T; alter table T_p replica identity default`, "had a replica identity of its own", ""},

	{"another table in its place", `alter table T rename to T_x; create table T (like T_x including all);
		insert into T values (8, 8); drop table T; alter table T_x rename to T; insert into T values (9, 9)`, "", ""},
	{"a column that nobody reads renamed", `alter table T rename other to x; insert into T (id, amount, x) values (8, 8, 8);
		alter table T rename x to other`, "", ""},
	{"a column that nobody reads added", `alter table T add column more int; insert into T (id, amount, more) values (8, 8, 8);
		alter table T drop column more; insert into T values (9, 9)`, "", ""},
	{"a column that nobody reads dropped", `insert into T values (8, 8); alter table T drop column other;
		insert into T (id, amount) values (9, 9)`, "", ""},
}

type undoneRow struct{ Amount, Last int64 }

// TestUndone changes tables and takes it back with rows in between, while the app runs, in
// one transaction, and while it does not, one by one. Where these rows do not go with the
// others the topology stands before them; it never shows what SQL does not.
func TestUndone(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec("create table ticks (id bigint primary key, amount bigint not null)", "insert into ticks values (1, 1)")
	shop := sources.NewDatabase("shop", postgres.Source(postgres.Config{
		URL: db.URL, MonitorInterval: time.Hour,
	}))
	cfg := tailrace.Config{App: "undone", StateDir: t.TempDir() + "/state"}
	var tables [2][]string
	for j, mode := range []string{"running", "stopped"} {
		for i := range undone {
			name := fmt.Sprint(mode, i)
			tables[j] = append(tables[j], name)
			parts := ""
			if strings.Contains(undone[i].sql, "T_p") {
				parts = " partition by range (id); create table " + name + "_p partition of " + name + " default"
			}
			db.Exec("create table "+name+" (id bigint primary key, junk int, amount bigint not null, "+
				"other bigint not null default 77, last bigint not null default 5)"+parts,
				"alter table "+name+" drop column junk", "insert into "+name+" values (1, 1)")
		}
	}
	views := map[string]*view.View[int64, undoneRow]{}
	var ticks *view.View[int64, item]
	begin := func() started {
		other := topology.New("ticks")
		ticks = sinks.View(sources.Table[int64, item](other, shop, "public.ticks"), "ticks")
		all := []*topology.Topology{other.MustBuild()}
		for _, name := range slices.Concat(tables[0], tables[1]) {
			b := topology.New(name)
			views[name] = sinks.View(sources.Table[int64, undoneRow](b, shop, "public."+name), name)
			all = append(all, b.MustBuild())
		}
		return start(t, cfg, all...)
	}
	app := begin()
	ready(t, app)
	rows := func(name string) (out []string) {
		for _, r := range db.Strings("select id, amount, last from " + name + " order by id") {
			out = append(out, r[0]+"={"+strings.Join(r[1:], " ")+"}")
		}
		return out
	}
	tick := func() {
		t.Helper()
		db.Exec("update ticks set amount = amount + 1")
		if err := ticks.WaitFor(deadline(t), head(t, db)); err != nil {
			t.Fatal(err, app.app.Status().Held, app.stop())
		}
	}
	check := func(i, mode int, want []string) {
		t.Helper()
		c, name := undone[i], tables[mode][i]
		tick()
		err := app.app.Status().Held[name]
		if c.held == "" {
			want = rows(name)
		}
		if got := shown(t, views[name]); !slices.Equal(got, want) {
			t.Errorf("%s: the view of %s has %q, want %q; held for %v", c.name, name, got, want, err)
		}
		held := strings.NewReplacer("S_T", "s_"+name, "T_x", name+"_x", "T", name).Replace(c.held)
		if (err != nil) != (held != "") || err != nil && (!errors.Is(err, sources.ErrSchema) ||
			!strings.Contains(err.Error(), held) || !strings.Contains(err.Error(), "Version")) {
			t.Errorf("%s: %s is held for %v, want %q", c.name, name, err, held)
		}
	}
	sqlOf := func(i, mode int) string {
		name := tables[mode][i]
		return strings.NewReplacer("S_T", "s_"+name, "T_x", name+"_x", "T", name).Replace(undone[i].sql)
	}
	late := func(i, mode int, sql ...string) {
		tx, err := db.Pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(context.Background())
		if _, err := tx.Exec(t.Context(), "select txid_current()"); err != nil {
			t.Fatal(err)
		}
		db.Exec(sql...)
		if _, err := tx.Exec(t.Context(), strings.ReplaceAll(undone[i].late, "T", tables[mode][i])); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range undone {
		name := tables[0][i]
		db.Exec("insert into " + name + " values (2, 2)")
		tick() // What is read once the table is altered may be held as well.
		want := rows(name)
		late(i, 0, "begin; "+sqlOf(i, 0)+"; commit")
		check(i, 0, want)
	}
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	wants := make([][]string, len(undone))
	for i := range undone {
		wants[i] = rows(tables[1][i])
		parts := []string{sqlOf(i, 1)}
		if !strings.HasPrefix(parts[0], "do ") {
			parts = strings.Split(parts[0], ";")
		}
		late(i, 1, parts...)
	}
	app = begin()
	await.That(t, "the app to be there", func() bool {
		s := app.app.Status()
		return s.Ready || s.Stopped
	})
	for i := range undone {
		check(i, 1, wants[i])
	}
}
