package apptest

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
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

type click struct {
	Page string
	At   time.Time
}

// scrape returns the value of a metric, given as a line of /metrics without it.
func scrape(t *testing.T, app *tailrace.App, series string) float64 {
	t.Helper()
	w := httptest.NewRecorder()
	app.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`)
	found := line.FindStringSubmatch(w.Body.String())
	if found == nil {
		return -1
	}
	v, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestWorkMetrics scrapes what an app says of its output, its time and its stores.
func TestWorkMetrics(t *testing.T) {
	db, wh := pgservertest.New(t), pgservertest.New(t)
	db.Exec("create table clicks (id bigint primary key, page text not null, at timestamptz not null)",
		itemsSchema)
	shop := pgSource("shop", db)
	warehouse := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: wh.URL, CreateTables: true}))
	b := topology.New("work")
	clicks := sources.Stream[int64, click](b, shop, "public.clicks",
		sources.EventTime(func(c click) time.Time { return c.At }))
	counts := operators.Aggregate("clicks-per-minute",
		operators.Window(operators.GroupBy(clicks, func(_ int64, c click) string { return c.Page }),
			windows.Tumbling(time.Minute)), aggregate.Count[click]())
	v := sinks.View(counts, "counts")
	sinks.Table(sources.Table[int64, item](b, shop, "public.items"), warehouse, "copies")
	app := start(t, tailrace.Config{App: "work", StateDir: t.TempDir() + "/state"}, b.MustBuild())
	defer func() {
		if err := app.stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err)
	}
	for series, want := range map[string]float64{ // there before anything happens
		`tailrace_topology_held{app="work",topology="work"}`:           0,
		`tailrace_source_reconnects_total{app="work",database="shop"}`: 0,
		`tailrace_sink_retries_total{app="work",target="warehouse"}`:   0,
	} {
		if got := scrape(t, app.app, series); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	db.Exec("insert into clicks values (1, 'home', '2026-01-02 10:00:30Z'), (2, 'cart', '2026-01-02 10:00:40Z')",
		"insert into clicks values (3, 'home', '2026-01-02 10:05:10Z')",
		"insert into clicks values (4, 'home', '2026-01-02 10:00:50Z'), (5, 'home', '2026-01-02 10:00:51Z')",
		"insert into items values (1, 1), (2, 2), (3, 3)", "delete from items where id = 2")
	if err := v.WaitFor(deadline(t), head(t, db)); err != nil {
		t.Fatal(err)
	}
	at := float64(time.Date(2026, 1, 2, 10, 5, 10, 0, time.UTC).Unix())
	for series, want := range map[string]float64{
		`tailrace_source_up{app="work",database="shop"}`:                                                    1,
		`tailrace_sink_up{app="work",target="warehouse"}`:                                                   1,
		`tailrace_late_records_total{app="work",node="clicks-per-minute",topology="work"}`:                  2,
		`tailrace_stream_time_seconds{app="work",node="shop/public.clicks",topology="work"}`:                at,
		`tailrace_state_entries{app="work",store="shop/public.items",topology="work"}`:                      2,
		`tailrace_records_dropped_total{app="work",node="clicks-per-minute",reason="late",topology="work"}`: 2,
	} {
		got := 0.0
		await.That(t, series, func() bool { got = scrape(t, app.app, series); return got == want })
	}
	// Net rows of each epoch: the deletion may meet the insertion in one.
	emitted := scrape(t, app.app, `tailrace_records_emitted_total{app="work",target="warehouse"}`)
	if emitted < 2 || emitted > 4 {
		t.Errorf("%v rows were emitted, want 2 to 4", emitted)
	}
	bytes := scrape(t, app.app, `tailrace_state_bytes{app="work",store="shop/public.items",topology="work"}`)
	if bytes < 2 || bytes > 1000 {
		t.Errorf("two items take %v bytes", bytes)
	}
}
