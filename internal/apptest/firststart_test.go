package apptest

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// TestFirstStartRefused starts an app with a type that does not fit one table, and with
// another table that is not there: the error says both, and nothing is created.
func TestFirstStartRefused(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema)
	source := pgSource("shop", db)
	b := topology.New("t")
	sinks.View(sources.Table[int64, struct{ Extra int64 }](b, source, "public.items"), "extra")
	sinks.View(sources.Table[int64, item](b, source, "public.gone"), "gone")
	topo, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	app := start(t, tailrace.Config{App: "refused", StateDir: t.TempDir() + "/state"}, topo)
	err = app.waitEnd(t)
	for _, word := range []string{"public.gone", "Extra"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
	nothingLeft(t, db)

	b = topology.New("t")
	sinks.View(sources.Table[int64, struct{ Extra int64 }](b, source, "public.items"), "extra")
	if topo, err = b.Build(); err != nil {
		t.Fatal(err)
	}
	app = start(t, tailrace.Config{App: "refused", StateDir: t.TempDir() + "/state"}, topo)
	if err := app.waitEnd(t); err == nil || !strings.Contains(err.Error(), "Extra") {
		t.Errorf("the app ended with %v", err)
	}
	nothingLeft(t, db)
}

// TestFirstStartWithWrongTarget starts an app with targets of which each is wrong in another
// way: the error says all of it, and nothing is made, in the source as in a target. A start with
// a target that is down goes on.
func TestFirstStartWithWrongTarget(t *testing.T) {
	db, wh := pgservertest.New(t), pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items values (1, 10)")
	wh.Exec("create table rows (key bigint primary key, amount text not null)")
	missing, err := url.Parse(wh.URL)
	if err != nil {
		t.Fatal(err)
	}
	missing.Path = "/nowhere"
	target := func(url string) sinks.Connector {
		return pgsink.Target(pgsink.Config{URL: url, CreateTables: true})
	}
	run := func(targets map[string]sinks.Connector) started {
		b := topology.New("t")
		in := sources.Table[int64, item](b, pgSource("shop", db), "public.items")
		for name, c := range targets {
			table := "rows"
			switch name {
			case "loop":
				table = "items"
			case "one", "other":
				table = "fresh"
			}
			sinks.Table(in, sinks.NewTarget(name, c), table)
		}
		return start(t, tailrace.Config{App: "refused", StateDir: t.TempDir() + "/state"}, b.MustBuild())
	}
	app := run(map[string]sinks.Connector{"shape": target(wh.URL), "place": target(missing.String())})
	err = app.waitEnd(t)
	for _, words := range []string{
		`target "shape"`, `"amount" TYPE bigint`, `target "place"`, "CREATE DATABASE",
	} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("the error does not say %q: %v", words, err)
		}
	}
	nothingLeft(t, db)
	// Which system a database is, the app knows no sooner than when it is connected.
	app = run(map[string]sinks.Connector{"loop": target(db.URL)})
	if err := app.waitEnd(t); !errors.Is(err, sinks.ErrTargetSchema) ||
		!strings.Contains(err.Error(), "feedback") {
		t.Errorf("a target that is the source: %v", err)
	}
	nothingLeft(t, db)
	// Two that would both make a table.
	app = run(map[string]sinks.Connector{"one": target(wh.URL), "other": target(wh.URL)})
	if err := app.waitEnd(t); !errors.Is(err, sinks.ErrTableTaken) ||
		!strings.Contains(err.Error(), `targets "one" and "other" of this app would both write`) {
		t.Errorf("two targets that write one table: %v", err)
	}
	nothingLeft(t, db)
	if got := wh.Strings("select tablename from pg_tables where schemaname = 'public'"); fmt.Sprint(got) !=
		"[[rows]]" {
		t.Errorf("the target has %v", got)
	}
	proxy, err := faultproxy.New(wh.Server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = proxy.Close() }()
	proxy.Refuse(true)
	app = run(map[string]sinks.Connector{"down": target(wh.URLVia(proxy.Addr()))})
	ready(t, app)
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}
