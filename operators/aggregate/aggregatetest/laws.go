// Package aggregatetest checks aggregators: that they may be used over tables, whose
// rows come and go in any order. Use it on a Fold of your own:
//
//	func TestMedian(t *testing.T) {
//		aggregatetest.Laws(t, median(), 3, 1, 4, 1, 5, 9, 2, 6)
//	}
package aggregatetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sort"
	"testing"

	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/state"
)

// rounds is how many random histories Laws tries.
const rounds = 100

// Laws fails the test unless the aggregator keeps the laws over the given values,
// of which it takes random histories:
//
//   - adding commutes: the order of rows does not matter;
//   - removing inverts adding: a row that came and went leaves no trace;
//   - a state that is stored and loaded again goes on as if it had not been;
//   - two groups that become one, where it can merge, are the group that took in the
//     earlier one's values and then the later one's;
//   - results are not changed by what happens after them, and asking twice gives
//     the same.
//
// For an aggregator that cannot remove, which only streams can use, it checks the
// last three. Give values that meet its corners: equal ones, zero, extremes.
func Laws[V, R any](t testing.TB, agg aggregate.Aggregator[V, R], values ...V) {
	t.Helper()
	if err := agg.Err(); err != nil {
		t.Fatalf("the aggregator is not valid: %v", err)
	}
	if len(values) == 0 {
		t.Fatal("aggregatetest: Laws needs values")
	}
	c := checker[V, R]{t: t, agg: agg, values: values}
	if codec, err := state.CodecOf[R](); err == nil {
		c.encode = func(r R) []byte { return codec.Append(nil, &r) }
	}
	for seed := range uint64(rounds) {
		c.rng = rand.New(rand.NewPCG(seed, 1))
		c.run(fmt.Sprintf("history %d", seed))
		if agg.CanMerge() {
			c.merge(fmt.Sprintf("merge %d", seed))
		}
		if t.Failed() {
			return
		}
	}
}

type checker[V, R any] struct {
	t      testing.TB
	agg    aggregate.Aggregator[V, R]
	values []V
	encode func(R) []byte // nil: results are compared by reflection
	rng    *rand.Rand
}

type row[V any] struct {
	id string
	v  V
}

// run makes a random history of a group and compares it with the group that holds
// the same rows and never held others.
func (c *checker[V, R]) run(name string) {
	g := newGroup(c.agg)
	var rows []row[V]
	var seen []kept[R]
	for i := range 1 + c.rng.IntN(4*len(c.values)) {
		if len(rows) > 0 && c.agg.CanRemove() && c.rng.IntN(3) == 0 {
			at := c.rng.IntN(len(rows))
			c.must(name, g.acc.Remove(g.entries, []byte(rows[at].id), &rows[at].v))
			rows = append(rows[:at], rows[at+1:]...)
		} else {
			r := row[V]{id: fmt.Sprintf("%06d", i), v: c.values[c.rng.IntN(len(c.values))]}
			c.must(name, g.acc.Add(g.entries, []byte(r.id), &r.v))
			rows = append(rows, r)
		}
		switch c.rng.IntN(6) {
		case 0:
			g.reload(c)
		case 1:
			r := c.result(name, g)
			seen = append(seen, kept[R]{r, c.copyOf(r)})
		}
	}
	got := c.result(name, g)
	if again := c.result(name, g); !c.equal(got, again) {
		c.t.Errorf("%s: asked twice, the result is %v and then %v", name, got, again)
	}
	for _, k := range seen {
		if now := c.copyOf(k.result); !reflect.DeepEqual(now, k.copy) {
			c.t.Errorf("%s: a result changed after it was given: it shares memory with the state, "+
				"which Add and Remove must replace, not modify", name)
		}
	}
	if !c.agg.CanRemove() {
		return
	}
	fresh := newGroup(c.agg)
	c.rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	for i := range rows {
		c.must(name, fresh.acc.Add(fresh.entries, []byte(rows[i].id), &rows[i].v))
	}
	if want := c.result(name, fresh); !c.equal(got, want) {
		c.t.Errorf("%s: after adding and removing, the result over %d rows is %v; over the same rows "+
			"added in another order it is %v", name, len(rows), got, want)
	}
}

