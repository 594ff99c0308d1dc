package chains_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

type row struct {
	A  int64
	F  sql.Null[int64]
	S  string
	At time.Time
}

type (
	table  = topology.Table[int64, row]
	stream = topology.Stream[int64, row]
	group  = windows.Windowed[int64]
	either = operators.EitherKey[int64, int64]
)

func us(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func timeOf(r row) time.Time { return r.At }

// graph is a topology that is drawn, the same for the same seed.
type graph struct {
	r         *rand.Rand
	b         *topology.Builder
	db        *sources.Database
	tables    []table
	streams   []stream
	versioned []operators.VersionedTable[int64, row]
	global    topology.GlobalTable[int64, row]
	srcT      []table
	srcS      []stream
	n         int
	desc      []string
}

// short keeps texts from growing without end, and different ones different.
func short(s string) string {
	if len(s) > 24 {
		h := uint32(2166136261)
		for i := range len(s) {
			h = (h ^ uint32(s[i])) * 16777619
		}
		return fmt.Sprintf("%s#%x", s[:8], h)
	}
	return s
}

func both(l row, hasL bool, r row, hasR bool) row {
	out := row{F: l.F, At: l.At, A: l.A + 3*r.A}
	if !hasL {
		out.F, out.At = r.F, r.At
	}
	out.S = short(fmt.Sprint("(", l.S, hasL, r.S, hasR, ")"))
	return out
}

func left(l, r row, has bool) row { return both(l, true, r, has) }

func inner(l, r row) row { return both(l, true, r, true) }

// several puts out up to three records, with other keys.
func several(k int64, r row, emit func(int64, row)) {
	for i := range k % 4 {
		r.A += i
		emit(k+i, r)
	}
}

func (g *graph) name(kind string, in ...int) string {
	g.n++
	g.desc = append(g.desc, fmt.Sprintf("%s-%d%v", kind, g.n, in))
	return fmt.Sprintf("%s-%d", kind, g.n)
}

func (g *graph) t() (table, int)  { i := g.r.IntN(len(g.tables)); return g.tables[i], i }
func (g *graph) s() (stream, int) { i := g.r.IntN(len(g.streams)); return g.streams[i], i }

func (g *graph) addT(t table)  { g.tables = append(g.tables, t) }
func (g *graph) addS(s stream) { g.streams = append(g.streams, s) }

func bare(_ int64, r row) int64 { return r.A % 3 }
func ref(r row) sql.Null[int64] { return r.F }
func refV(r row) int64          { return r.F.V }

func agg() aggregate.Aggregator[row, row] {
	s := func(r row) string { return r.S }
	return aggregate.Combine4(aggregate.Count[row](), aggregate.Max(s), aggregate.TopN(2, s, s),
		aggregate.Sum(func(r row) int64 { return r.A }),
		func(n int64, m string, top []string, sum int64) row {
			out := row{A: sum, S: short(fmt.Sprint(n, m, top))}
			if n > 1 {
				out.F = sql.Null[int64]{V: n % 4, Valid: true}
			}
			return out
		})
}

func (g *graph) windowOut(t topology.Table[group, row], name string) {
	changes := operators.ToStream(name+"-changes", t)
	g.addS(operators.Map(changes, func(k group, c record.Change[group, row]) (int64, row) {
		r := c.New
		r.S = short(fmt.Sprint(r.S, c.HasNew(), k.Window.Start-epoch.UnixMicro(), k.Window.End-epoch.UnixMicro()))
		r.At = time.UnixMicro(k.Window.Start).UTC()
		return k.Key, r
	}))
}

func (g *graph) window() windows.Definition {
	grace := us(g.r.Int64N(12))
	switch g.r.IntN(4) {
	case 0:
		return windows.Tumbling(us(10)).Grace(grace)
	case 1:
		return windows.Hopping(us(10), us(4)).Grace(grace)
	case 2:
		return windows.Sliding(us(6)).Grace(grace)
	}
	return windows.Session(us(5)).Grace(grace)
}

type proc struct {
	n   *operators.KeyValue[int64, int64]
	log *operators.Ordered[int64, string]
}

func openProcessor(s *operators.Stores) operators.Processor[int64, row, int64, row] {
	return &proc{operators.KeyValueStore[int64, int64](s, "n"), operators.OrderedStore[int64, string](s, "log")}
}

func (p *proc) Process(ctx *operators.ProcessContext[int64, int64, row], r record.Record[int64, row]) error {
	n, _ := p.n.Get(r.Key)
	p.n.Put(r.Key, n+1)
	p.log.Put(r.Key, short(r.Value.S))
	st, ok := ctx.StreamTime()
	if !ok {
		st = time.UnixMicro(r.Time)
	}
	if at := time.UnixMicro(r.Time).Add(us(7)); at.After(st) {
		st = at
	} else {
		st = st.Add(us(7))
	}
	ctx.SetTimer(r.Key, st)
	v := r.Value
	v.A += n
	ctx.Forward(r.Key, v)
	return nil
}

func (p *proc) Timer(ctx *operators.ProcessContext[int64, int64, row], key int64, at time.Time) error {
	n, _ := p.n.Get(key)
	s, _ := p.log.Get(key)
	if n > 3 {
		p.n.Delete(key)
		p.log.Delete(key)
	}
	ctx.Forward(key, row{A: n, S: "timer" + s, At: at})
	return nil
}

func build(seed uint64) *graph {
	g := &graph{r: rand.New(rand.NewPCG(seed, 99)), b: topology.New("chain"), db: sources.NewDatabase("db", nil)}
	g.srcT = append(g.srcT,
		sources.Table[int64, row](g.b, g.db, "public.t0"),
		sources.Table[int64, row](g.b, g.db, "public.t1", sources.EventTime(timeOf)))
	g.srcS = append(g.srcS,
		sources.Stream[int64, row](g.b, g.db, "public.s0", sources.EventTime(timeOf)),
		sources.Stream[int64, row](g.b, g.db, "public.s1", sources.EventTime(timeOf)))
	g.tables = slices.Clone(g.srcT)
	g.streams = slices.Clone(g.srcS)
	g.global = sources.GlobalTable[int64, row](g.b, g.db, "public.g")
	g.srcT = append(g.srcT, g.global.Table())
	for range 2 + g.r.IntN(6) {
		g.add()
	}
	// Whatever is not read by anybody is read here.
	for i, t := range g.tables {
		operators.ToStream(fmt.Sprintf("end-%d", i), t)
	}
	for _, s := range g.streams {
		operators.Peek(s, func(record.Context, int64, row) {})
	}
	operators.LeftEnrichGlobal("end-g", g.srcS[0], g.global, func(k int64, _ row) int64 { return k },
		left)
	return g
}

func (g *graph) add() {
	t1, i1 := g.t()
	t2, i2 := g.t()
	s1, j1 := g.s()
	s2, j2 := g.s()
	r := g.r
	switch r.IntN(30) {
	case 0:
		g.name("filter", i1)
		g.addT(operators.Filter(t1, func(_ int64, r row) bool { return r.A%4 != 1 }))
	case 1:
		g.name("mapvalues", i1)
		g.addT(operators.MapValues(t1, func(k int64, r row) row { r.A /= 2; r.S = short(r.S + "m"); return r }))
	case 2:
		kind := r.IntN(3)
		n := g.name("join"+strconv.Itoa(kind), i1, i2)
		switch kind {
		case 0:
			g.addT(operators.Join(n, t1, t2, inner))
		case 1:
			g.addT(operators.LeftJoin(n, t1, t2, left))
		default:
			g.addT(operators.OuterJoin(n, t1, t2, both))
		}
	case 3:
		n := g.name("fk", i1, i2)
		g.addT(operators.LeftJoinForeignKeyNull(n, t1, t2, ref, left))
	case 4, 5:
		n := g.name("fkouter", i1, i2)
		o := operators.OuterJoinForeignKeyNull(n, t1, t2, ref, both)
		if r.IntN(2) == 0 {
			g.addT(operators.Aggregate(n+"-agg", operators.GroupBy(o,
				func(k either, _ row) int64 { return k.Left.V + 2*k.Right.V }), agg()))
		} else {
			g.addS(operators.Map(operators.ToStream(n+"-changes", o),
				func(k either, c record.Change[either, row]) (int64, row) {
					v := c.New
					v.S = short(fmt.Sprint(v.S, k, c.HasNew()))
					return k.Left.V + k.Right.V, v
				}))
		}
	case 6:
		n := g.name("fk2", i1, i2)
		g.addT(operators.JoinForeignKeys2(n, t1, operators.ReferNull(t2, ref),
			operators.ReferNull(t1, ref).Optional(),
			func(l row, a, b sql.Null[row]) row { return both(both(l, true, a.V, a.Valid), true, b.V, b.Valid) }))
	case 7:
		n := g.name("sides", i1, i2)
		g.addT(operators.JoinSides3(n, operators.Optional(t1), operators.Optional(t2),
			operators.Optional(g.tables[0]),
			func(a, b, c sql.Null[row]) row { return both(both(a.V, a.Valid, b.V, b.Valid), true, c.V, c.Valid) }))
	case 8:
		n := g.name("agg", i1)
		var o []operators.AggregateOption
		if r.IntN(3) == 0 {
			o = append(o, operators.KeepEmpty())
		}
		g.addT(operators.Aggregate(n, operators.GroupBy(t1, bare), agg(), o...))
	case 9, 10:
		n := g.name("ttl", i1)
		g.addT(operators.TTL(n, t1, us(3+r.Int64N(20))))
	case 11:
		n := g.name("limit", i1)
		g.addT(operators.SuppressUntilTimeLimit(n, t1, us(r.Int64N(15))))
	case 12:
		n := g.name("versioned", i1)
		v := operators.Versioned(n, t1, us(r.Int64N(30)))
		g.versioned = append(g.versioned, v)
		g.addT(v.Table)
	case 13:
		n := g.name("tostream", i1)
		g.addS(operators.Map(operators.ToStream(n, t1), func(k int64, c record.Change[int64, row]) (int64, row) {
			v := c.New
			if !c.HasNew() {
				v = c.Old
				v.S = short("-" + v.S)
			}
			return k, v
		}))
	case 14, 15:
		n := g.name("windowby", i1)
		var o []operators.AggregateOption
		w := windows.Hopping(us(10), us(5))
		if k := r.IntN(4); k > 0 {
			w = w.Grace(us(r.Int64N(8)))
			if k == 1 {
				o = append(o, operators.EmitOnClose())
			}
			if k == 2 {
				o = append(o, operators.Retention(us(r.Int64N(10))))
			}
		}
		wt := operators.Aggregate(n, operators.WindowBy(operators.GroupBy(t1, bare), w, timeOf), agg(), o...)
		if r.IntN(3) == 0 {
			wt = operators.TTL(n+"-ttl", wt, us(5+r.Int64N(20)))
		}
		g.windowOut(wt, n)
	case 16:
		n := g.name("enrich", j1, i1)
		g.addS(operators.LeftEnrich(n, s1, t1, refV, left))
	case 17:
		n := g.name("enrichglobal", j1)
		g.addS(operators.LeftEnrichGlobal(n, s1, g.global, func(k int64, _ row) int64 { return k },
			left))
	case 18:
		if len(g.versioned) == 0 {
			v := operators.Versioned(g.name("versioned", i1), t1, us(20))
			g.versioned = append(g.versioned, v)
			g.addT(v.Table)
		}
		v := g.versioned[r.IntN(len(g.versioned))]
		n := g.name("asof", j1)
		if g.r.IntN(2) == 0 {
			wide := operators.Versioned(n+"-wide", t1, us(20))
			g.addS(operators.LeftEnrichAsOf(n, s1, wide, refV, left, operators.WaitForRows(us(1+r.Int64N(15)))))
		} else {
			g.addS(operators.LeftEnrichAsOf(n, s1, v, refV, left))
		}
	case 19:
		n := g.name("dedupe", j1)
		g.addS(operators.Deduplicate(n, s1, func(k int64, r row) int64 { return r.A % 5 },
			windows.Within(us(r.Int64N(10))).Grace(us(r.Int64N(10)))))
	case 20, 21:
		kind := r.IntN(4)
		n := g.name("joinwindow"+strconv.Itoa(kind), j1, j2)
		w := windows.Within(us(r.Int64N(10))).Grace(us(r.Int64N(10)))
		switch kind {
		case 0:
			g.addS(operators.JoinWindow(n, s1, s2, w, inner))
		case 1:
			g.addS(operators.LeftJoinWindow(n, s1, s2, w, left))
		case 2:
			g.addS(operators.OuterJoinWindow(n, s1, s2, w, both))
		default:
			g.addS(operators.SelfJoinWindow(n, s1, w, inner))
		}
	case 22, 23:
		n := g.name("window", j1)
		w := g.window()
		var o []operators.AggregateOption
		kind := r.IntN(5)
		if kind == 0 {
			o = append(o, operators.EmitOnClose())
		}
		if kind == 1 {
			o = append(o, operators.Retention(us(r.Int64N(10))))
		}
		wt := operators.Aggregate(n, operators.Window(operators.GroupBy(s1, bare), w), agg(), o...)
		if kind == 2 {
			wt = operators.SuppressUntilWindowCloses(n+"-final", wt, w)
		}
		if kind == 3 {
			wt = operators.TTL(n+"-ttl", wt, us(5+r.Int64N(20)))
		}
		g.windowOut(wt, n)
	case 24, 29:
		n := g.name("process", j1)
		g.addS(operators.Process(n, s1, openProcessor))
	case 25:
		n := g.name("totable", j1)
		g.addT(operators.ToTable(n, operators.Merge(s1, operators.FlatMap(s2, several))))
	case 27:
		g.name("merge", j1, j2)
		g.addS(operators.Merge(s1, s2))
	case 28:
		g.name("flatmap", j1)
		g.addS(operators.FlatMap(s1, several))
	case 26:
		n := g.name("streamagg", j1)
		g.addT(operators.Aggregate(n, operators.GroupBy(s1, bare), agg()))
	}
}

// step is a transaction, with a heartbeat or a crash behind it.
type step struct {
	commit int64
	beat   int64
	ops    []op
	crash  int
}
type op struct {
	kind, src int
	key, to   int64
	row       row
}

func history(seed uint64) (steps []step) {
	r := rand.New(rand.NewPCG(seed, 5))
	now := int64(100)
	present := []map[int64]bool{{}, {}, {}}
	seq := int64(0)
	for range 12 + r.IntN(25) {
		s := step{crash: r.IntN(8)}
		switch r.IntN(7) {
		case 0:
			now += 10 + r.Int64N(40)
		case 1:
		default:
			now += r.Int64N(6)
		}
		s.commit = now
		if r.IntN(5) == 0 {
			s.beat = 1 + r.Int64N(15)
			now += s.beat
		}
		for range 1 + r.IntN(5) {
			seq++
			v := row{A: seq % 17, S: string(rune('a' + r.IntN(5))), At: epoch.Add(us(now - r.Int64N(14)))}
			if r.IntN(5) == 0 {
				v.At = epoch.Add(us(now - r.Int64N(40)))
			}
			if r.IntN(4) > 0 {
				v.F = sql.Null[int64]{V: r.Int64N(5), Valid: true}
			}
			o := op{key: r.Int64N(5), row: v}
			if r.IntN(2) == 0 {
				o.kind, o.src = 0, r.IntN(2)
			} else {
				o.src = r.IntN(3)
				p := present[o.src]
				switch k := r.IntN(14); {
				case k == 0:
					o.kind = 4
					clear(p)
				case k < 4 && p[o.key]:
					o.kind = 2
					delete(p, o.key)
				case k == 4 && p[o.key]:
					o.to = r.Int64N(5)
					if p[o.to] {
						o.kind = 1
					} else {
						o.kind = 3
						delete(p, o.key)
						p[o.to] = true
					}
				default:
					o.kind = 1
					p[o.key] = true
				}
			}
			s.ops = append(s.ops, o)
		}
		steps = append(steps, s)
	}
	return steps
}

type fatal struct{ msg string }
type tb struct{}

func (tb) Helper()                           {}
func (tb) Cleanup(func())                    {}
func (tb) Fatalf(format string, args ...any) { panic(fatal{fmt.Sprintf(format, args...)}) }

// run returns all rows and records, a line each.
func run(seed uint64, restarts bool, opts ...topologytest.Option) (out []string, failed string, g *graph) {
	g = build(seed)
	defer func() {
		if p := recover(); p != nil {
			if f, ok := p.(fatal); ok {
				failed = f.msg
				return
			}
			panic(p)
		}
	}()
	top, err := g.b.Build()
	if err != nil {
		return nil, err.Error(), g
	}
	d := topologytest.New(tb{}, top, opts...)
	defer d.Close()
	for _, s := range history(seed) {
		d.Tx(func(tx *topologytest.Tx) {
			tx.CommitTime(epoch.Add(us(s.commit)))
			for _, o := range s.ops {
				switch o.kind {
				case 0:
					topologytest.Emit(tx, g.srcS[o.src], o.key, o.row)
				case 1:
					topologytest.Upsert(tx, g.srcT[o.src], o.key, o.row)
				case 2:
					topologytest.Delete(tx, g.srcT[o.src], o.key)
				case 3:
					topologytest.UpdateKey(tx, g.srcT[o.src], o.key, o.to, o.row)
				case 4:
					topologytest.Truncate(tx, g.srcT[o.src])
				}
			}
		})
		if s.beat > 0 {
			d.AdvanceTime(epoch.Add(us(s.commit + s.beat)).Sub(d.Now()))
		}
		if restarts {
			switch s.crash {
			case 0:
				d.Crash()
			case 1:
				d.Reopen()
			}
		}
	}
	d.Commit()
	for i, t := range g.tables {
		var rows []string
		for k, v := range topologytest.Rows(d, t) {
			rows = append(rows, fmt.Sprint("T", i, " ", k, " ", show(v)))
		}
		slices.Sort(rows)
		out = append(out, rows...)
	}
	for i, s := range g.streams {
		for _, r := range topologytest.Records(d, s) {
			out = append(out, fmt.Sprint("S", i, " ", r.Key, " ", show(r.Value), " @", r.Time-epoch.UnixMicro()))
		}
	}
	for _, reason := range []string{"late", "duplicate", "expired", "no-row"} {
		out = append(out, fmt.Sprint(reason, " ", d.Dropped(reason)))
	}
	return out, "", g
}

func show(r row) string {
	return fmt.Sprint(r.A, r.F, r.S, " ", r.At.Sub(epoch).Microseconds())
}

// TestChains runs random topologies of all kinds of operators, one behind another, over
// random transactions: whole and in one go; in small pieces with little memory; in large
// epochs; and in 1 and 16 partitions; all but the first with crashes and restarts. Every
// row, record, time and count of what was dropped is the same.
func TestChains(t *testing.T) {
	t.Parallel()
	lines := 0
	from := uint64(setting(t, "SEED", 1))
	for seed := from; seed < from+uint64(setting(t, "CASES", 40)) && !t.Failed(); seed++ {
		want, failed, g := run(seed, false, topologytest.CheckEverything())
		if failed != "" {
			t.Fatalf("seed %d: %v\n%s", seed, g.desc, failed)
		}
		lines += len(want)
		r := rand.New(rand.NewPCG(seed, 3))
		for name, options := range map[string][]topologytest.Option{
			"in pieces": {
				topologytest.Chunks(1 + r.IntN(3)), topologytest.Steps(1 + r.IntN(3)),
				topologytest.Epochs(1 + r.IntN(6)), topologytest.Memory([]int64{1, 2000}[r.IntN(2)]),
			},
			"in large epochs": {topologytest.Epochs(2 + r.IntN(20))},
			"in 1 partition":  {topologytest.Partitions(1), topologytest.Epochs(1 + r.IntN(4))},
			"in 16 partitions": {
				topologytest.Partitions(16), topologytest.Encoded(), topologytest.Memory(2000),
				topologytest.CheckEverything(),
			},
		} {
			got, failed, _ := run(seed, true, options...)
			if failed != "" || !slices.Equal(got, want) {
				t.Errorf("seed %d, %s: %v\n%s%s", seed, name, g.desc, failed, diff(want, got))
			}
		}
	}
	if lines == 0 {
		t.Error("the topologies prove nothing: they have no output")
	}
}

func diff(want, got []string) string {
	for i := range max(len(want), len(got)) {
		w, g := "", ""
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if w != g {
			return fmt.Sprintf("line %d of %d/%d\nwant %s\n got %s", i, len(want), len(got), w, g)
		}
	}
	return ""
}

// setting is a number of the environment: TAILRACE_CHAINS_CASES and _SEED.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv("TAILRACE_CHAINS_" + name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
