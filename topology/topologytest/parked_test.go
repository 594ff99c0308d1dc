package topologytest_test

import (
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// faults says which functions fail on which values: on those whose last digit is in their
// set. Mending takes digits out.
type faults map[string]map[int64]bool

var broken = faults{} // what decoding goes by, too; tests of this file do not run in parallel

func (f faults) check(node string, n int64) {
	if f[node][n%10] {
		panic(fmt.Sprintf("%s fails on %d", node, n))
	}
}

// digits is a number that cannot be decoded where its last digit is a fault of "row".
type digits int64

func (d digits) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(d), 10), nil }

func (d *digits) UnmarshalText(text []byte) error {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if *d = digits(n); err == nil && broken["row"][n%10] {
		err = fmt.Errorf("%d is a fault", n)
	}
	return err
}

type item struct {
	Ref   int64
	Kind  int64
	Value digits
}

// parkBench is a topology in which every table node that takes a policy has one.
type parkBench struct {
	top           *topology.Topology
	items, others topology.Table[int64, item]
	// results are tables of a number each, and below them is the sum of each.
	results map[string]topology.Table[int64, int64]
	sums    map[string]topology.Table[bool, int64]
}

func newParkBench(t *testing.T, policy topology.ErrorPolicy) *parkBench {
	t.Helper()
	b := topology.New("parks")
	db := sources.NewDatabase("shop", nil)
	p := &parkBench{
		results: map[string]topology.Table[int64, int64]{},
		sums:    map[string]topology.Table[bool, int64]{},
	}
	p.items = sources.Table[int64, item](b, db, "public.items").OnError(policy)
	p.others = sources.Table[int64, item](b, db, "public.others").OnError(policy)
	value := func(node string) func(int64, item) int64 {
		return func(_ int64, i item) int64 {
			broken.check(node, int64(i.Value))
			return 3 * int64(i.Value)
		}
	}
	both := func(node string) func(l, r item) int64 {
		return func(l, r item) int64 {
			broken.check(node, int64(l.Value)+int64(r.Value))
			return int64(l.Value) - int64(r.Value)
		}
	}
	ref := func(node string) func(item) int64 {
		return func(i item) int64 {
			broken.check(node, i.Ref)
			return i.Ref
		}
	}
	add := func(name string, table topology.Table[int64, int64]) { p.results[name] = table.OnError(policy) }
	add("map", operators.MapValues(p.items, value("map")))
	add("map-map", operators.MapValues(p.results["map"], func(_, n int64) int64 {
		broken.check("map-map", n)
		return n + 1
	}))
	filtered := operators.Filter(p.items, func(_ int64, i item) bool {
		broken.check("filter", int64(i.Value))
		return i.Value%3 != 0
	}).OnError(policy)
	p.results["filter"] = operators.MapValues(filtered, func(_ int64, i item) int64 { return int64(i.Value) })
	add("join", operators.Join("join", p.items, p.others, both("join")))
	add("left", operators.LeftJoin("left", p.others, p.items, func(l, r item, _ bool) int64 {
		return both("left")(l, r)
	}))
	add("fk", operators.JoinForeignKey("fk", p.items, p.others, ref("fk-key"), both("fk")))
	add("sides", operators.JoinSides3("sides", operators.Optional(p.items), operators.Required(p.others),
		operators.Optional(p.results["map"]),
		func(a, b sql.Null[item], c sql.Null[int64]) int64 {
			broken.check("sides", int64(a.V.Value)+int64(b.V.Value))
			return int64(a.V.Value) + c.V
		}))
	add("fks", operators.JoinForeignKeys2("fks", p.items, operators.Refer(p.others, ref("fks-key")),
		operators.Refer(p.others, func(i item) int64 { return i.Kind }).Optional(),
		func(l item, r1, r2 sql.Null[item]) int64 {
			broken.check("fks", int64(l.Value))
			return int64(l.Value) + int64(r1.V.Value) + int64(r2.V.Value)
		}))
	kinds := operators.GroupBy(p.items, func(_ int64, i item) int64 {
		broken.check("group", int64(i.Value))
		return i.Kind
	})
	number := func(i item) int64 {
		broken.check("add", int64(i.Value))
		return int64(i.Value)
	}
	add("sum", operators.Aggregate("sum", kinds, failingSum("sum", number)))
	add("max", operators.Aggregate("max", kinds, aggregate.Map(aggregate.Max(number), func(n int64) int64 {
		broken.check("max", n)
		return n
	})))
	for name, table := range p.results {
		p.sums[name] = operators.Aggregate("sum-"+name,
			operators.GroupBy(table, func(int64, int64) bool { return true }),
			aggregate.Sum(func(n int64) int64 { return n }), operators.NodeVersion(len(name)))
	}
	top, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	p.top = top
	return p
}

// failingSum is a sum the result of which fails.
func failingSum(node string, number func(item) int64) aggregate.Aggregator[item, int64] {
	return aggregate.Map(aggregate.Sum(number), func(n int64) int64 {
		broken.check(node, n)
		return n
	})
}

