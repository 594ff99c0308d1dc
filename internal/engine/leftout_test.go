package engine

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// A start without a topology that fails before its first commit has cost nothing: what the
// topology staged on its way to the others, and its target has not taken, waits still.
func TestStagedOutlivesAFailedStart(t *testing.T) {
	j := newJoining(t)
	beside := func(b *topology.Builder, db *sources.Database) {
		sinks.Table(sources.Table[int64, item](b, db, "public.items"), j.out, "rows")
	}
	j.beside = beside
	j.target.open = func() error { return errDown }
	j.source.tx(false, 3)
	close(j.source.gate)
	if err := j.run(func(e *Engine) { wait(t, e.Joined()) }); err != nil {
		t.Fatal(err)
	}
	j.beside, j.source.refuses = nil, fmt.Errorf("no right: %w", sources.ErrConfig)
	if err := j.run(nil); !errors.Is(err, j.source.refuses) {
		t.Fatalf("got %v", err)
	}
	j.beside, j.source.refuses, j.target.open = beside, nil, nil
	j.source.tx(false, 4)
	if err := j.run(func(*Engine) { j.takes("1 true", "2 true", "3 true", "4 false") }); err != nil {
		t.Fatal(err)
	}
}

// Once a start without a topology, and without its target, has gone on without them, nothing
// of what was staged is left.
func TestStagedOfARemovedTarget(t *testing.T) {
	j := newJoining(t)
	j.beside = func(b *topology.Builder, db *sources.Database) {
		sinks.Table(sources.Table[int64, item](b, db, "public.items"), j.out, "rows")
	}
	j.target.open = func() error { return errDown }
	j.source.tx(false, 3)
	close(j.source.gate)
	if err := j.run(func(e *Engine) { wait(t, e.Joined()) }); err != nil {
		t.Fatal(err)
	}
	waiting := func() (n int64) {
		j.atRest(func(dir *state.Dir) {
			queues, err := ReadQueues(dir)
			if err != nil {
				t.Fatal(err)
			}
			n = queues["warehouse"]
		})
		return n
	}
	if waiting() == 0 {
		t.Fatal("nothing waits for the target")
	}
	j.beside = nil
	j.source.tx(false, 4)
	if err := j.run(func(*Engine) {
		for wait(t, j.source.acks) != 80 {
		}
	}); err != nil {
		t.Fatal(err)
	}
	if n := waiting(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// newDepot is a bench that has run with a topology beside that of first, over a database of
// its own: two rows of it, one of its snapshot, wait for the target, which is down.
func newDepot(
	t *testing.T, first func(*topology.Builder, *sources.Database, *sinks.Target), snapshot, row int,
) (b *bench, beside func(*topology.Builder, *sources.Database)) {
	t.Helper()
	b = newBench(t, nil)
	b.depot = newSource()
	b.depot.name = "depot"
	var out *sinks.Target
	b.build = func(tb *topology.Builder, db *sources.Database, target *sinks.Target) {
		out = target
		first(tb, db, target)
	}
	beside = func(tb *topology.Builder, _ *sources.Database) {
		depot := sources.NewDatabase("depot", b.depot)
		sinks.Table(sources.Table[int64, item](tb, depot, "public.items"), out, "rows")
	}
	b.beside, b.target.open = beside, func() error { return errDown }
	b.source.tx(true, 1)
	b.depot.tx(true, snapshot)
	b.depot.tx(false, row)
	if err := b.run(func(*Engine) {
		for wait(t, b.depot.acks) != 32 {
		}
	}); err != nil {
		t.Fatal(err)
	}
	return b, beside
}

// A topology over a database that nobody else reads keeps its state over starts without it,
// and with that what waits for its target.
func TestQueueOfATopologyThatIsKept(t *testing.T) {
	b, beside := newDepot(t, func(b *topology.Builder, db *sources.Database, _ *sinks.Target) {
		sinks.View(sources.Table[int64, item](b, db, "public.items"), "first")
	}, 1, 2)
	b.beside = nil
	b.source.tx(false, 2)
	if err := b.run(func(*Engine) {
		for wait(t, b.source.acks) != 32 {
		}
	}); err != nil {
		t.Fatal(err)
	}
	b.beside, b.target.open = beside, nil
	b.depot.tx(false, 3)
	if err := b.run(func(*Engine) { b.takes("1 true", "2 false", "3 false") }); err != nil {
		t.Fatal(err)
	}
}

// A topology that a start leaves out begins anew where the target that it shares with others
// has taken what was queued without its part.
func TestLeftOutOfASharedTarget(t *testing.T) {
	b, beside := newDepot(t, asTable, 7, 8)
	b.beside, b.target.open = nil, nil
	if err := b.run(func(*Engine) { b.takes("1 true") }); err != nil {
		t.Fatal(err)
	}
	b.beside = beside
	if err := b.run(func(e *Engine) {
		wait(t, e.Joined())
		for _, want := range []string{"7", "8"} {
			if d := wait(t, b.target.taken); d.columns[0] != want {
				t.Errorf("the target took %v, want %v", d, want)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// The state of a topology that a start leaves out is dropped before anything is acknowledged
// without regard to it: at the next start it could not be continued.
func TestForgottenBeforeTheFirstAcknowledgement(t *testing.T) {
	b := newBench(t, asEvents)
	b.beside = func(tb *topology.Builder, db *sources.Database) {
		sinks.View(sources.Table[int64, item](tb, db, "public.items"), "beside")
	}
	refused := make(chan struct{}, 100)
	b.target.refuse = func() error {
		select {
		case refused <- struct{}{}:
		default: // it is tried again and again
		}
		return errDown
	}
	b.source.tx(true, 1)
	b.source.tx(false, 2)
	if err := b.run(func(*Engine) { wait(t, refused) }); err != nil {
		t.Fatal(err)
	}
	b.beside, b.target.refuse = nil, nil
	// Nothing is committed in this run: what was queued is taken, and acknowledged.
	if err := b.run(func(*Engine) {
		for wait(t, b.source.acks) != 32 {
		}
	}); err != nil {
		t.Fatal(err)
	}
	b.atRest(func(dir *state.Dir) {
		stored, err := Checkpoints(dir)
		if _, there := stored["beside"]; there || err != nil {
			t.Errorf("the source has forgotten what the topology lacks, and its checkpoint is there: %v, %v", stored, err)
		}
	})
}

// takes checks what the target takes next, as keys of rows with whether the output is whole.
func (b *bench) takes(want ...string) {
	b.t.Helper()
	var got []string
	for range want {
		d := wait(b.t, b.target.taken)
		got = append(got, fmt.Sprintf("%s %v", d.columns[0], d.fresh))
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("the target took %q, want %q", got, want)
	}
}
