package topologytest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

func keep(record.Context, *topology.Failure) topology.Verdict { return topology.DeadLetter }

// TestReplayOfStreams feeds inputs of streams again to the nodes that set them aside: in
// order, with the transactions that they came from, once; dropped ones are gone.
func TestReplayOfStreams(t *testing.T) {
	for name, opts := range map[string][]topologytest.Option{
		"whole": nil, "one partition": {topologytest.Partitions(1)},
		"partitions": {topologytest.Partitions(3), topologytest.Encoded()},
	} {
		for _, crash := range []bool{true, false} { // without, partitions remember what they have read
			t.Run(fmt.Sprint(name, " crash ", crash), func(t *testing.T) {
				testReplayOfStreams(t, crash, append(opts, topologytest.Epochs(3)))
			})
		}
	}
}

func testReplayOfStreams(t *testing.T, crash bool, opts []topologytest.Option) {
	broken = faults{"row": {7: true}, "map": {3: true}, "enrich": {4: true}, "look-up": {8: true}}
	b := topology.New("again")
	db := sources.NewDatabase("shop", nil)
	in := sources.Stream[int64, item](b, db, "public.events").OnError(keep)
	rates := sources.Table[int64, rate](b, db, "public.rates")
	mapped := operators.MapStreamValues(in, func(_ int64, i item) int64 {
		broken.check("map", int64(i.Value))
		return int64(i.Value)
	}).OnError(keep)
	first := func(n int64) int64 {
		broken.check("look-up", n)
		return 1
	}
	out := operators.Enrich("priced", mapped, rates, first, func(n int64, r rate) int64 {
		broken.check("enrich", n)
		return n * r.Percent
	}).OnError(keep)
	total := operators.Aggregate("total", operators.GroupBy(out, func(int64, int64) bool { return true }),
		aggregate.Sum(func(n int64) int64 { return n }))
	d := topologytest.New(t, b.MustBuild(), opts...)
	topologytest.Insert(d, rates, 1, rate{Percent: 10})
	for n := range int64(20) {
		topologytest.Emit(d, in, n, item{Value: digits(n)})
	}
	d.Commit()
	topologytest.Values(d, out)
	letters := d.DeadLetters()
	if len(letters) != 8 {
		t.Fatalf("there are %d letters: %+v", len(letters), letters)
	}
	if tried, failed := d.ReplayDeadLetters(); tried != 8 || failed != 8 {
		t.Errorf("what is not mended is tried %d times and fails %d times", tried, failed)
	}
	if again := d.DeadLetters(); fmt.Sprint(again) != fmt.Sprint(letters) {
		t.Errorf("after a replay that failed the letters are\n%v, want\n%v", again, letters)
	}
	clear(broken)
	if n := d.DropDeadLetters(letters[0].ID); n != 1 {
		t.Errorf("%d letters are dropped", n)
	}
	if tried, failed := d.ReplayDeadLetters(letters[1].ID, "nothing"); tried != 1 || failed != 0 {
		t.Errorf("one letter is tried %d times and fails %d times", tried, failed)
	}
	if crash {
		d.Crash()
	}
	topologytest.Update(d, rates, 1, rate{Percent: 1})
	if tried, failed := d.ReplayDeadLetters(); tried != 6 || failed != 0 {
		t.Errorf("the rest is tried %d times and fails %d times", tried, failed)
	}
	var got []string
	for _, r := range topologytest.Records(d, out) {
		got = append(got, fmt.Sprintf("%d=%d@%s", r.Key, r.Value, record.LSN(r.Tag.Tx.Position)))
	}
	var want []string
	for i, l := range letters[1:] {
		n := []int{4, 7, 8, 13, 14, 17, 18}[i]
		percent := 1
		if i == 0 {
			percent = 10
		}
		want = append(want, fmt.Sprintf("%d=%d@%s", n, n*percent, l.Position))
	}
	if !slices.Equal(got, want) {
		t.Errorf("replayed come out %v, want %v", got, want)
	}
	if left := d.DeadLetters(); len(left) > 0 {
		t.Errorf("letters are left: %+v", left)
	}
	sum := int64(40 + 7 + 8 + 13 + 14 + 17 + 18)
	for n := range int64(20) {
		if !slices.Contains([]int64{3, 4, 7, 8, 13, 14, 17, 18}, n) {
			sum += 10 * n
		}
	}
	if got, _ := topologytest.Row(d, total, true); got != sum {
		t.Errorf("the sum is %d, want %d", got, sum)
	}
}

