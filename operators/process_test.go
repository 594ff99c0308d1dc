package operators_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// batcher gathers facts and puts them out together, a while after each; a second timer
// follows the first of every third record.
type batcher struct {
	wait   time.Duration
	counts *operators.KeyValue[nullKey, int64]
	held   *operators.Ordered[heldKey, string]
}

type heldKey struct {
	Key nullKey
	At  int64
	N   int64
}

type batchContext = operators.ProcessContext[nullKey, int64, string]

func newBatcher(
	wait time.Duration,
) func(s *operators.Stores) operators.Processor[nullKey, fact, int64, string] {
	return func(s *operators.Stores) operators.Processor[nullKey, fact, int64, string] {
		return &batcher{
			wait: wait, counts: operators.KeyValueStore[nullKey, int64](s, "counts"),
			held: operators.OrderedStore[heldKey, string](s, "held"),
		}
	}
}

func (p *batcher) Process(ctx *batchContext, r record.Record[nullKey, fact]) error {
	n, _ := p.counts.Get(r.Key)
	n++
	p.counts.Put(r.Key, n)
	p.held.Put(heldKey{r.Key, r.Time, n}, r.Value.V)
	at := ctx.Context().Time.Add(p.wait)
	ctx.SetTimer(r.Key, at)
	if n%5 == 0 {
		ctx.UnsetTimer(r.Key, at)
	}
	ctx.Forward(n, "+"+r.Value.V)
	return nil
}

func (p *batcher) Timer(ctx *batchContext, key nullKey, at time.Time) error {
	var all []string
	last := heldKey{key, at.Add(-p.wait).UnixMicro() + 1, 0}
	for k, v := range p.held.Range(heldKey{Key: key, At: -1 << 62}, last) {
		all = append(all, v)
		p.held.Delete(k)
	}
	left := 0
	for range p.held.Prefix(heldKey{Key: key}, 1) {
		left++
	}
	n, _ := p.counts.Get(key)
	ctx.Forward(n, fmt.Sprint(all, left))
	if left > 0 && left%3 == 0 {
		ctx.SetTimer(key, at.Add(time.Microsecond))
	}
	if n > 12 {
		p.counts.Delete(key)
	}
	return nil
}

// batchModel is batcher with maps and slices.
type batchModel struct {
	wait, time int64
	counts     map[int64]int64
	held       map[int64][]heldFact
	timers     map[[2]int64]bool // time, key
	out        []string
}

type heldFact struct {
	at, n int64
	v     string
}

func (m *batchModel) transaction(rows []*modelRecord, heartbeat int64) {
	m.time = max(m.time, heartbeat)
	for _, x := range rows {
		k := x.key.V
		m.time = max(m.time, x.at)
		m.counts[k]++
		n := m.counts[k]
		m.held[k] = slices.DeleteFunc(m.held[k], func(h heldFact) bool { return h.at == x.at && h.n == n })
		m.held[k] = append(m.held[k], heldFact{x.at, n, x.v})
		slices.SortFunc(m.held[k], func(a, b heldFact) int {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.n, b.n))
		})
		m.timers[[2]int64{x.at + m.wait, k}] = true
		if n%5 == 0 {
			delete(m.timers, [2]int64{x.at + m.wait, k})
		}
		m.out = append(m.out, fmt.Sprintf("%d +%s@%d", n, x.v, x.at))
	}
	for len(m.timers) > 0 {
		first := slices.MinFunc(slices.Collect(maps.Keys(m.timers)), func(a, b [2]int64) int {
			return slices.Compare(a[:], b[:])
		})
		if first[0] > m.time {
			return
		}
		delete(m.timers, first)
		m.fire(first[0], first[1])
	}
}

func (m *batchModel) fire(at, k int64) {
	var all []string
	held := m.held[k]
	for len(held) > 0 && held[0].at <= at-m.wait {
		all, held = append(all, held[0].v), held[1:]
	}
	m.held[k] = held
	m.out = append(m.out, fmt.Sprintf("%d %v@%d", m.counts[k], fmt.Sprint(all, len(held)), at))
	if len(held) > 0 && len(held)%3 == 0 {
		m.timers[[2]int64{at + 1, k}] = true
	}
	if m.counts[k] > 12 {
		delete(m.counts, k)
	}
}

