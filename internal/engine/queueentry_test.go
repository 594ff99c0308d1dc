package engine

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// appending is an append-only output of a topology that reads a database, or a table's.
func appending(t *testing.T, id uint32, appends bool, database string) outputRun {
	b := topology.New(fmt.Sprintf("of-%d", id))
	db := sources.NewDatabase(database, newSource())
	sinks.View(sources.Table[int64, item](b, db, "public.items"), "items")
	spec := &sinks.Spec{Output: sinks.Output{Append: appends}}
	return outputRun{id: id, spec: spec, run: &topologyRun{topology: b.MustBuild()}}
}

// A queue acknowledges all of a database but what its oldest epoch needs that has something
// of a topology which reads that database, and appends.
func TestDeliveredTo(t *testing.T) {
	run := &targetRun{outputs: []outputRun{
		appending(t, 1, true, "a"), appending(t, 2, true, "b"), appending(t, 3, false, "b"),
	}}
	is := func(a, b uint64) {
		t.Helper()
		for range 2 { // What the first search found the second one starts from.
			if at := run.deliveredTo("a", 90); at != a {
				t.Errorf("of a it is %d, want %d", at, a)
			}
			if at := run.deliveredTo("b", 90); at != b {
				t.Errorf("of b it is %d, want %d", at, b)
			}
		}
	}
	add := func(seq, a, b uint64, outputs ...uint32) {
		run.pending = append(run.pending, pendingEpoch{seq: seq, queueEntry: queueEntry{
			Before: map[string]uint64{"a": a, "b": b}, Outputs: outputs,
		}})
	}
	is(90, 90)
	add(3, 20, 30, 1)
	add(4, 21, 31, 1, 3)
	add(7, 22, 32, 7)
	is(20, 90)
	add(8, 23, 33, 1, 2)
	add(9, 24, 34, 2)
	is(20, 33)
	run.pending = run.pending[1:]
	is(21, 33)
	run.pending = run.pending[3:]
	is(90, 34)
	run.pending = run.pending[1:]
	is(90, 90)
	add(12, 25, 35, 1)
	is(25, 90)
	run.pending[0].Fresh = []uint32{2}
	add(13, 26, 36)
	run.pending[1].Fresh, run.pending[1].Staged = []uint32{2}, 99
	is(25, 36)
}

// countingDB counts the bytes that are read by walks.
type countingDB struct {
	state.DB
	read *atomic.Int64
}

func (d countingDB) NewIter(lower, upper []byte) (state.Iter, error) {
	it, err := d.DB.NewIter(lower, upper)
	return countingIter{it, d.read}, err
}

type countingIter struct {
	state.Iter
	read *atomic.Int64
}

func (i countingIter) Value() []byte {
	v := i.Iter.Value()
	i.read.Add(int64(len(v)))
	return v
}

func (i countingIter) Key() []byte {
	k := i.Iter.Key()
	i.read.Add(int64(len(k)))
	return k
}

// A start reads little of a queue that is long, and knows all of it: how much there is, and up
// to where databases may be acknowledged that it has nothing of.
func TestStartWithALongQueue(t *testing.T) {
	const epochs, pad = 40, 20_000
	b := newBench(t, nil)
	b.depot = newSource()
	b.depot.name = "depot"
	var out *sinks.Target
	b.build = func(tb *topology.Builder, db *sources.Database, target *sinks.Target) {
		out = target
		asStream(tb, db, target)
	}
	b.beside = func(tb *topology.Builder, _ *sources.Database) {
		depot := sources.NewDatabase("depot", b.depot)
		few := operators.Filter(sources.Stream[int64, item](tb, depot, "public.items"),
			func(id int64, _ item) bool { return id > 100 })
		sinks.Stream(few, out, "others")
	}
	b.target.open = func() error { return errDown }
	b.source.pad = pad
	b.source.tx(true)
	b.depot.tx(true)
	if err := b.run(func(e *Engine) {
		wait(t, e.Joined())
		for i := range epochs {
			b.source.tx(false, i)
		}
		for wait(t, b.observer.epochs).Positions["shop"] != 16*(epochs+1) {
		}
	}); err != nil {
		t.Fatal(err)
	}
	before := b.source.durable()
	var read atomic.Int64
	b.wrapDB = func(db state.DB) state.DB { return countingDB{db, &read} }
	var waits int64
	if err := b.run(func(e *Engine) {
		// The engine has not written since, but may read its stores.
		if n := read.Load(); n > epochs*1000 {
			t.Errorf("a start reads %d bytes of a queue of %d epochs, with %d bytes each", n, epochs, pad)
		}
		waits = e.targets[0].size.Load()
		// What goes to no target is acknowledged, what waits is not, nor what comes behind it.
		for _, keys := range [][]int{{1, 2}, {3, 101}, {4}} {
			b.depot.tx(false, keys...)
			for wait(t, b.observer.epochs).Positions["depot"] != uint64(16*len(b.depot.log)) {
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if at := b.depot.durable(); at != 32 {
		t.Errorf("the other database is acknowledged up to %d", at)
	}
	if waits < epochs*pad || waits > 2*epochs*pad {
		t.Errorf("it says that %d bytes wait", waits)
	}
	if now := b.source.durable(); now > before {
		t.Errorf("what waits was acknowledged: %d, and %d before", now, before)
	}
	b.wrapDB, b.target.open = nil, nil
	if err := b.run(func(*Engine) {
		for range epochs + 1 {
			wait(t, b.target.taken)
		}
		for b.depot.durable() != 64 || b.source.durable() != 16*(epochs+1) {
			select {
			case <-b.depot.acks:
			case <-b.source.acks:
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// Items that a process left which ended while it trimmed a queue are gone after the next start,
// and nobody takes them for what waits.
func TestItemsLeftByATrim(t *testing.T) {
	b := newBench(t, asStream)
	b.source.tx(true, 1, 2)
	b.wrapDB = func(db state.DB) state.DB { return noTrim{db} }
	if err := b.run(func(*Engine) {
		for range 2 {
			wait(t, b.target.taken)
		}
		for wait(t, b.source.acks) != 16 {
		}
	}); err != nil {
		t.Fatal(err)
	}
	waiting := func() (n int64) {
		b.atRest(func(dir *state.Dir) {
			queues, err := ReadQueues(dir)
			if err != nil {
				t.Fatal(err)
			}
			n = queues["warehouse"]
		})
		return n
	}
	if waiting() == 0 {
		t.Fatal("nothing was left")
	}
	b.wrapDB = nil
	b.source.tx(false, 3)
	if err := b.run(func(e *Engine) {
		if d := wait(t, b.target.taken); string(d.event.Key) != "3" {
			t.Errorf("it takes %+v", d)
		}
		for wait(t, b.source.acks) != 32 {
		}
		// The source is told before the size.
		await.That(t, "nothing waits", func() bool { return e.targets[0].size.Load() == 0 })
	}); err != nil {
		t.Fatal(err)
	}
	if n := waiting(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// noTrim is a database that loses the deletion of ranges, as a process does that is killed
// before it.
type noTrim struct{ state.DB }

func (noTrim) DeleteRange(_, _ []byte) error { return nil }
