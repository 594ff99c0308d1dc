package apptest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
	"github.com/tailrace/tailrace/windows"
)

// variant is one way to cut the same work.
type variant struct {
	epochRows      int
	oneTransaction bool
	stepEach       bool // a step for each transaction also where none is needed
	memory         int64
	piece, pieces  int // rows a piece, pieces a batch
	restart        bool
	// partitions is how many there are, and one more after the restart.
	partitions int
}

func (v variant) String() string {
	return fmt.Sprintf("rows %d, one transaction %v, step each %v, memory %d, pieces of %d by %d, restart %v, "+
		"partitions %d", v.epochRows, v.oneTransaction, v.stepEach, v.memory, v.piece, v.pieces, v.restart,
		v.partitions)
}

// eachShown reports whether each transaction is an epoch, and all of them are seen.
func (v variant) eachShown() bool { return v.epochRows == 1 }

// compares is how many states of it have to be compared at least.
func (v variant) compares() int {
	if v.eachShown() {
		return 100
	}
	return 1
}

// reference shows the state after each transaction.
var reference = variant{
	epochRows: 1, oneTransaction: true, stepEach: true, memory: 1 << 30, piece: 1 << 30, pieces: 1,
}

func variants() []variant {
	var out []variant
	pieces := []struct{ piece, pieces int }{{1, 3}, {1 << 30, 1 << 30}, {7, 100}, {64, 1}}
	for i, rows := range []int{1, 7, 1000, math.MaxInt} {
		for j, step := range []bool{false, true} {
			for k, memory := range []int64{1, 1 << 30} {
				p := pieces[(i+j+k)%len(pieces)]
				out = append(out, variant{
					epochRows: rows, stepEach: step, memory: memory, piece: p.piece, pieces: p.pieces,
					restart: i == 1 && k == 0, partitions: []int{1, 2, 16}[(i+j+2*k)%3],
				})
			}
		}
	}
	return append(out,
		variant{epochRows: 1000, oneTransaction: true, memory: 1, piece: 2, pieces: 5},
		variant{epochRows: math.MaxInt, memory: 1, piece: 1 << 30, pieces: 1 << 30, partitions: 3})
}

// outcome is all that an app showed on its way.
type outcome struct {
	target  *remembered
	views   map[string]states
	spilled bool
}

// TestWorkIsCutAnyWay runs one random workload through apps that cut it in all ways:
// every state that a view or a target's table was in is the one that it was in at the
// same position where each transaction was a commit of its own, and events are the
// same with their ids.
func TestWorkIsCutAnyWay(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := newWorkload(seed, 150)
	want := w.run(t, reference)
	if final := want.target.states.at(w.db.end()); !strings.Contains(final, w.revenue()) {
		t.Fatalf("the model's revenue is %s, the app's tables are %s", w.revenue(), final)
	}
	if len(want.target.states) < 100 || len(want.target.events) < 100 {
		t.Fatalf("%d states and %d events compare little", len(want.target.states), len(want.target.events))
	}
	spilled := 0
	for _, v := range variants() {
		got := w.run(t, v)
		if got.spilled {
			spilled++
		}
		for _, d := range v.differences(got, want) {
			t.Errorf("%v: %s", v, d)
		}
	}
	if spilled < 2 {
		t.Errorf("%d variants wrote to scratch space", spilled)
	}
}

// TestTornWorkIsSeen gives the comparison an app that shows parts of transactions.
func TestTornWorkIsSeen(t *testing.T) {
	w := newWorkload(1, 40)
	want := w.run(t, reference)
	torn := variant{epochRows: math.MaxInt, oneTransaction: true, memory: 1 << 30, piece: 1, pieces: 1}
	w.db.torn = true
	got := torn.differences(w.run(t, torn), want)
	for _, what := range []string{"tables", "lines-view", "revenue-view"} {
		if !slices.ContainsFunc(got, func(d string) bool { return strings.HasPrefix(d, what+" at ") }) {
			t.Errorf("%s: a state that no transaction left is not seen in %q", what, got)
		}
	}
}

// differences are the states and events that are not those of the reference.
func (v variant) differences(got, want outcome) (out []string) {
	out = append(out, v.compare("tables", got.target.states, want.target.states)...)
	for _, name := range slices.Sorted(maps.Keys(want.views)) {
		out = append(out, v.compare(name, got.views[name], want.views[name])...)
	}
	if !slices.Equal(got.target.events, want.target.events) {
		out = append(out, "events differ: "+firstDifference(got.target.events, want.target.events))
	}
	return out
}

