package engine

import (
	"sync/atomic"
	"testing"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// A target is as of the last transaction also once it has what comes of an older dead letter,
// which says when it was itself.
func TestReplayTakesNoTargetBack(t *testing.T) {
	var mended atomic.Bool
	b := newBench(t, func(b *topology.Builder, db *sources.Database, target *sinks.Target) {
		in := sources.Stream[int64, item](b, db, "public.items")
		keep := func(record.Context, *topology.Failure) topology.Verdict { return topology.DeadLetter }
		sinks.Stream(operators.MapStreamValues(in, func(key int64, v item) item {
			if key == 2 && !mended.Load() {
				panic("refused")
			}
			return v
		}).OnError(keep), target, "items")
	})
	b.source.tx(true)
	b.source.tx(false, 2)
	b.source.tx(false, 3)
	b.source.tx(false, 4)
	replay := func(e *Engine) deliveredItem {
		mended.Store(true)
		if got, err := e.ReplayDeadLetters(t.Context(), nil); err != nil || got.Tried != 1 || got.Failed != 0 {
			t.Fatalf("replaying gives %+v, %v", got, err)
		}
		d := wait(t, b.target.taken)
		if string(d.event.Key) != "2" || !d.event.Replayed {
			t.Errorf("the replay delivers %+v", d)
		}
		return d
	}
	if err := b.run(func(e *Engine) {
		for _, want := range []int64{3, 4} {
			if d := wait(t, b.target.taken); d.time != want || d.event.Time != want {
				t.Errorf("got %+v, want time %d", d, want)
			}
		}
		await.That(t, "all is acknowledged", func() bool { return b.source.durable() == 64 })
		if d := replay(e); d.time != 4 || d.event.Time != 2 {
			t.Errorf("after a replay the target is as of %d, the event of %d", d.time, d.event.Time)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// A replay that fails takes back what it did, and nothing else: neither the position nor the
// time that transactions without anything for the topology have moved it to, and that nobody
// sends again.
func TestFailedReplayKeepsPositions(t *testing.T) {
	var stops atomic.Bool
	var v *view.View[int64, item]
	b := newBench(t, func(b *topology.Builder, db *sources.Database, target *sinks.Target) {
		in := sources.Stream[int64, item](b, db, "public.items")
		policy := func(record.Context, *topology.Failure) topology.Verdict {
			if stops.Load() {
				return topology.Stop
			}
			return topology.DeadLetter
		}
		sinks.Stream(operators.MapStreamValues(in, func(int64, item) item { panic("refused") }).OnError(policy),
			target, "items")
		v = sinks.View(sources.Table[int64, item](b, db, "public.items", sources.As[item]("table")), "items")
	})
	b.source.tx(true)
	b.source.tx(false, 2)
	if err := b.run(func(e *Engine) {
		await.That(t, "all is acknowledged", func() bool { return b.source.durable() == 32 })
		for at := uint64(48); at <= 64; at += 16 { // The second of them is not made durable at once.
			b.source.tx(false)
			if err := v.WaitFor(t.Context(), record.Positions{"shop": at}); err != nil {
				t.Fatal(err)
			}
		}
		b.source.mu.Lock()
		b.source.idle = 72 // nor is where a source is idle
		b.source.tell()
		b.source.mu.Unlock()
		if err := v.WaitFor(t.Context(), record.Positions{"shop": 72}); err != nil {
			t.Fatal(err)
		}
		stops.Store(true)
		if got, err := e.ReplayDeadLetters(t.Context(), nil); err == nil {
			t.Fatalf("replaying gives %+v", got)
		}
		// The loop stands still until the next transaction comes.
		if at := e.frontier()["shop"]; at != 72 {
			t.Errorf("the topology stands at %d after a replay that failed, and stood at 72", at)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
