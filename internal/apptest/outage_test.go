package apptest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// outageRows is how many changes come while the target is down. TAILRACE_TEST_OUTAGE_ROWS
// asks for more: see the Makefile's target outage.
func outageRows() int {
	if n, err := strconv.Atoi(os.Getenv("TAILRACE_TEST_OUTAGE_ROWS")); err == nil {
		return n
	}
	return 150_000
}

// TestOutage kills a target's server and lets changes come: the queue stays within its
// bound, the source is not read any further and keeps the rest, and the app says what it
// waits for. When the server is back everything arrives, and nothing is left in the queue.
func TestOutage(t *testing.T) {
	const keys, rowsPerTx, epochRows = 20_000, 1000, 2000
	bound := int64(outageRows()) * 8 // a fraction of what the changes need
	db := pgservertest.New(t)
	wh := pgservertest.New(t, pgservertest.Private(map[string]string{"fsync": "off"}))
	db.Exec(itemsSchema, fmt.Sprintf("insert into items select i, 0 from generate_series(1, %d) i", keys))
	b := topology.New("outage")
	target := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: wh.URL, CreateTables: true}))
	items := sources.Table[int64, item](b, pgSource("shop", db), "public.items")
	v := sinks.View(items, "items")
	sinks.Table(items, target, "items")
	topo, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	app := start(t, tailrace.Config{
		App: "outage", StateDir: t.TempDir() + "/state",
		EpochRows: epochRows, QueueBytes: bound,
	}, topo)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	sums := func(db *pgservertest.DB, key string) string {
		return strings.Join(
			db.Strings("select count(*), sum(" + key + " * amount), sum(amount) from items")[0],
			" ",
		)
	}
	await.That(t, "the first load of the target", func() bool {
		return wh.String("select to_regclass('items') is not null") == "t" && sums(wh, "key") == sums(db, "id")
	})
	if err := wh.Server.Kill(); err != nil {
		t.Fatal(err)
	}
	queue := watchQueue(app.app)
	for i := range outageRows() / rowsPerTx {
		first := 1 + i*rowsPerTx%keys
		db.Exec(fmt.Sprintf("update items set amount = amount + %d where id between %d and %d", i+1, first,
			first+rowsPerTx-1))
	}
	at := written(t, db)
	await.That(
		t,
		"the app waits for the target",
		func() bool { return app.app.Status().WaitingFor == "warehouse" },
	)
	_, _, stands, err := v.Get(deadline(t), 1)
	if err != nil || stands.Sources["shop"] >= at {
		t.Errorf("everything was read up to %v although the queue is bounded: %v", stands, err)
	}
	if err := app.app.Status().Targets["warehouse"]; err == nil {
		t.Error("the status does not tell why the target is down")
	}
	ready := httptest.NewRecorder()
	app.app.Handler().ServeHTTP(ready, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if ready.Code == http.StatusOK || !strings.Contains(ready.Body.String(), "warehouse") {
		t.Errorf("/readyz answers %d %s", ready.Code, ready.Body)
	}
	if err := wh.Server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	wh.Pool.Reset()
	want := sums(db, "id")
	if !await.Within(
		30*time.Second+time.Duration(outageRows())*200*time.Microsecond,
		func() bool { return sums(wh, "key") == want },
	) {
		t.Fatalf("the target holds %s, want %s; %+v", sums(wh, "key"), want, app.app.Status())
	}
	if !slices.EqualFunc(wh.Strings("select key, amount from items order by key"),
		db.Strings("select id, amount from items order by id"), slices.Equal) {
		t.Error("rows of the target differ from those of the source")
	}
	largest := queue.stop()
	// An epoch is never split, and one may be on its way to the disk.
	if room := int64(2 * (epochRows + rowsPerTx) * 40); largest > bound+room || largest < bound {
		t.Errorf("%d bytes were queued, the bound is %d", largest, bound)
	}
	await.That(t, "an empty queue", func() bool { return queued(app.app) == 0 })
	t.Logf("%d changes, at most %d bytes queued of %d", outageRows(), largest, bound)
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}

var queueMetric = regexp.MustCompile(`(?m)^tailrace_sink_queue_bytes\{[^}]*target="warehouse"[^}]*\} (\S+)$`)

// queued is what waits for the target, as the metrics tell, -1 if they do not.
func queued(app *tailrace.App) int64 {
	answer := httptest.NewRecorder()
	app.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	m := queueMetric.FindStringSubmatch(answer.Body.String())
	if m == nil {
		return -1
	}
	bytes, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return -1
	}
	return int64(bytes)
}

// queueWatch keeps the largest queue that the metrics have shown.
type queueWatch struct {
	largest atomic.Int64
	end     chan struct{}
	ended   chan struct{}
}

func watchQueue(app *tailrace.App) *queueWatch {
	w := &queueWatch{end: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		again := time.NewTicker(5 * time.Millisecond)
		defer again.Stop()
		for {
			w.largest.Store(max(w.largest.Load(), queued(app)))
			select {
			case <-again.C:
			case <-w.end:
				return
			}
		}
	}()
	return w
}

func (w *queueWatch) stop() int64 {
	close(w.end)
	<-w.ended
	return w.largest.Load()
}