// wantParkBench computes the results from the rows, with functions that never fail.
func wantParkBench(items, others map[int64]item) map[string]map[int64]int64 {
	out := map[string]map[int64]int64{}
	for _, name := range strings.Fields("map map-map filter join left fk sides fks sum max") {
		out[name] = map[int64]int64{}
	}
	for k, i := range items {
		v := int64(i.Value)
		out["map"][k], out["map-map"][k] = 3*v, 3*v+1
		if v%3 != 0 {
			out["filter"][k] = v
		}
		if o, ok := others[k]; ok {
			out["join"][k] = v - int64(o.Value)
		}
		if o, ok := others[i.Ref]; ok {
			out["fk"][k], out["fks"][k] = v-int64(o.Value), v+int64(o.Value)+int64(others[i.Kind].Value)
		}
		if m, ok := out["max"][i.Kind]; !ok || v > m {
			out["max"][i.Kind] = v
		}
		out["sum"][i.Kind] += v
	}
	for k, o := range others {
		i := items[k]
		out["left"][k] = int64(o.Value) - int64(i.Value)
		out["sides"][k] = int64(i.Value) + 3*int64(i.Value)
	}
	return out
}

var faultyNodes = []string{
	"row",
	"map",
	"map-map",
	"filter",
	"join",
	"left",
	"fk-key",
	"fk",
	"sides",
	"fks-key",
	"fks",
	"group",
	"add",
	"sum",
	"max",
}

// TestParkedKeysComeBack lets functions of every kind of table node fail on random keys.
// Meanwhile what is read of each table agrees with what came out of it as changes; after
// all is mended and replayed, results are those of functions that never failed.
func TestParkedKeysComeBack(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runParkBench(t, rand.New(rand.NewPCG(seed, 7))) })
	}
}

func runParkBench(t *testing.T, r *rand.Rand) {
	broken = faults{}
	for _, node := range faultyNodes {
		broken[node] = map[int64]bool{}
		for range r.IntN(4) {
			broken[node][r.Int64N(10)] = true
		}
	}
	skips := r.IntN(4) == 0
	p := newParkBench(t, func(_ record.Context, f *topology.Failure) topology.Verdict {
		if skips && f.Tx.XID%2 == 0 {
			return topology.Skip
		}
		return topology.DeadLetter
	})
	opts := [][]topologytest.Option{
		nil,
		{topologytest.Chunks(1), topologytest.Epochs(3)},
		{topologytest.Epochs(0), topologytest.Memory(1)},
		{topologytest.CheckEverything(), topologytest.Epochs(2)},
	}[r.IntN(4)]
	d := topologytest.New(t, p.top, opts...)
	items, others := map[int64]item{}, map[int64]item{}
	for range 60 {
		d.Tx(func(tx *topologytest.Tx) {
			for range 1 + r.IntN(4) {
				table, rows := p.items, items
				if r.IntN(3) == 0 {
					table, rows = p.others, others
				}
				writeRandom(tx, r, table, rows)
			}
		})
		switch r.IntN(12) {
		case 0:
			d.Crash()
		case 1:
			p.mend(r)
			d.ReplayDeadLetters()
		case 2:
			d.Commit()
			p.agrees(t, d)
		}
	}
	if d.Commit(); len(d.DeadLetters()) == 0 && !skips && len(broken["map"]) > 0 {
		t.Log("nothing is parked at the end")
	}
	p.agrees(t, d)
	for _, node := range faultyNodes {
		clear(broken[node])
	}
	replayAll(d, r)
	if left := d.DeadLetters(); len(left) > 0 {
		t.Fatalf("%d letters are left, first %+v", len(left), left[0])
	}
	p.agrees(t, d)
	if skips {
		return
	}
	for name, want := range wantParkBench(items, others) {
		if got := topologytest.Rows(d, p.results[name]); !maps.Equal(got, want) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// replayAll replays what is left, at once or letter by letter in any order: a node is tried
// with what those before it put out now, be they parked themselves.
func replayAll(d *topologytest.Driver, r *rand.Rand) {
	letters := d.DeadLetters()
	if r.IntN(3) == 0 {
		d.ReplayDeadLetters()
		return
	}
	r.Shuffle(len(letters), func(i, j int) { letters[i], letters[j] = letters[j], letters[i] })
	for _, l := range letters {
		d.ReplayDeadLetters(l.ID)
		if r.IntN(8) == 0 {
			d.Crash()
		}
	}
}

func (p *parkBench) mend(r *rand.Rand) {
	digits := broken[faultyNodes[r.IntN(len(faultyNodes))]]
	for n := range digits {
		if r.IntN(2) == 0 {
			delete(digits, n)
		}
	}
}

// agrees compares what an aggregate has made of a table's changes with the table.
func (p *parkBench) agrees(t *testing.T, d *topologytest.Driver) {
	t.Helper()
	for name, table := range p.results {
		want := int64(0)
		for _, n := range topologytest.Rows(d, table) {
			want += n
		}
		if got, _ := topologytest.Row(d, p.sums[name], true); got != want {
			t.Fatalf("the sum of %s is %d, its rows have %d", name, got, want)
		}
	}
}

func writeRandom(tx *topologytest.Tx, r *rand.Rand, table topology.Table[int64, item], rows map[int64]item) {
	key := r.Int64N(8)
	row := item{Ref: r.Int64N(8), Kind: r.Int64N(3), Value: digits(r.Int64N(100))}
	_, has := rows[key]
	switch {
	case has && r.IntN(5) == 0:
		topologytest.Delete(tx, table, key)
		delete(rows, key)
		return
	case has && r.IntN(6) == 0:
		to := r.Int64N(8)
		if _, taken := rows[to]; !taken {
			topologytest.UpdateKey(tx, table, key, to, row)
			delete(rows, key)
			rows[to] = row
			return
		}
	case r.IntN(100) == 0:
		topologytest.Truncate(tx, table)
		clear(rows)
		return
	}
	topologytest.Upsert(tx, table, key, row)
	rows[key] = row
}