// TestParkedKey walks one key through the rule: it keeps its output while its inputs
// fail, also where its letter is dropped or the policy is taken away, and comes back with
// the first that succeeds.
func TestParkedKey(t *testing.T) {
	broken = faults{"map": {3: true}, "row": {7: true}}
	memory := state.NewMemory()
	var items topology.Table[int64, item]
	var out topology.Table[int64, int64]
	build := func(policy topology.ErrorPolicy) *topology.Topology {
		b := topology.New("one")
		items = sources.Table[int64, item](b, sources.NewDatabase("shop", nil), "public.items").OnError(keep)
		out = operators.MapValues(items, func(_ int64, i item) int64 {
			broken.check("map", int64(i.Value))
			return int64(i.Value)
		})
		if policy != nil {
			out = out.OnError(policy)
		}
		return b.MustBuild()
	}
	d := topologytest.New(t, build(keep), topologytest.DB(memory))
	row := func(want string) {
		t.Helper()
		n, ok := topologytest.Row(d, out, 1)
		if got := fmt.Sprint(n, ok, len(d.DeadLetters())); got != want {
			t.Errorf("value, whether there is one, letters: %s, want %s", got, want)
		}
	}
	topologytest.Insert(d, items, 1, item{Value: 3})
	row("0 false 1")
	topologytest.Update(d, items, 1, item{Value: 5})
	row("5 true 0")
	topologytest.Update(d, items, 1, item{Value: 13})
	row("5 true 1")
	d.Crash()
	topologytest.Update(d, items, 1, item{Value: 23})
	if l := d.DeadLetters()[0]; l.Failures != 2 || l.ID != "one/map-values#1#8000000000000001" || !l.Parked ||
		string(l.Key) != "1" || !strings.Contains(string(l.Value), "23") {
		t.Errorf("the letter is %+v", l)
	}
	if d.DropDeadLetters() != 1 {
		t.Error("no letter was dropped")
	}
	row("5 true 0")
	topologytest.Update(d, items, 1, item{Value: 17})
	row("5 true 1")
	delete(broken["map"], 3)
	topologytest.Update(d, items, 1, item{Value: 27})
	delete(broken["row"], 7)
	d.ReplayDeadLetters()
	row("27 true 0")
	broken["map"] = map[int64]bool{9: true}
	topologytest.Update(d, items, 1, item{Value: 9})
	row("27 true 1")
	topologytest.Delete(d, items, 1)
	row("0 false 0")
}

// TestTablesWithoutPolicy are refused at Build, with the remedy.
func TestTablesWithoutPolicy(t *testing.T) {
	b := topology.New("wrong")
	db := sources.NewDatabase("shop", nil)
	items := sources.Table[int64, item](b, db, "public.items")
	operators.OuterJoinForeignKey("outer", items, items, func(i item) int64 { return i.Ref },
		func(l item, _ bool, _ item, _ bool) int64 { return l.Ref }).OnError(keep)
	in := sources.Stream[int64, item](b, db, "public.events")
	operators.ToTable("latest", in).OnError(keep)
	operators.Aggregate("count", operators.GroupByKey(in), aggregate.Count[item]()).OnError(keep)
	_, err := b.Build()
	for _, node := range []string{"outer", "latest", "count"} {
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q has no error policy", node)) ||
			!strings.Contains(err.Error(), "MapValues or Filter") {
			t.Errorf("Build gives %v, want a refusal of %s", err, node)
		}
	}
}