// feedFacts runs random transactions of facts and heartbeats, with crashes and
// restarts, and shows them to a model.
func feedFacts(
	r *rand.Rand, d *topologytest.Driver, source topology.Stream[int64, fact],
	transaction func(rows []*modelRecord, heartbeat int64),
) {
	now, n := int64(0), int64(0)
	for range 40 {
		now += []int64{0, 1, 2, 30}[r.IntN(4)]
		if r.IntN(5) == 0 {
			d.AdvanceTime(moment(now).Sub(d.Now()))
			transaction(nil, now)
		}
		var rows []*modelRecord
		d.Tx(func(tx *topologytest.Tx) {
			for range 1 + r.IntN(4) {
				n++
				x := &modelRecord{
					key: nullKey{V: r.Int64N(3), Valid: true}, v: fmt.Sprint(n), n: int(n),
					at: now - []int64{0, 0, 1, 3, 9, 25}[r.IntN(6)],
				}
				rows = append(rows, x)
				topologytest.Emit(tx, source, n, fact{K: x.key, V: x.v, At: moment(x.at)})
			}
		})
		transaction(rows, -1<<62)
		switch r.IntN(8) {
		case 0:
			d.Crash()
		case 1:
			d.Reopen()
		}
	}
	d.Commit()
}

// TestRandomProcess compares a processor with stores and timers with a model.
func TestRandomProcess(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 3))
		m := &batchModel{
			wait: r.Int64N(8), time: -1 << 62, counts: map[int64]int64{}, held: map[int64][]heldFact{},
			timers: map[[2]int64]bool{},
		}
		b := topology.New("process")
		source, in := facts(b, sources.NewDatabase("db", nil), "public.f")
		out := operators.Process("batch", operators.Repartition("by-key", in), newBatcher(us(m.wait)))
		d := topologytest.New(t, b.MustBuild(), randomOptions(r)...)
		feedFacts(r, d, source, m.transaction)
		var got []string
		for _, r := range topologytest.Records(d, out) {
			got = append(got, fmt.Sprintf("%d %s@%d", r.Key, r.Value, r.Time-epoch.UnixMicro()))
		}
		if !slices.Equal(got, m.out) {
			t.Fatalf("seed %d:\n got %v\nwant %v", seed, got, m.out)
		}
	}
}

// failing does what it is told to.
type failing struct{}

func (failing) Process(ctx *batchContext, r record.Record[nullKey, fact]) error {
	ctx.SetTimer(r.Key, moment(1))
	switch r.Value.V {
	case "error":
		return errors.New("no such thing")
	case "panic":
		panic("no such thing")
	}
	return nil
}

func (failing) Timer(ctx *batchContext, key nullKey, at time.Time) error {
	ctx.SetTimer(key, at)
	return nil
}

// TestProcessMistakes names the node and the key of what goes wrong, and finds wrong
// stores at Build.
func TestProcessMistakes(t *testing.T) {
	b := topology.New("failing")
	source, in := facts(b, sources.NewDatabase("db", nil), "public.f")
	operators.Process("fails", in,
		func(*operators.Stores) operators.Processor[nullKey, fact, int64, string] { return failing{} })
	d := topologytest.New(t, b.MustBuild())
	for v, want := range map[string]string{
		"error": "no such thing", "panic": "panic: no such thing", "timer": "it must be later",
	} {
		f := fact{K: nullKey{V: 7, Valid: true}, V: v, At: moment(1)}
		err := d.TryTx(func(tx *topologytest.Tx) { topologytest.Emit(tx, source, 1, f) })
		var failure *topology.Failure
		if !errors.As(err, &failure) || failure.Node.Name != "fails" || failure.Key != any(f.K) ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v", v, err)
		}
	}

	b = topology.New("wrong")
	_, in = facts(b, sources.NewDatabase("db", nil), "public.f")
	operators.Process("", in, func(s *operators.Stores) operators.Processor[nullKey, fact, int64, string] {
		operators.KeyValueStore[float64, func()](s, "a")
		operators.OrderedStore[int64, int64](s, "a")
		operators.OrderedStore[int64, int64](s, "timers")
		return failing{}
	})
	operators.DeduplicateByKey("", in, windows.Within(-1))
	operators.Repartition("", in)
	_, err := b.Build()
	for _, want := range []string{
		"process needs a name", "float64", "func()", `two stores are named "a"`, `is named "timers"`,
		"deduplicate needs a name", "repartition needs a name",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one with %q", err, want)
		}
	}
}