// merge makes two groups, of values and stored states as they come, and makes them one.
func (c *checker[V, R]) merge(name string) {
	store := &Entries{}
	whole, into, from := newGroup(c.agg), newGroupIn(c.agg, store, "into/"), newGroupIn(c.agg, store, "from/")
	n := c.rng.IntN(2 * len(c.values))
	for i := range n + c.rng.IntN(2*len(c.values)) {
		g, id, v := into, fmt.Sprintf("%06d", i), c.values[c.rng.IntN(len(c.values))]
		if i >= n {
			g = from
		}
		c.must(name, whole.acc.Add(whole.entries, []byte(id), &v))
		c.must(name, g.acc.Add(g.entries, []byte(id), &v))
		if c.rng.IntN(6) == 0 {
			g.reload(c)
		}
	}
	c.must(name, into.entries.Move([]byte("from/"), []byte("into/")))
	c.must(name, into.acc.Merge(from.acc))
	into.reload(c)
	if got, want := c.result(name, into), c.result(name, whole); !c.equal(got, want) {
		c.t.Errorf("%s: merged, the result is %v; over all the values it is %v", name, got, want)
	}
	c.must(name, into.acc.Clear(into.entries))
	if store.Len() > 0 {
		c.t.Errorf("%s: %d entries are left of the groups", name, store.Len())
	}
}

// kept is a result and what it was when it was given.
type kept[R any] struct {
	result R
	copy   any
}

func (c *checker[V, R]) copyOf(r R) any {
	if c.encode != nil {
		return c.encode(r)
	}
	return fmt.Sprintf("%#v", r)
}

func (c *checker[V, R]) equal(a, b R) bool {
	if c.encode != nil {
		return bytes.Equal(c.encode(a), c.encode(b))
	}
	return reflect.DeepEqual(a, b)
}

func (c *checker[V, R]) result(name string, g *group[V, R]) R {
	r, err := g.acc.Result(g.entries)
	c.must(name, err)
	return r
}

func (c *checker[V, R]) must(name string, err error) {
	if err != nil {
		c.t.Fatalf("%s: %v", name, err)
	}
}

type group[V, R any] struct {
	acc     aggregate.Accumulator[V, R]
	entries *aggregate.Entries
}

func newGroup[V, R any](agg aggregate.Aggregator[V, R]) *group[V, R] {
	return newGroupIn(agg, &Entries{}, "group/")
}

func newGroupIn[V, R any](agg aggregate.Aggregator[V, R], store *Entries, key string) *group[V, R] {
	g := &group[V, R]{acc: agg.New(), entries: aggregate.NewEntries(store)}
	g.entries.Scope([]byte(key))
	return g
}

// reload stores the state and goes on with what is loaded from it.
func (g *group[V, R]) reload(c *checker[V, R]) {
	stored := g.acc.AppendState(nil)
	g.acc = c.agg.New()
	if err := g.acc.DecodeState(stored); err != nil {
		c.t.Fatalf("the state cannot be loaded: %v", err)
	}
	clear(stored) // a state must not keep the bytes it was loaded from
}

// Entries is an aggregate.EntryStore in memory, for tests of accumulators.
type Entries struct{ pairs map[string][]byte }

// Set writes an entry.
func (e *Entries) Set(key, value []byte) error {
	if e.pairs == nil {
		e.pairs = map[string][]byte{}
	}
	e.pairs[string(key)] = bytes.Clone(value)
	return nil
}

// Delete removes an entry.
func (e *Entries) Delete(key []byte) error {
	delete(e.pairs, string(key))
	return nil
}

// ScanRange visits the entries from lower up to before upper in order.
func (e *Entries) ScanRange(lower, upper []byte, reverse bool, fn func(key, value []byte) bool) error {
	var keys []string
	for k := range e.pairs {
		if k >= string(lower) && (upper == nil || k < string(upper)) {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for i := range keys {
		k := keys[i]
		if reverse {
			k = keys[len(keys)-1-i]
		}
		if !fn([]byte(k), e.pairs[k]) {
			break
		}
	}
	return nil
}

// Len is the number of entries.
func (e *Entries) Len() int { return len(e.pairs) }
