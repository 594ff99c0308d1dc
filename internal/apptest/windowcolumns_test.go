package apptest

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

type reading struct {
	Room  string
	Floor sql.Null[int32]
	At    time.Time
}

// place is a key of two columns.
type place struct {
	Room  string
	Floor sql.Null[int32]
}

// windowed has tables of windows in a target, and SQL for each.
func windowed(source *sources.Database, target *sinks.Target) *topology.Topology {
	b := topology.New("windowed")
	in := sources.Table[int64, reading](b, source, "public.readings")
	at := func(r reading) time.Time { return r.At }
	places := operators.GroupBy(in, func(_ int64, r reading) place { return place{r.Room, r.Floor} })
	quarters := operators.WindowBy(places, windows.Tumbling(15*time.Minute), at)
	sinks.Table(operators.Aggregate("per-place", quarters, aggregate.Count[reading]()), target, "per_place")
	rooms := operators.GroupBy(in, func(_ int64, r reading) string { return r.Room })
	sinks.Table(operators.Aggregate("per-room", operators.WindowBy(rooms, windows.Tumbling(time.Hour), at),
		aggregate.Count[reading]()), target, "per_room")
	events := sources.Stream[int64, reading](b, source, "public.readings", sources.As[reading]("events"),
		sources.WithSnapshot[reading](), sources.EventTime(at))
	sinks.Table(operators.Aggregate("sessions", operators.Window(operators.GroupBy(events,
		func(_ int64, r reading) string { return r.Room }), windows.Session(10*time.Minute).Grace(1000*time.Hour)),
		aggregate.Count[reading]()), target, "sessions")
	return b.MustBuild()
}

// windowedSQL is what the tables hold, in the words of SQL.
var windowedSQL = map[string]string{
	"select room, floor, window_start, window_end, value from per_place": `select room, floor,
		date_bin('15 minutes', at, 'epoch'), date_bin('15 minutes', at, 'epoch') + '15 minutes', count(*)
		from readings group by 1, 2, 3`,
	"select key, window_start, window_end, value from per_room": `select room, date_bin('1 hour', at, 'epoch'),
		date_bin('1 hour', at, 'epoch') + '1 hour', count(*) from readings group by 1, 2`,
	"select key, window_start, window_end, value from sessions": `select room, min(at), max(at), count(*) from (
		select *, count(*) filter (where begins) over (partition by room order by at) as session from (
		select *, at - lag(at) over (partition by room order by at) > '10 minutes' as begins from history) a) b
		group by room, session`,
}

// TestWindowColumns compares tables of keys in windows with date_bin: windows are columns, next
// to those of the key, in tables that are made and in those that were there, after changes and
// after the state was lost.
func TestWindowColumns(t *testing.T) {
	db, wh := pgservertest.New(t), pgservertest.New(t)
	db.Exec("create table readings (id bigint primary key, room text not null, floor int, at timestamptz not null)",
		"create table history (room text, at timestamptz)",
		"create function keep() returns trigger language plpgsql as "+
			"$$begin insert into history values (new.room, new.at); return null; end$$",
		"create trigger keep after insert on readings for each row execute function keep()")
	wh.Exec("create table per_room (key text, \"window\" jsonb, value bigint not null, primary key (key, \"window\"))")
	insert := func(from, to int) {
		t.Helper()
		db.Exec(fmt.Sprintf("insert into readings select i, 'room ' || i %% 3, nullif(i %% 2, 0), "+
			"timestamptz '1969-12-31 22:00Z' + i * i * interval '41 seconds 3 microseconds' "+
			"from generate_series(%d, %d) i", from, to))
	}
	insert(1, 60)
	cfg := tailrace.Config{App: "windowed", StateDir: t.TempDir() + "/state"}
	run := func() started {
		return start(t, cfg, windowed(pgSource("shop", db),
			sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: wh.URL, CreateTables: true}))))
	}
	err := run().waitEnd(t)
	if !errors.Is(err, sinks.ErrTargetSchema) ||
		!strings.Contains(err.Error(), `ADD COLUMN "window_start" timestamptz`) ||
		!strings.Contains(err.Error(), `ADD COLUMN "window_end" timestamptz`) {
		t.Fatalf("a table without the columns: %v", err)
	}
	wh.Exec("drop table per_room", "create table per_room (note text default 'kept', window_end timestamptz, "+
		"window_start timestamptz, value bigint not null, key text, primary key (window_start, key, window_end))",
		"insert into per_room values ('gone', 'infinity', '-infinity', 1, 'room 0')")
	shows := func() {
		t.Helper()
		await.That(t, "the tables are there", func() bool {
			return len(wh.Strings("select from pg_tables where schemaname = 'public' and tablename in "+
				"('per_place', 'per_room', 'sessions')")) == 3
		})
		for got, want := range windowedSQL {
			var have, should string
			t.Cleanup(func() {
				if t.Failed() && have != should {
					t.Errorf("%s is\n%s\nand should be\n%s", got, have, should)
				}
			})
			await.That(t, "the target shows what SQL does", func() bool {
				have, should = rowsText(wh, got), rowsText(db, want)
				return have == should
			})
		}
	}
	app := run()
	shows()
	db.Exec("update readings set at = at + interval '7 minutes', floor = 5 where id % 4 = 0",
		"delete from readings where id % 7 = 0")
	insert(61, 90)
	shows()
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(cfg.StateDir); err != nil {
		t.Fatal(err)
	}
	db.Exec("delete from readings where id % 5 = 0", "delete from history", // sessions begin with what is there
		"insert into history select room, at from readings")
	wh.Exec("insert into per_place values ('nowhere', 1, 'epoch', 'epoch', 1)")
	app = run()
	shows()
	if n := wh.String("select count(*) from per_place"); n == "0" {
		t.Error("the table is empty")
	}
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
}

// rowsText is the rows of a query in one order.
func rowsText(db *pgservertest.DB, query string) string {
	return db.String("select coalesce(string_agg(r::text, E'\n' order by r::text collate \"C\"), '') from (" +
		query + ") r")
}
