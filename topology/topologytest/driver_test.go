package topologytest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// failure runs fn with a driver of a topology and returns what it failed with.
func failure(
	build func(customers topology.Table[int64, Customer]),
	fn func(d *topologytest.Driver, customers topology.Table[int64, Customer]),
) (message string) {
	b := topology.New("failing")
	customers := sources.Table[int64, Customer](b, sources.NewDatabase("shop", nil), "public.customers")
	build(customers)
	defer func() { message = fmt.Sprint(recover()) }()
	fn(topologytest.New(nil, b.MustBuild()), customers)
	return ""
}

// TestMistakesAreFound shows what the driver finds by itself.
func TestMistakesAreFound(t *testing.T) {
	calls := 0
	impure := func(c topology.Table[int64, Customer]) {
		operators.MapValues(c, func(int64, Customer) int { calls++; return calls })
	}
	wrongRemove := func(c topology.Table[int64, Customer]) {
		operators.Aggregate("names", operators.GroupBy(c, func(int64, Customer) bool { return true }),
			aggregate.Custom(aggregate.Fold[Customer, int, int]{
				Add:    func(n int, _ Customer) int { return n + 1 },
				Remove: func(int, Customer) int { panic("cannot remove") },
				Result: func(n int) int { return n },
			}))
	}
	fine := func(c topology.Table[int64, Customer]) {
		operators.Filter(c, func(int64, Customer) bool { return true })
	}
	for name, c := range map[string]struct {
		build func(topology.Table[int64, Customer])
		run   func(*topologytest.Driver, topology.Table[int64, Customer])
		want  string
	}{
		"a function that is not pure": {impure, func(d *topologytest.Driver, c topology.Table[int64, Customer]) {
			topologytest.Insert(d, c, 1, Customer{"a"})
			topologytest.Update(d, c, 1, Customer{"b"})
		}, `map-values "map-values#1"`},
		"a panic": {wrongRemove, func(d *topologytest.Driver, c topology.Table[int64, Customer]) {
			topologytest.Insert(d, c, 1, Customer{"a"})
			topologytest.Delete(d, c, 1)
		}, "cannot remove"},
		"an insert of a row that is there": {fine, func(d *topologytest.Driver, c topology.Table[int64, Customer]) {
			topologytest.Insert(d, c, 1, Customer{"a"})
			topologytest.Insert(d, c, 1, Customer{"a"})
		}, "has a row under key 1"},
		"an update of a row that is not": {fine, func(d *topologytest.Driver, c topology.Table[int64, Customer]) {
			topologytest.Update(d, c, 1, Customer{"a"})
		}, "has no row under key 1"},
		"a reason that does not exist": {fine, func(d *topologytest.Driver, _ topology.Table[int64, Customer]) {
			d.Dropped("Late")
		}, `nothing is ever dropped as "Late"; the reasons are late, expired,`},
	} {
		if got := failure(c.build, c.run); !strings.Contains(got, c.want) {
			t.Errorf("%s: the failure is %q, want one with %q", name, got, c.want)
		}
	}
}

// TestTryTx goes on after a transaction that failed as if it had not been, also in
// the middle of an epoch.
func TestTryTx(t *testing.T) {
	b := topology.New("try")
	shop := sources.NewDatabase("shop", nil)
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	lengths := operators.MapValues(customers, func(_ int64, c Customer) int { return 6 / len(c.Name) })
	events := sources.Events[int64, Customer](b, shop, "public.events")
	operators.Peek(events, func(record.Context, int64, record.RowEvent[int64, Customer]) {})
	d := topologytest.New(t, b.MustBuild(), topologytest.Epochs(3), topologytest.Steps(1))
	topologytest.Insert(d, customers, 1, Customer{"ab"})
	err := d.TryTx(func(tx *topologytest.Tx) {
		topologytest.Insert(tx, customers, 2, Customer{"abc"})
		topologytest.Update(tx, customers, 1, Customer{""})
	})
	if err == nil {
		t.Fatal("a division by zero is no error")
	}
	topologytest.Insert(d, customers, 2, Customer{"abcdef"})
	type rowEvent = record.RowEvent[int64, Customer]
	topologytest.Event(d, events, rowEvent{Op: record.Insert, Key: 1, New: Customer{"e"}})
	if got := fmt.Sprint(topologytest.Rows(d, lengths)); got != "map[1:3 2:1]" {
		t.Errorf("rows are %s", got)
	}
	d.Reopen()
	topologytest.Event(d, events, rowEvent{Op: record.Update, Key: 1, New: Customer{"f"}})
	d.Commit()
	got := topologytest.Values(d, events)
	if len(got) != 2 || got[1].Old.Name != "e" || got[1].New.Name != "f" {
		t.Errorf("events are %v", got)
	}
}