// compare compares all states that something was in.
func (v variant) compare(what string, got, want states) (out []string) {
	// A reader begins when the app is ready, which may be some commits after its first.
	first, compared := uint64(math.MaxUint64), 0
	for at := range want {
		first = min(first, at)
	}
	for _, at := range slices.Sorted(maps.Keys(got)) {
		if at < first {
			continue
		}
		compared++
		if got[at] != want.at(at) {
			return append(out, fmt.Sprintf("%s at %d differ: %s", what, at,
				firstDifference(strings.Split(got[at], "\n"), strings.Split(want.at(at), "\n"))))
		}
	}
	if atLeast := v.compares(); compared < atLeast {
		out = append(out, fmt.Sprintf("%s: %d states were compared, want %d", what, compared, atLeast))
	}
	return out
}

func firstDifference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("line %d of %d is missing: %s", i+1, len(want), want[i])
		case i >= len(want):
			return fmt.Sprintf("line %d is one too many: %s", i+1, got[i])
		case got[i] != want[i]:
			return fmt.Sprintf("line %d is %s, want %s", i+1, got[i], want[i])
		}
	}
	return "not at all"
}

type (
	wCustomer struct{ Name string }
	wOrder    struct {
		CustomerID *int64
		Cents      int64
		Status     string
	}
	wNote struct {
		CustomerID int64
		Body       string
	}
	wLine struct {
		Customer string
		Cents    int64
	}
	wRevenue struct{ Orders, Cents, Largest int64 }
)

// topologies are two: tables that net over transactions, and all that does not.
func (w *workload) topologies(v variant, target *sinks.Target) ([]*topology.Topology, []watchable) {
	db := sources.NewDatabase("shop", w.db)
	b := topology.New("tables")
	orders := sources.Table[int64, wOrder](b, db, "public.orders")
	customers := sources.Table[int64, wCustomer](b, db, "public.customers")
	if v.stepEach {
		operators.ToStream("every-version", customers)
	}
	lines := operators.JoinForeignKeyNull("lines", orders, customers,
		func(o wOrder) (id sql.Null[int64]) {
			if o.CustomerID != nil && o.Status == "paid" {
				id = sql.Null[int64]{V: *o.CustomerID, Valid: true}
			}
			return id
		}, func(o wOrder, c wCustomer) wLine { return wLine{c.Name, o.Cents} })
	cents := func(l wLine) int64 { return l.Cents }
	revenue := operators.Aggregate("revenue-by-name",
		operators.GroupBy(lines, func(_ int64, l wLine) string { return l.Customer }),
		aggregate.Combine3(aggregate.Count[wLine](), aggregate.Sum(cents), aggregate.Max(cents),
			func(n, sum, most int64) wRevenue { return wRevenue{n, sum, most} }))
	sinks.Table(lines, target, "lines")
	sinks.Table(revenue, target, "revenue")
	shown := []watchable{watch(sinks.View(lines, "lines-view")), watch(sinks.View(revenue, "revenue-view"))}

	e := topology.New("events")
	people := sources.Table[int64, wCustomer](e, db, "public.customers")
	notes := sources.Outbox[int64, wNote](e, db, "public.notes")
	named := operators.LeftEnrich("named", notes, people, func(n wNote) int64 { return n.CustomerID },
		func(n wNote, c wCustomer, _ bool) wLine { return wLine{c.Name + "/" + n.Body, n.CustomerID} })
	twice := operators.FlatMap(notes, func(k int64, n wNote, emit func(int64, wLine)) {
		emit(k, wLine{n.Body, 1})
		emit(-k, wLine{n.Body, 2})
	})
	sinks.Stream(operators.Merge(named, twice), target, "named")
	sinks.Stream(operators.ToStream("renames", people), target, "renames")
	hourly := operators.Aggregate("hourly", operators.Window(
		operators.GroupBy(notes, func(_ int64, n wNote) int64 { return n.CustomerID % 3 }),
		windows.Tumbling(time.Minute).Grace(time.Minute)), aggregate.Count[wNote]())
	shown = append(shown, watch(sinks.View(hourly, "hourly-view")))
	return []*topology.Topology{b.MustBuild(), e.MustBuild()}, shown
}

