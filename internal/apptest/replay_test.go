package apptest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// TestReplay parks a key of a table of a real database, says so wherever an app tells how
// it is doing, and brings it back by way of HTTP once the function is mended: the view
// shows it, and its event has an id of its own.
func TestReplay(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec("create table alarms (id bigint primary key, severity text not null, cents bigint not null)",
		"insert into alarms values (1, 'low', 5)")
	target := newRemembered("shop")
	set := func(record.Context, *topology.Failure) topology.Verdict { return topology.DeadLetter }
	build := func(mended bool) (*topology.Topology, func(a *tailrace.App, key int64) int64) {
		b := topology.New("alarms")
		in := sources.Table[int64, alarm](b, pgSource("shop", db), "public.alarms").OnError(set)
		ratios := operators.MapValues(in, func(_ int64, a alarm) int64 {
			if a.Cents == 0 && mended {
				return -1
			}
			return 100 / a.Cents
		}).OnError(set)
		v := sinks.View(ratios, "ratios")
		sinks.Stream(operators.ToStream("changes", ratios), sinks.NewTarget("out", target), "changes")
		return b.MustBuild(), func(a *tailrace.App, key int64) int64 {
			n, _, _, err := v.Get(context.Background(), key)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	dir := filepath.Join(t.TempDir(), "state")
	run := func(mended bool, sql ...string) (started, func(a *tailrace.App, key int64) int64) {
		top, get := build(mended)
		app := start(t, tailrace.Config{App: "replay", StateDir: dir}, top)
		if err := app.app.WaitReady(deadline(t)); err != nil {
			t.Fatal(err, app.stop())
		}
		db.Exec(sql...)
		lsn, err := record.ParseLSN(db.String("select pg_current_wal_lsn()"))
		if err != nil {
			t.Fatal(err)
		}
		if err := app.app.Host().WaitFor(deadline(t), record.Positions{"shop": uint64(lsn)}); err != nil {
			t.Fatal(err, app.app.Status())
		}
		return app, get
	}
	call := func(a started, method, path, body string) (string, http.Header) {
		w := httptest.NewRecorder()
		a.app.Handler().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w.Body.String(), w.Header()
	}
	first, get := run(
		false,
		"update alarms set cents = 0 where id = 1",
		"insert into alarms values (2, 'dire', 4)",
	)
	if n := get(first.app, 1); n != 20 {
		t.Errorf("the parked key has %d, want the value of before", n)
	}
	if body, _ := call(first, http.MethodGet, "/readyz", ""); !strings.Contains(body,
		`"degraded":{"alarms/map-values#1":1,"alarms/shop/public.alarms":1}`) {
		t.Errorf("/readyz is %s", body)
	}
	if _, h := call(first, http.MethodGet, "/views/ratios", ""); h.Get("Tailrace-Degraded") !=
		"alarms/map-values#1; keys=1" {
		t.Errorf("the headers of a view are %v", h)
	}
	if body, _ := call(first, http.MethodGet, "/metrics", ""); !strings.Contains(body,
		`tailrace_degraded_keys{app="replay",node="map-values#1",topology="alarms"} 1`) {
		t.Error("the metrics lack the parked key")
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	second, get := run(true, "insert into alarms values (3, 'low', 1)")
	if n := get(second.app, 1); n != 20 {
		t.Errorf("before it is replayed the key has %d", n)
	}
	body, _ := call(second, http.MethodPost, "/deadletters/replay", `{"all":true}`)
	var answer struct{ Tried, Failed int }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Tried != 2 || answer.Failed != 1 {
		t.Errorf("the replay answers %s", body)
	}
	if n := get(second.app, 1); n != -1 {
		t.Errorf("after it was replayed the key has %d", n)
	}
	if n, err := second.app.DropDeadLetters(context.Background()); n != 1 || err != nil {
		t.Errorf("dropped %d: %v", n, err)
	}
	for l, err := range second.app.DeadLetters(context.Background()) {
		t.Errorf("a letter is left: %+v %v", l, err)
	}
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
}
