package operators_test

import (
	"cmp"
	"database/sql"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// The tests in this file build random graphs of table operators, run random
// transactions through them, and compare every node with what plain loops over plain
// maps give for the same source rows.

// row is the row of every table, so that operators compose at will. A is different
// for each version of a source row, so that a pair of rows tells the state it is of.
type row struct {
	A, B int64
	F    sql.Null[int64]
	S    string
}

type rowMap = map[int64]row

// world is what source tables hold at one moment, and what follows from it.
type world struct {
	sources []rowMap
	tables  map[int]rowMap
	seen    map[int]map[any]bool // what joiners may be given, by node
}

func newWorld(sources []rowMap) *world {
	w := &world{tables: map[int]rowMap{}, seen: map[int]map[any]bool{}}
	for _, s := range sources {
		w.sources = append(w.sources, maps.Clone(s))
	}
	return w
}

// pair is what a joiner is given.
type pair struct {
	l, r       row
	hasL, hasR bool
}

// randomNode is a table of the topology with its oracle.
type randomNode struct {
	id     int
	name   string
	table  topology.Table[int64, row]
	oracle func(w *world) rowMap
	seen   func(w *world) map[any]bool
}

func (n *randomNode) rows(w *world) rowMap {
	m, ok := w.tables[n.id]
	if !ok {
		m = n.oracle(w)
		w.tables[n.id] = m
	}
	return m
}

// graph is a random topology.
type graph struct {
	b     *topology.Builder
	nodes []*randomNode
	// states are those that user functions may be given values of: the committed
	// states before and after the step that runs.
	states []*world
	mixed  bool // they may be given others: see TestRandomTablesDelayed
	// more compares what is no node that others could read.
	more       []func(d *topologytest.Driver, w *world) (diff string)
	grouped    *randomNode
	nullGroups topology.Table[sql.Null[int64], int64]
}

const sourceTables = 3

func newGraph(t *rapid.T) *graph {
	g := &graph{b: topology.New("random")}
	db := sources.NewDatabase("db", nil)
	for i := range sourceTables {
		g.add(fmt.Sprintf("source %d", i), sources.Table[int64, row](g.b, db, fmt.Sprintf("public.t%d", i)),
			func(w *world) rowMap { return w.sources[i] })
	}
	for range rapid.IntRange(1, 8).Draw(t, "operators") {
		x, y := g.pick(t), g.pick(t)
		switch rapid.SampledFrom([]string{
			"filter", "map", "join", "foreign", "aggregate", "sides", "foreign keys", "outer foreign",
		}).Draw(t, "kind") {
		case "sides":
			g.addSides(t)
		case "foreign keys":
			g.addForeignKeys(t, x)
		case "outer foreign":
			g.addOuterForeign(t, x, y)
		case "filter":
			g.addFilter(t, x)
		case "map":
			g.addMap(t, x)
		case "join":
			g.addJoin(t, x, y)
		case "foreign":
			g.addForeign(t, x, y)
		case "aggregate":
			g.addAggregate(t, x)
		}
	}
	for _, n := range g.nodes[:sourceTables] { // a source that nothing reads is refused
		operators.Filter(n.table, func(int64, row) bool { return true })
	}
	x := g.pick(t)
	g.grouped = x
	g.nullGroups = operators.Aggregate(
		"null-groups",
		operators.GroupBy(
			x.table,
			func(_ int64, r row) sql.Null[int64] { return sql.Null[int64]{V: r.B, Valid: r.F.Valid} },
		),
		aggregate.Count[row](),
	)
	return g
}

func (g *graph) pick(t *rapid.T) *randomNode {
	return g.nodes[rapid.IntRange(0, len(g.nodes)-1).Draw(t, "input")]
}

func (g *graph) add(name string, table topology.Table[int64, row], oracle func(w *world) rowMap) *randomNode {
	n := &randomNode{id: len(g.nodes), name: name, table: table, oracle: oracle}
	g.nodes = append(g.nodes, n)
	return n
}

func (g *graph) name(kind string) string { return fmt.Sprintf("%s-%d", kind, len(g.nodes)) }

func (g *graph) addFilter(t *rapid.T, x *randomNode) {
	mod := rapid.Int64Range(2, 3).Draw(t, "mod")
	keep := func(k int64, r row) bool { return (k+r.B)%mod != 0 }
	g.add("filter of "+x.name, operators.Filter(x.table, keep), func(w *world) rowMap {
		out := rowMap{}
		for k, r := range x.rows(w) {
			if keep(k, r) {
				out[k] = r
			}
		}
		return out
	})
}

func (g *graph) addMap(t *rapid.T, x *randomNode) {
	forget := rapid.Bool().Draw(t, "forget") // most changes then change nothing
	f := func(k int64, r row) row {
		if forget {
			return row{B: r.B}
		}
		return row{A: r.A ^ k, B: r.B + 1, F: r.F, S: "m" + r.S}
	}
	g.add("map of "+x.name, operators.MapValues(x.table, f), func(w *world) rowMap {
		out := rowMap{}
		for k, r := range x.rows(w) {
			out[k] = f(k, r)
		}
		return out
	})
}

// joined is what joiners compute: something that all of its arguments show in.
func joined(l row, hasL bool, r row, hasR bool) row {
	out := row{A: l.A*1_000_003 + r.A, B: l.B + r.B, F: l.F, S: r.S}
	if !hasL {
		out.S, out.F = "no left", r.F
	}
	if !hasR {
		out.S = "no right"
	}
	return out
}

// check panics on a pair that neither the state before the step nor the one after it
// has.
func (g *graph) check(n **randomNode) func(l row, hasL bool, r row, hasR bool) row {
	return func(l row, hasL bool, r row, hasR bool) row {
		g.see(*n, pair{l, r, hasL, hasR})
		return joined(l, hasL, r, hasR)
	}
}

// see panics if a joiner is given what no committed state has.
func (g *graph) see(n *randomNode, given any) {
	if g.mixed {
		return
	}
	for _, w := range g.states {
		if _, ok := w.seen[n.id]; !ok {
			w.seen[n.id] = n.seen(w)
		}
		if w.seen[n.id][given] {
			return
		}
	}
	panic(fmt.Sprintf("%s: joined %+v, which no committed state has", n.name, given))
}

func (g *graph) addJoin(t *rapid.T, x, y *randomNode) {
	kind := rapid.SampledFrom([]string{"inner", "left", "outer"}).Draw(t, "join")
	node := new(*randomNode)
	f := g.check(node)
	name := g.name("join")
	var table topology.Table[int64, row]
	switch kind {
	case "inner":
		table = operators.Join(name, x.table, y.table, func(l, r row) row { return f(l, true, r, true) })
	case "left":
		table = operators.LeftJoin(name, x.table, y.table,
			func(l, r row, has bool) row { return f(l, true, r, has) })
	case "outer":
		table = operators.OuterJoin(name, x.table, y.table, f)
	}
	pairs := func(w *world) map[int64]pair {
		out := map[int64]pair{}
		for k, l := range x.rows(w) {
			r, ok := y.rows(w)[k]
			if ok || kind != "inner" {
				out[k] = pair{l, r, true, ok}
			}
		}
		for k, r := range y.rows(w) {
			if _, ok := x.rows(w)[k]; !ok && kind == "outer" {
				out[k] = pair{row{}, r, false, true}
			}
		}
		return out
	}
	*node = g.addPairs(fmt.Sprintf("%s join of (%s) and (%s)", kind, x.name, y.name), table, pairs)
}

func (g *graph) addPairs(
	name string, table topology.Table[int64, row], pairs func(w *world) map[int64]pair,
) *randomNode {
	n := g.add(name, table, func(w *world) rowMap {
		out := rowMap{}
		for k, p := range pairs(w) {
			out[k] = joined(p.l, p.hasL, p.r, p.hasR)
		}
		return out
	})
	n.seen = func(w *world) map[any]bool {
		set := map[any]bool{}
		for _, p := range pairs(w) {
			set[p] = true
		}
		return set
	}
	return n
}

func (g *graph) addForeign(t *rapid.T, x, y *randomNode) {
	left, nullable := rapid.Bool().Draw(t, "left"), rapid.Bool().Draw(t, "nullable")
	node := new(*randomNode)
	f := g.check(node)
	name := g.name("foreign")
	inner := func(l, r row) row { return f(l, true, r, true) }
	outer := func(l, r row, has bool) row { return f(l, true, r, has) }
	fk := func(r row) int64 { return r.B % 6 }
	fkNull := func(r row) sql.Null[int64] { return r.F }
	var table topology.Table[int64, row]
	switch {
	case left && nullable:
		table = operators.LeftJoinForeignKeyNull(name, x.table, y.table, fkNull, outer)
	case left:
		table = operators.LeftJoinForeignKey(name, x.table, y.table, fk, outer)
	case nullable:
		table = operators.JoinForeignKeyNull(name, x.table, y.table, fkNull, inner)
	default:
		table = operators.JoinForeignKey(name, x.table, y.table, fk, inner)
	}
	*node = g.addPairs(fmt.Sprintf("foreign key join of (%s) to (%s)", x.name, y.name), table,
		func(w *world) map[int64]pair {
			out := map[int64]pair{}
			for k, l := range x.rows(w) {
				key, ok := fk(l), true
				if nullable {
					key, ok = l.F.V, l.F.Valid
				}
				var r row
				if ok {
					r, ok = y.rows(w)[key]
				}
				if ok || left {
					out[k] = pair{l, r, true, ok}
				}
			}
			return out
		})
}

// addAggregate aggregates with several aggregators at once; the oracle has loops of
// its own for each. The result function checks that it is given whole groups.
func (g *graph) addAggregate(t *rapid.T, x *randomNode) {
	mod := rapid.Int64Range(1, 4).Draw(t, "groups")
	which := rapid.IntRange(0, len(randomAggregates)-1).Draw(t, "aggregate")
	a := randomAggregates[which]
	group := func(k int64, r row) int64 { return (r.B + k) % mod }
	results := func(w *world) map[int64]string {
		rows := map[int64][]keyed{}
		for k, r := range x.rows(w) {
			rows[group(k, r)] = append(rows[group(k, r)], keyed{k, r})
		}
		out := map[int64]string{}
		for key, rs := range rows {
			slices.SortFunc(rs, func(a, b keyed) int { return cmp.Compare(a.k, b.k) })
			out[key] = a.oracle(rs)
		}
		return out
	}
	whole := func(s string) row {
		if g.mixed {
			return row{S: s, B: int64(len(s))}
		}
		for _, w := range g.states {
			for _, r := range results(w) {
				if r == s {
					return row{S: s, B: int64(len(s))}
				}
			}
		}
		panic(fmt.Sprintf("%s of %s: the result is %q, which no committed state has", a.name, x.name, s))
	}
	table := operators.Aggregate(
		g.name("aggregate"),
		operators.GroupBy(x.table, group),
		aggregate.Map(a.agg, whole),
	)
	g.add(fmt.Sprintf("%s of (%s)", a.name, x.name), table, func(w *world) rowMap {
		out := rowMap{}
		for k, s := range results(w) {
			out[k] = row{S: s, B: int64(len(s))}
		}
		return out
	})
}

// keyed is a row with its key.
type keyed struct {
	k int64
	row
}

type randomAggregate struct {
	name   string
	agg    aggregate.Aggregator[row, string]
	oracle func([]keyed) string
}

func text[R any](r R) string { return fmt.Sprint(r) }

func sprint[R any](a aggregate.Aggregator[row, R]) aggregate.Aggregator[row, string] {
	return aggregate.Map(a, text[R])
}

func of[T any](rs []keyed, f func(r row) T) []T {
	out := make([]T, len(rs))
	for i := range rs {
		out[i] = f(rs[i].row)
	}
	return out
}

func valid(rs []keyed) (out []int64) {
	for _, r := range rs {
		if r.F.Valid {
			out = append(out, r.F.V)
		}
	}
	return out
}

func total(ns []int64) (sum int64) {
	for _, n := range ns {
		sum += n
	}
	return sum
}

func orNull(ns []int64, f func([]int64) int64) string {
	if len(ns) == 0 {
		return text(sql.Null[int64]{})
	}
	return text(sql.Null[int64]{V: f(ns), Valid: true})
}

func byB(r row) int64            { return r.B }
func byF(r row) sql.Null[int64]  { return r.F }
func byS(r row) string           { return r.S }
func tenths(r row) float64       { return float64(r.B) / 10 }
func cents(r row) record.Decimal { return record.NewDecimal(r.B, -2) }
func byBS(r row) struct {
	N int64
	S string
} {
	return struct {
		N int64
		S string
	}{-r.B, r.S}
}

var randomAggregates = []randomAggregate{
	{"count", sprint(aggregate.Count[row]()), func(rs []keyed) string { return text(len(rs)) }},
	{
		"count not null",
		sprint(aggregate.CountNotNull(byF)),
		func(rs []keyed) string { return text(len(valid(rs))) },
	},
	{"sum", sprint(aggregate.Sum(byB)), func(rs []keyed) string { return text(total(of(rs, byB))) }},
	{"sum null", sprint(aggregate.SumNull(byF)), func(rs []keyed) string { return orNull(valid(rs), total) }},
	{"min", sprint(aggregate.Min(byB)), func(rs []keyed) string { return text(slices.Min(of(rs, byB))) }},
	{"max", sprint(aggregate.Max(byS)), func(rs []keyed) string { return slices.Max(of(rs, byS)) }},
	{"min null", sprint(aggregate.MinNull(byF)),
		func(rs []keyed) string { return orNull(valid(rs), slices.Min[[]int64]) }},
	{"max null", sprint(aggregate.MaxNull(byF)),
		func(rs []keyed) string { return orNull(valid(rs), slices.Max[[]int64]) }},
	{
		"sum float",
		aggregate.Map(aggregate.SumFloat(tenths), func(f float64) string { return text(math.Round(f * 1e6)) }),
		func(rs []keyed) string { return text(float64(total(of(rs, byB)) * 100000)) },
	},
	{"sum decimal", sprint(aggregate.SumDecimal(cents)),
		func(rs []keyed) string { return text(record.NewDecimal(total(of(rs, byB)), -2)) }},
	{
		"avg",
		aggregate.Map(
			aggregate.Avg(byB),
			func(d record.Decimal) string { return fmt.Sprintf("%.9f", d.Float64()) },
		),
		func(rs []keyed) string { return fmt.Sprintf("%.9f", float64(total(of(rs, byB)))/float64(len(rs))) },
	},
	{"collect", sprint(aggregate.Collect(byB, byS)), func(rs []keyed) string {
		slices.SortStableFunc(rs, func(a, b keyed) int { return cmp.Compare(a.B, b.B) })
		return text(of(rs, byS))
	}},
	{"top 2", sprint(aggregate.TopN(2, byB, byS)), func(rs []keyed) string {
		slices.SortStableFunc(rs, func(a, b keyed) int { return cmp.Compare(b.B, a.B) })
		return text(of(rs[:min(2, len(rs))], byS))
	}},
	{"arg max of a struct", sprint(aggregate.ArgMax(byBS, byB)), func(rs []keyed) string {
		slices.SortStableFunc(
			rs,
			func(a, b keyed) int { return cmp.Or(cmp.Compare(a.B, b.B), cmp.Compare(b.S, a.S)) },
		)
		return text(rs[0].B)
	}},
	{"combination", aggregate.Combine3(aggregate.Count[row](), aggregate.Max(byB), aggregate.Collect(byS, byB),
		func(n, most int64, list []int64) string { return text(n) + " " + text(most) + " " + text(list) }),
		func(rs []keyed) string {
			n, most := len(rs), slices.Max(of(rs, byB))
			slices.SortStableFunc(rs, func(a, b keyed) int { return strings.Compare(a.S, b.S) })
			return text(n) + " " + text(most) + " " + text(of(rs, byB))
		}},
	{
		"reduce",
		aggregate.Map(aggregate.ReduceTable(
			func(acc, r row) row { return row{B: acc.B + r.B} },
			func(acc, r row) row { return row{B: acc.B - r.B} },
		), func(r row) string { return text(r.B) }),
		func(rs []keyed) string { return text(total(of(rs, byB))) },
	},
	{"fold", sprint(aggregate.Custom(aggregate.Fold[row, int64, int64]{
		Add:    func(a int64, r row) int64 { return a ^ r.B*7919 },
		Remove: func(a int64, r row) int64 { return a ^ r.B*7919 },
		Result: func(a int64) int64 { return a },
	})), func(rs []keyed) string {
		var a int64
		for _, b := range of(rs, byB) {
			a ^= b * 7919
		}
		return text(a)
	}},
}

// history draws transactions and keeps what the source tables hold.
type history struct {
	sources []rowMap
	version int64
}

func newHistory() *history {
	h := &history{}
	for range sourceTables {
		h.sources = append(h.sources, rowMap{})
	}
	return h
}

func (h *history) row(t *rapid.T) row {
	h.version++
	return row{
		A: h.version, B: rapid.Int64Range(0, 6).Draw(t, "b"),
		F: sql.Null[int64]{V: rapid.Int64Range(0, 5).Draw(t, "f"), Valid: rapid.Bool().Draw(t, "valid")},
		S: rapid.SampledFrom([]string{"", "x", "y\x00"}).Draw(t, "s"),
	}
}

// transaction draws the operations of one transaction and applies them to both.
func (h *history) transaction(t *rapid.T, g *graph, tx *topologytest.Tx) {
	for range rapid.IntRange(1, 6).Draw(t, "rows") {
		i := rapid.IntRange(0, sourceTables-1).Draw(t, "table")
		table, rows := g.nodes[i].table, h.sources[i]
		k := rapid.Int64Range(0, 5).Draw(t, "key")
		old, has := rows[k]
		op := rapid.IntRange(0, 19).Draw(t, "op")
		switch {
		case op == 0:
			topologytest.Truncate(tx, table)
			clear(rows)
		case has && op < 6:
			topologytest.Delete(tx, table, k)
			delete(rows, k)
		case has && op < 8: // an update that changes nothing
			topologytest.Update(tx, table, k, old)
		case has && op < 11:
			to := rapid.Int64Range(0, 5).Draw(t, "new key")
			if _, taken := rows[to]; taken {
				to = k
			}
			topologytest.UpdateKey(tx, table, k, to, old)
			delete(rows, k)
			rows[to] = old
		default:
			r := h.row(t)
			topologytest.Upsert(tx, table, k, r)
			if !r.F.Valid {
				r.F.V = 0
			}
			rows[k] = r
		}
	}
}

// cut is how a run is cut into pieces.
type cut struct {
	chunks, steps, epochs int
	memory                int64
	partitions            int
	encoded               bool
}

// drawPartitions draws in how many partitions a topology runs; 0 is whole.
func drawPartitions(t *rapid.T) int {
	return rapid.SampledFrom([]int{0, 1, 2, 16}).Draw(t, "partitions")
}

func drawCut(t *rapid.T) cut {
	return cut{
		chunks: rapid.IntRange(1, 5).Draw(t, "chunks"), steps: rapid.IntRange(0, 3).Draw(t, "steps"),
		epochs:     rapid.IntRange(1, 4).Draw(t, "epochs"),
		memory:     rapid.SampledFrom([]int64{0, 1, 3000}).Draw(t, "memory"),
		partitions: drawPartitions(t), encoded: rapid.Bool().Draw(t, "encoded"),
	}
}

func (c cut) options() []topologytest.Option {
	options := []topologytest.Option{
		topologytest.Chunks(c.chunks), topologytest.Steps(c.steps), topologytest.Epochs(c.epochs),
		topologytest.Memory(c.memory), topologytest.CheckEverything(), topologytest.Partitions(c.partitions),
	}
	if c.encoded {
		options = append(options, topologytest.Encoded())
	}
	return options
}

// TestRandomTables is the main test of table operators. After every epoch each node
// equals its recomputation; in every step each key changes at most once, never to
// itself, and look-ups agree with changes (which the driver checks); functions are
// only given values that hold together before the step or after it; and neither cuts
// nor crashes nor want of memory make a difference.
func TestRandomTables(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, h, c := newGraph(t), newHistory(), drawCut(t)
		committed := newWorld(h.sources)
		before := committed
		var since []*world // the states since the last commit
		d := topologytest.New(t, g.b.MustBuild(), c.options()...)
		unstepped := 0
		for range rapid.IntRange(1, 15).Draw(t, "transactions") {
			d.Tx(func(tx *topologytest.Tx) {
				h.transaction(t, g, tx)
				since = append(since, newWorld(h.sources))
				g.states = []*world{before, since[len(since)-1]}
			})
			if unstepped++; c.steps > 0 && unstepped >= c.steps {
				before, unstepped = since[len(since)-1], 0
			}
			if len(since) >= c.epochs {
				committed, since, unstepped = since[len(since)-1], nil, 0
				before = committed
			}
			g.compare(t, d, committed)
			switch rapid.IntRange(0, 5).Draw(t, "crash") {
			case 0:
				g.states = append(since, committed)
				d.Crash()
				g.compare(t, d, committed)
			case 1:
				g.states = append(since, committed)
				d.Reopen(topologytest.Partitions(drawPartitions(t)))
				if n := len(since); n > 0 {
					committed, since = since[n-1], nil
				}
				before, unstepped = committed, 0
				g.compare(t, d, committed)
			}
		}
	})
}

func (g *graph) compare(t *rapid.T, d *topologytest.Driver, w *world) {
	for _, n := range g.nodes {
		if got, want := topologytest.Rows(d, n.table), n.rows(w); !maps.Equal(got, want) {
			t.Fatalf("%s:\n got %v\nwant %v", n.name, got, want)
		}
	}
	for _, compare := range g.more {
		if diff := compare(d, w); diff != "" {
			t.Fatal(diff)
		}
	}
	want := map[sql.Null[int64]]int64{}
	for _, r := range g.grouped.rows(w) {
		group := sql.Null[int64]{Valid: r.F.Valid}
		if r.F.Valid {
			group.V = r.B
		}
		want[group]++
	}
	if got := topologytest.Rows(d, g.nullGroups); !maps.Equal(got, want) {
		t.Fatalf("groups with NULL of %s:\n got %v\nwant %v", g.grouped.name, got, want)
	}
}