// watchable is a view without its types.
type watchable struct {
	name string
	// follow notes the view's state at each mark until ctx ends or a position is
	// reached.
	follow func(ctx context.Context, until uint64, note func(at uint64, state string)) error
}

func watch[K comparable, V any](v *view.View[K, V]) watchable {
	return watchable{v.Name(), func(ctx context.Context, until uint64, note func(uint64, string)) error {
		rows := map[string]string{}
		for e, err := range v.Watch(ctx, view.WithRows()) {
			if err != nil {
				return err
			}
			switch e.Kind {
			case view.EventReset:
				clear(rows)
			case view.EventChange:
				key := fmt.Sprint(e.Change.Key)
				delete(rows, key)
				if e.Change.HasNew() {
					rows[key] = fmt.Sprint(e.Change.New)
				}
			case view.EventEpoch:
				var b strings.Builder
				for _, key := range slices.Sorted(maps.Keys(rows)) {
					fmt.Fprintf(&b, "%s=%s\n", key, rows[key])
				}
				at := e.Position.Sources["shop"]
				if note(at, b.String()); at >= until {
					return nil
				}
			}
		}
		return nil
	}}
}

// run runs an app over the workload, and a second one over its state where the
// variant says so.
func (w *workload) run(t *testing.T, v variant) outcome {
	t.Helper()
	w.db.piece, w.db.pieces = v.piece, v.pieces
	out := outcome{target: newRemembered("shop"), views: map[string]states{}}
	dir := filepath.Join(t.TempDir(), "state")
	until := []uint64{w.db.end()}
	if v.restart {
		until = []uint64{w.db.log[len(w.db.log)/2].Tx.Position, w.db.end()}
	}
	for i, end := range until {
		v.partitions += i
		w.phase(t, v, dir, end, &out)
	}
	return out
}

func (w *workload) phase(t *testing.T, v variant, dir string, end uint64, out *outcome) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	topologies, views := w.topologies(v, sinks.NewTarget("warehouse", out.target))
	var attached sync.WaitGroup // the readers
	w.db.gate = nil
	if v.eachShown() {
		attached.Add(len(views))
		gate := make(chan struct{})
		w.db.gate = gate
		go func() { attached.Wait(); close(gate) }()
	}
	reached := out.target.wait(end)
	app := start(t, tailrace.Config{
		App: "metamorphic", StateDir: dir, Logger: slog.New(slog.DiscardHandler),
		EpochRows: v.epochRows, OneTransaction: v.oneTransaction, Memory: v.memory, Partitions: v.partitions,
	}, topologies...)
	if err := app.app.WaitReady(ctx); err != nil {
		t.Fatal(v, err, app.stop())
	}
	var group sync.WaitGroup
	failed := make([]error, len(views))
	for i, shown := range views {
		seen := out.views[shown.name]
		if seen == nil {
			seen = states{}
			out.views[shown.name] = seen
		}
		group.Go(func() {
			first := true
			failed[i] = shown.follow(ctx, end, func(at uint64, state string) {
				if seen[at] = state; first && v.eachShown() {
					attached.Done()
				}
				first = false
			})
		})
	}
	group.Wait()
	if err := errors.Join(failed...); err != nil {
		t.Fatalf("%v: %v; the app: %v", v, err, app.stop())
	}
	select {
	case <-reached:
	case <-ctx.Done():
		t.Fatalf("%v: the target is at %d of %d", v, out.target.seq, end)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "scratch")); err == nil && len(entries) > 0 {
		out.spilled = true
	}
	if err := app.stop(); err != nil {
		t.Fatal(v, err)
	}
}

func (w *workload) revenue() string {
	total := map[string]*wRevenue{}
	for _, o := range w.orders {
		if o.Status != "paid" || o.CustomerID == nil {
			continue
		}
		if c, ok := w.customers[*o.CustomerID]; ok {
			r := total[c.Name]
			if r == nil {
				r = &wRevenue{Largest: math.MinInt64}
				total[c.Name] = r
			}
			r.Orders, r.Cents, r.Largest = r.Orders+1, r.Cents+o.Cents, max(r.Largest, o.Cents)
		}
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(total)) {
		r := total[name]
		fmt.Fprintf(&b, "revenue: %q \"%d\" \"%d\" \"%d\"\n", name, r.Orders, r.Cents, r.Largest)
	}
	return b.String()
}
