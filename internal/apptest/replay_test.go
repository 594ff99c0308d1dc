package apptest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
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
		if err := app.app.WaitFor(deadline(t), head(t, db)); err != nil {
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
	ids := map[string]string{}
	for _, ev := range target.events {
		id, rest, _ := strings.Cut(ev, " ")
		if other, twice := ids[id]; twice {
			t.Errorf("the events %q and %q have the id %s", other, rest, id)
		}
		ids[id] = rest
		if of := strings.Contains(rest, "changes 1=") && strings.Contains(rest, `"new":-1`); of !=
			regexp.MustCompile(`^shop/[0-9A-F]+/[0-9A-F]+~[0-9]+\.0/`).MatchString(id) {
			t.Errorf("the event %q has the id %s", rest, id)
		}
	}
	if !strings.Contains(strings.Join(target.events, " "), `"new":-1`) {
		t.Errorf("there is no event of the key that came back in %q", target.events)
	}
}

// TestReplayOneByOne replays the letters of one transaction of a stream one by one and at
// once. What a table after it makes of each is another event, which has another id; an
// event that one of them alone is the cause of has the id that it would have had. Events
// that fail again, each at a later node, are letters of their own.
func TestReplayOneByOne(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema)
	var mended, shown atomic.Bool
	keep := func(record.Context, *topology.Failure) topology.Verdict { return topology.DeadLetter }
	target := newRemembered("shop")
	out := sinks.NewTarget("out", target)
	b := topology.New("totals")
	in := sources.Stream[int64, item](b, pgSource("shop", db), "public.items")
	ratios := operators.MapStreamValues(in, func(_ int64, i item) int64 {
		if i.Amount == 0 && mended.Load() {
			return 1000
		}
		return 100 / i.Amount
	}).OnError(keep)
	sinks.Stream(ratios, out, "ratios")
	all := operators.GroupBy(ratios, func(int64, int64) string { return "all" })
	sum := operators.Aggregate("sum", all, aggregate.Sum(func(n int64) int64 { return n }))
	changes := operators.ToStream("changes", sum)
	sinks.Stream(changes, out, "sums")
	sinks.Stream(operators.MapStreamValues(changes, func(_ string, c record.Change[string, int64]) int64 {
		if c.New > 20 && !shown.Load() {
			panic("too large to be shown")
		}
		return c.New
	}).OnError(keep), out, "shown")
	app := start(t, tailrace.Config{App: "one-by-one", StateDir: t.TempDir() + "/state"}, b.MustBuild())
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	db.Exec("insert into items values (1, 5), (2, 0), (3, 0), (4, 0), (5, 0)")
	if err := app.app.WaitFor(deadline(t), head(t, db)); err != nil {
		t.Fatal(err, app.app.Status())
	}
	letters := func(want int) (ids []string) {
		t.Helper()
		for l, err := range app.app.DeadLetters(context.Background()) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, l.ID)
		}
		if len(ids) != want {
			t.Errorf("the letters are %q, want %d", ids, want)
		}
		return ids
	}
	replay := func(tried, failed int, ids ...string) {
		t.Helper()
		got, err := app.app.ReplayDeadLetters(deadline(t), ids...)
		if err != nil || got.Tried != tried || got.Failed != failed || len(got.Unreadable) > 0 {
			t.Errorf("replayed %+v: %v", got, err)
		}
	}
	ids := letters(4)
	mended.Store(true)
	replay(1, 1, ids[0])
	replay(1, 1, ids[1])
	replay(2, 2, ids[2], ids[3])
	ids = letters(4)
	replay(4, 4)
	if again := letters(4); !slices.Equal(again, ids) {
		t.Errorf("after they failed again the letters are %q, want %q", again, ids)
	}
	shown.Store(true)
	replay(4, 0)
	letters(0)
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{}
	seen := map[string]string{}
	for _, ev := range target.events {
		words := strings.Fields(ev)
		if other, twice := seen[words[0]]; twice {
			t.Errorf("the events %q and %q share an id", other, ev)
		}
		seen[words[0]] = ev
		name := words[1]
		_, value, _ := strings.Cut(words[2], "=")
		values[name] = append(values[name], value)
		if name == "ratios" && strings.Contains(words[0], "~") {
			t.Errorf("the event %q has not the id that it would have had", ev)
		}
	}
	for name, want := range map[string]string{
		"ratios": "20 1000 1000 1000 1000", "shown": "20 1020 2020 3020 4020",
	} {
		if got := strings.Join(values[name], " "); got != want {
			t.Errorf("%s has %s, want %s", name, got, want)
		}
	}
	if len(values["sums"]) != 5 {
		t.Errorf("the sums are %q", values["sums"])
	}
}
