package apptest

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

// TestSlotLost has the server remove the log of a slot that is being read, over a connection
// that has stopped to move: the app says so when it moves again and at the next start, and
// begins anew once its state was dropped, as it says. The view and the target then have what
// was written meanwhile and no row that was deleted.
func TestSlotLost(t *testing.T) {
	db := pgservertest.New(t, pgservertest.Private(map[string]string{"fsync": "off",
		"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}))
	db.Exec(itemsSchema, "create table noise (x text)",
		"insert into items select i, i from generate_series(1, 100) i")
	proxy, err := faultproxy.New(db.Server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	wh := pgservertest.New(t)
	cfg := tailrace.Config{App: "lost", StateDir: t.TempDir() + "/state"}
	begin := func() (started, func() []string) {
		b := topology.New("rows")
		items := sources.Table[int64, item](b, sources.NewDatabase("shop",
			postgres.Source(postgres.Config{URL: db.URLVia(proxy.Addr())})), "public.items")
		sinks.Table(items, sinks.NewTarget("warehouse",
			pgsink.Target(pgsink.Config{URL: wh.URL, CreateTables: true})), "items")
		v := sinks.View(items, "items")
		topo, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		return start(t, cfg, topo), func() []string {
			if err := v.WaitFor(deadline(t), head(t, db)); err != nil {
				t.Fatal(err)
			}
			return shown(t, v)
		}
	}
	app, _ := begin()
	ready(t, app)
	slot := db.String("select slot_name from pg_replication_slots")
	proxy.Blackhole(true)
	db.Exec("delete from items where id % 3 = 0", "insert into items values (1000, 1000)")
	for range 6 {
		db.Exec("insert into noise select repeat('x', 1000) from generate_series(1, 2000) i", "select pg_switch_wal()")
	}
	db.Exec("checkpoint")
	await.That(t, "the slot is lost", func() bool {
		return db.String("select wal_status from pg_replication_slots") == "lost"
	})
	proxy.Blackhole(false)
	for _, when := range []string{"while it runs", "at its start"} {
		err := app.wait(t)
		if !errors.Is(err, postgres.ErrSlotLost) || !errors.Is(err, sources.ErrDataGap) ||
			!strings.Contains(err.Error(), "run tailrace drop (App.Destroy), remove the state directory") ||
			!strings.Contains(err.Error(), "SELECT pg_drop_replication_slot('"+slot+"');") {
			t.Errorf("%s: got %v", when, err)
		}
		app, _ = begin()
	}
	_ = app.stop() // The third time it is the same.
	if err := app.app.Destroy(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(cfg.StateDir); err != nil {
		t.Fatal(err)
	}
	app, rows := begin()
	ready(t, app)
	db.Exec("update items set amount = -1 where id = 1000")
	sql := func(db *pgservertest.DB, key string) (out []string) {
		for _, row := range db.Strings("select " + key + ", amount from items order by 1") {
			out = append(out, row[0]+"={"+row[1]+"}")
		}
		return out
	}
	want := sql(db, "id")
	if got := rows(); !slices.Equal(got, want) {
		t.Errorf("the view has %v, SQL %v", got, want)
	}
	await.That(t, "the target is equal to SQL", func() bool { return slices.Equal(sql(wh, "key"), want) })
}
