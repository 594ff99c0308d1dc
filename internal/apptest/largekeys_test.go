package apptest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// TestLargeKeys changes rows of which a part of the key, or a value beside a key that
// moves, lies outside of the row, so that the log has it in the old row only or not at all.
func TestLargeKeys(t *testing.T) {
	type key struct {
		Name string
		Part int64
	}
	type row struct {
		N    int64
		Note *string
	}
	const columns = " (name text, part bigint, n bigint not null, note text, primary key (name, part)"
	db := pgservertest.New(t)
	for _, table := range []string{"keys", "full_keys"} {
		db.Exec("create table "+table+columns+")",
			"alter table "+table+" alter name set storage external, alter note set storage external")
	}
	db.Exec("alter table full_keys replica identity full",
		"create table parts"+columns+") partition by range (part)",
		"create table parts_low partition of parts for values from (0) to (100)",
		"create table parts_high partition of parts for values from (100) to (200)",
		"alter table parts_low alter name set storage external, alter note set storage external",
		"alter table parts_high alter name set storage external, alter note set storage external",
		"alter table parts_high replica identity full", // and the root while the app runs
	)
	tables := []string{"keys", "full_keys", "parts"}
	shop, b := pgSource("shop", db), topology.New("large")
	var views []*view.View[key, row]
	for _, table := range tables {
		db.Exec("insert into " + table + " select repeat(md5(i::text), 70), i, i, repeat('x', 5000 + i::int) " +
			"from generate_series(1, 6) i")
		views = append(views, sinks.View(sources.Table[key, row](b, shop, "public."+table), table))
	}
	app := start(t, tailrace.Config{App: "large", StateDir: t.TempDir() + "/state"}, b.MustBuild())
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	db.Exec("alter table parts replica identity full")
	for _, change := range []string{
		"update T set n = n + 1 where part < 4",
		"update T set part = part + 10 where part = 2",
		"update T set part = part + 100 where part = 3",
		"update T set part = part + 1, n = 0 where part = 103",
		"update T set name = name || 'z' where part = 4",
		"insert into T values (repeat('8', 2400), 8, 8, null)",
		"update T set n = 9 where part = 8",
		"delete from T where part in (5, 104)",
	} {
		for i, table := range tables {
			db.Exec(strings.ReplaceAll(change, "T", table))
			if err := views[i].WaitFor(deadline(t), head(t, db)); err != nil {
				t.Fatal(err, app.stop())
			}
			var got []string
			rows := views[i].Range(deadline(t), view.Span[key]{})
			for k, v := range rows.All() {
				note := -1
				if v.Note != nil {
					note = len(*v.Note)
				}
				got = append(got, fmt.Sprint(k.Part, " ", len(k.Name), k.Name[:4], " ", v.N, " ", note))
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, r := range db.Strings("select part || ' ' || length(name) || left(name, 4) || ' ' || n || ' ' || " +
				"coalesce(length(note), -1) from " + table) {
				want = append(want, r[0])
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s after %q: the view has\n%s\nSQL\n%s",
					table, change, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
}