// counter walks twice over what it holds with each record.
type counter struct {
	held *operators.Ordered[int64, string]
}

func (c counter) Process(ctx *batchContext, r record.Record[nullKey, fact]) error {
	c.held.Put(r.Time, r.Value.V)
	all := c.held.All()
	for range 2 {
		n := int64(0)
		for range all {
			n++
		}
		ctx.Forward(n, r.Value.V)
	}
	return nil
}

func (counter) Timer(*batchContext, nullKey, time.Time) error { return nil }

// A walk over an ordered store that is begun twice sees everything twice, also where it
// reads more than once.
func TestOrderedStoreIsWalkedTwice(t *testing.T) {
	b := topology.New("counts")
	source, in := facts(b, sources.NewDatabase("db", nil), "public.f")
	out := operators.Process("counts", in,
		func(s *operators.Stores) operators.Processor[nullKey, fact, int64, string] {
			return counter{operators.OrderedStore[int64, string](s, "held")}
		})
	d := topologytest.New(t, b.MustBuild())
	for n := range int64(200) {
		d.Tx(func(tx *topologytest.Tx) {
			topologytest.Emit(tx, source, n, fact{K: nullKey{V: 7, Valid: true}, V: "x", At: moment(n)})
		})
		for _, r := range topologytest.Records(d, out) {
			if r.Key != n+1 {
				t.Fatalf("it counts %d, want %d", r.Key, n+1)
			}
		}
	}
}

// TestRandomDeduplicate compares with loops over everything that went on.
func TestRandomDeduplicate(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 4))
		before, grace := r.Int64N(8), r.Int64N(5)
		after := r.Int64N(8+before) - before // the end of the window may lie before a record
		b := topology.New("deduplicate")
		source, in := facts(b, sources.NewDatabase("db", nil), "public.f")
		out := operators.DeduplicateByKey("once", in,
			windows.Within(0).Before(us(before)).After(us(after)).Grace(us(grace)))
		var seen []string
		operators.Foreach(out, func(_ record.Context, _ nullKey, f fact) error {
			seen = append(seen, f.V)
			return nil
		})
		d := topologytest.New(t, b.MustBuild(), randomOptions(r)...)
		var passed []*modelRecord
		var want []string
		streamTime, late, duplicates := int64(-1<<62), 0, 0
		feedFacts(r, d, source, func(rows []*modelRecord, heartbeat int64) {
			now := max(streamTime, heartbeat)
			for _, x := range rows {
				now = max(now, x.at)
				switch {
				case x.at+max(after, 0)+grace < streamTime:
					late++
				case slices.ContainsFunc(passed, func(p *modelRecord) bool {
					return p.key == x.key && p.at >= x.at-before && p.at <= x.at+after
				}):
					duplicates++
				default:
					passed = append(passed, x)
					want = append(want, x.v)
				}
			}
			streamTime = now
		})
		var got []string
		for _, f := range topologytest.Values(d, out) {
			got = append(got, f.V)
		}
		if !slices.Equal(got, want) || d.Dropped("late") != late || d.Dropped("duplicate") != duplicates {
			t.Fatalf("seed %d: %v, late %d, duplicates %d, want %v, %d, %d", seed, got, d.Dropped("late"),
				d.Dropped("duplicate"), want, late, duplicates)
		}
		slices.Sort(seen)
		slices.Sort(want)
		if got := slices.Compact(seen); !slices.Equal(got, want) {
			t.Fatalf("seed %d: Foreach saw %v, want %v", seed, got, want)
		}
	}
}
