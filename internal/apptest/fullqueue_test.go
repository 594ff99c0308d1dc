package apptest

import (
	"fmt"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// fullQueueEvent is a row of an outbox.
type fullQueueEvent struct{ What string }

// A queue that is full from before keeps no start from committing the snapshot of a changed
// topology, for which the others wait: nobody would make room.
func TestChangedBehindFullQueue(t *testing.T) {
	db, wh := pgservertest.New(t), pgservertest.New(t)
	db.Exec(itemsSchema, "create table outbox (id bigint primary key, what text not null)")
	p, err := faultproxy.New(wh.Server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	cfg := tailrace.Config{App: "full", StateDir: t.TempDir() + "/state", QueueBytes: 20_000}
	run := func(version int) started {
		src := pgSource("shop", db)
		target := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{
			URL: wh.URLVia(p.Addr()), CreateTables: true,
		}))
		a := topology.New("kept")
		sinks.Table(sources.Table[int64, item](a, src, "public.items"), target, "kept")
		b := topology.New("changed", topology.Version(version))
		sinks.Table(sources.Table[int64, item](b, src, "public.items"), target, "changed")
		sinks.Stream(sources.Outbox[int64, fullQueueEvent](b, src, "public.outbox"), target, "events")
		return start(t, cfg, a.MustBuild(), b.MustBuild())
	}
	app := run(0)
	await.That(t, "the target has the tables", func() bool {
		return wh.String("select count(*) from pg_tables where tablename in ('kept', 'changed')") == "2"
	})
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	p.Refuse(true)
	p.Cut()
	for i := range 10 {
		db.Exec(fmt.Sprintf("insert into items select g, 1 from generate_series(%d, %d) g",
			i*1000, i*1000+999))
	}
	await.That(t, "the app waits for the target", func() bool {
		return app.app.Status().WaitingFor == "warehouse"
	})
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	db.Exec("insert into items select g, 2 from generate_series(10000, 10999) g")
	app = run(1)
	p.Refuse(false)
	for _, table := range []string{"kept", "changed"} {
		await.That(t, "the target holds what the source does", func() bool {
			return wh.String("select count(*) || ' ' || sum(amount) from "+table) ==
				db.String("select count(*) || ' ' || sum(amount) from items")
		})
	}
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}

// Tables may move between targets of an app in one database, and change places, whatever
// target is opened first.
func TestTablesMoveBetweenTargets(t *testing.T) {
	db, wh := pgservertest.New(t), pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items select i, i from generate_series(1, 100) i")
	cfg := tailrace.Config{App: "moves", StateDir: t.TempDir() + "/state"}
	for version, tables := range [][2][]string{
		{{"x"}, {"y", "z"}}, {{"x", "z"}, {"y"}}, {{"y"}, {"z", "x"}}, {{"z", "x"}, {"y"}}, {{"y"}, {"z", "x"}},
	} {
		src := pgSource("shop", db)
		var topologies []*topology.Topology
		for i, name := range []string{"lake", "warehouse"} {
			b := topology.New("of-"+name, topology.Version(version))
			items := sources.Table[int64, item](b, src, "public.items")
			to := sinks.NewTarget(name, pgsink.Target(pgsink.Config{URL: wh.URL, CreateTables: true}))
			for _, table := range tables[i] {
				sinks.Table(items, to, table)
			}
			topologies = append(topologies, b.MustBuild())
		}
		app := start(t, cfg, topologies...)
		db.Exec(fmt.Sprintf("update items set amount = amount + 1 where id %% 5 = %d", version))
		for _, table := range []string{"x", "y", "z"} {
			await.That(t, table+" holds what the source does", func() bool {
				return wh.String("select to_regclass('"+table+"') is not null") == "t" &&
					wh.String("select count(*) || ' ' || sum(amount) from "+table) ==
						db.String("select count(*) || ' ' || sum(amount) from items")
			})
		}
		if err := app.stop(); err != nil {
			t.Fatal(err)
		}
	}
}
