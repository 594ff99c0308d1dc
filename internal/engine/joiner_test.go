package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// joining is a bench with a topology that has run, beside which others are added.
type joining struct {
	*bench
	first, second *view.View[int64, item]
	out           *sinks.Target
}

func newJoining(t *testing.T) *joining {
	j := &joining{}
	j.bench = newBench(t, func(b *topology.Builder, db *sources.Database, out *sinks.Target) {
		j.out = out
		j.first = sinks.View(sources.Table[int64, item](b, db, "public.items"), "first")
	})
	j.source.tx(true, 1)
	j.source.tx(false, 2)
	if err := j.run(func(*Engine) { j.reaches(j.first, 32) }); err != nil {
		t.Fatal(err)
	}
	j.beside = func(b *topology.Builder, db *sources.Database) {
		j.second = sinks.View(sources.Table[int64, item](b, db, "public.items"), "second")
	}
	j.source.tx(true, 1, 2)
	j.source.gate = make(chan struct{})
	return j
}

// reaches waits until a view shows a position.
func (j *joining) reaches(v *view.View[int64, item], at uint64) {
	j.t.Helper()
	done := make(chan error, 1)
	go func() { done <- v.WaitFor(j.t.Context(), record.Positions{"shop": at}) }()
	if err := wait(j.t, done); err != nil {
		j.t.Fatal(err)
	}
}

// holds compares both views at one moment.
func (j *joining) holds(keys ...int64) {
	j.t.Helper()
	m, err := view.At(j.t.Context(), j.first, j.second)
	if err != nil {
		j.t.Fatal(err)
	}
	defer m.Close()
	for name, v := range map[string]*view.View[int64, item]{"first": j.first, "second": j.second} {
		var got []int64
		rows := v.At(m).Range(j.t.Context(), view.All[int64]())
		for key := range rows.All() {
			got = append(got, key)
		}
		if rows.Err() != nil {
			j.t.Fatal(rows.Err())
		}
		if !slices.Equal(got, keys) {
			j.t.Errorf("%s holds %v, want %v", name, got, keys)
		}
	}
}

// hidden checks that nothing of the newcomer can be read, at a moment either.
func (j *joining) hidden() {
	j.t.Helper()
	m, err := view.At(j.t.Context(), j.first)
	if err != nil {
		j.t.Fatal(err)
	}
	defer m.Close()
	if _, _, err := j.second.At(m).Get(1); !errors.Is(err, view.ErrNotReady) {
		j.t.Errorf("at a moment a view before its snapshot gives %v", err)
	}
}

// A topology that is added takes its snapshot and what follows while the others go on,
// and is shown from the moment on at which it stands where they do.
func TestNewcomerBesideOthers(t *testing.T) {
	j := newJoining(t)
	if err := j.run(func(e *Engine) {
		j.source.tx(false, 3)
		j.source.tx(false, 4)
		j.reaches(j.first, 80)
		for wait(t, j.source.acks) != 80 {
		}
		if _, _, _, err := j.second.Get(t.Context(), 1); !errors.Is(err, view.ErrNotReady) {
			t.Errorf("a view before its snapshot gives %v", err)
		}
		if got := e.Status().Joining; !slices.Equal(got, []string{"beside"}) {
			t.Errorf("%v are joining", got)
		}
		j.hidden()
		close(j.source.gate)
		wait(t, e.Joined())
		j.holds(1, 2, 3, 4)
		if got := e.Status().Joining; len(got) > 0 {
			t.Errorf("%v are joining", got)
		}
		j.source.tx(false, 5)
		j.reaches(j.second, 96)
		j.holds(1, 2, 3, 4, 5)
	}); err != nil {
		t.Fatal(err)
	}
	if want := NewcomerApp("app", "beside"); len(j.source.dropped) != 2 || j.source.dropped[1] != want {
		t.Errorf("the slots of %q were dropped", j.source.dropped)
	}
	opens := len(j.source.opens)
	if err := j.run(func(*Engine) { j.reaches(j.second, 96) }); err != nil {
		t.Fatal(err)
	}
	if n := len(j.source.opens) - opens; n != 1 {
		t.Errorf("%d sessions were opened", n)
	}
}

// A crash on the way drops what the newcomer has written, and the next start begins anew;
// the others lose nothing.
func TestNewcomerAfterCrash(t *testing.T) {
	died := errors.New("died")
	for point, nth := range map[string]int{
		failpoint.JoinerSync: 1, "again " + failpoint.JoinerSync: 2, failpoint.Joining: 1,
	} {
		t.Run(point, func(t *testing.T) {
			j := newJoining(t)
			j.source.tx(false, 3)
			name := point
			if nth == 2 {
				name = failpoint.JoinerSync
			}
			off := failpoint.Set(name, func(hit int) error {
				if hit == nth {
					return died
				}
				return nil
			})
			close(j.source.gate)
			err := j.run(nil)
			off()
			if !errors.Is(err, died) {
				t.Fatalf("got %v", err)
			}
			// What is there is another one, so that rows that have stayed would show.
			j.source.tx(true, 1, 3)
			j.source.tx(false, 4)
			if err := j.run(func(e *Engine) {
				wait(t, e.Joined())
				j.reaches(j.second, 96)
				got := map[int64]bool{}
				rows := j.second.Range(t.Context(), view.All[int64]())
				for key := range rows.All() {
					got[key] = true
				}
				if rows.Err() != nil {
					t.Fatal(rows.Err())
				}
				if want := map[int64]bool{1: true, 3: true, 4: true}; !maps.Equal(got, want) {
					t.Errorf("the newcomer's view holds %v", got)
				}
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A topology whose shape does not fit while it is on its way is held; the others go on.
func TestNewcomerThatFails(t *testing.T) {
	j := newJoining(t)
	broken := errors.New("no room")
	off := failpoint.Set(failpoint.JoinerSync, func(int) error { return errors.Join(broken, sources.ErrSchema) })
	defer off()
	close(j.source.gate)
	if err := j.run(func(e *Engine) {
		wait(t, e.Joined())
		if err := e.Status().Held["beside"]; !errors.Is(err, broken) {
			t.Errorf("held with %v", err)
		}
		j.source.tx(false, 3)
		j.reaches(j.first, 64)
		if _, _, _, err := j.second.Get(context.Background(), 1); !errors.Is(err, view.ErrNotReady) {
			t.Errorf("its view gives %v", err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// A newcomer is held while the worker of a target acknowledges, which asks whether it is: the
// race detector looks at both.
func TestHoldWhileATargetDrains(t *testing.T) {
	b := newBench(t, asStream)
	b.source.tx(true, 1)
	if err := b.run(func(*Engine) { wait(t, b.source.acks) }); err != nil {
		t.Fatal(err)
	}
	b.beside = func(b *topology.Builder, db *sources.Database) {
		sinks.View(sources.Table[int64, item](b, db, "public.items"), "second")
	}
	b.source.tx(true, 1)
	b.source.tx(false, 2)
	taken := make(chan struct{})
	off := failpoint.Set(failpoint.JoinerSync, func(int) error {
		<-taken
		return sources.ErrSchema
	})
	defer off()
	takes := sync.OnceFunc(func() { close(taken) })
	b.target.refuse = func() error {
		takes()
		return nil
	}
	// The loop stands still here, so it is the worker that acknowledges.
	held := make(chan bool, 1)
	b.observer.onHeld = func() {
		held <- await.Within(await.Limit, func() bool { return b.source.durable() == 48 })
	}
	if err := b.run(func(*Engine) {
		if !wait(t, held) {
			t.Errorf("the source may forget up to %d", b.source.durable())
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// A newcomer that fails while a commit of the others is on its way to the disk shows nothing
// of that commit, neither to readers nor to watchers (invariants V1, D2).
func TestNewcomerThatFailsBesideACommit(t *testing.T) {
	j := newJoining(t)
	j.limits.OneTransaction = false
	g := newGate(t)
	off := failpoint.Set(failpoint.JoinerSync, func(int) error { return sources.ErrSchema })
	defer off()
	if err := j.run(func(e *Engine) {
		j.reaches(j.first, 32)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		events := make(chan view.Event[int64, item], 10)
		go func() {
			for ev, err := range j.first.Watch(ctx, view.WithRows()) {
				if err != nil {
					return
				}
				events <- ev
			}
		}()
		for wait(t, events).Kind != view.EventEpoch {
		}
		j.source.tx(false, 3)
		wait(t, g.reached)
		asks := e.joiner.asks // The loop has not let go of it yet.
		close(j.source.gate)
		j.awaitDrops(2) // before its snapshot, and at its end
		await.That(t, "the loop to know", func() bool { return len(asks) == 0 })
		close(g.open)
		wait(t, e.Joined())
		for _, want := range []view.EventKind{view.EventChange, view.EventEpoch} {
			if ev := wait(t, events); ev.Kind != want || ev.Position.Sources["shop"] != 64 {
				t.Errorf("a watcher got %v at %v, want %v at 64", ev.Kind, ev.Position, want)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// What a newcomer puts out for a target is seen by it from the moment on at which the
// newcomer stands where the others do: the rows as of then in one epoch, and the events
// of the way there in order. Until the target has taken the events, the source keeps them,
// also over a crash.
func TestNewcomerWithTarget(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash=%v", crash), func(t *testing.T) {
			j := newJoining(t)
			j.limits.EpochRows = 1 // The newcomer commits each transaction.
			plain := j.beside
			j.beside = func(b *topology.Builder, db *sources.Database) {
				plain(b, db)
				sinks.Stream(
					sources.Stream[int64, item](b, db, "public.items", sources.As[item]("events")),
					j.out,
					"events",
				)
				sinks.Table(sources.Table[int64, item](b, db, "public.items", sources.As[item]("rows")), j.out, "rows")
			}
			refused := make(chan struct{}, 100)
			j.target.refuse = func() error {
				refused <- struct{}{}
				return errDown
			}
			held := func(e *Engine) {
				j.source.tx(false, 3)
				j.source.tx(false, 4)
				j.reaches(j.first, 80)
				if len(refused) > 0 {
					t.Error("the target was given something before the newcomer had joined")
				}
				close(j.source.gate)
				wait(t, e.Joined())
				j.holds(1, 2, 3, 4)
				wait(t, refused)
				j.source.tx(false, 5)
				j.reaches(j.second, 96)
				if at := j.source.durable(); at > 32 {
					t.Errorf("the source forgets up to %d, and events from 64 on are not delivered", at)
				}
			}
			taken := func() {
				var events, rows []string
				for len(rows) < 5 || len(events) < 3 {
					d := wait(t, j.target.taken)
					if d.event.ID != "" {
						events = append(events, fmt.Sprintf("%s %v", d.event.Key, d.event.Last))
					} else {
						rows = append(rows, fmt.Sprintf("%s %v", d.columns[0], d.fresh))
					}
				}
				want := []string{"1 true", "2 true", "3 true", "4 true", "5 false"}
				if !slices.Equal(rows, want) {
					t.Errorf("rows %q, want %q", rows, want)
				}
				if want := []string{"3 true", "4 true", "5 true"}; !slices.Equal(events, want) {
					t.Errorf("events %q, want %q", events, want)
				}
				for wait(t, j.source.acks) != 96 {
				}
			}
			accept := func() {
				j.target.mu.Lock()
				j.target.refuse = nil
				j.target.mu.Unlock()
			}
			if err := j.run(func(e *Engine) {
				if held(e); !crash {
					accept()
					taken()
				}
			}); err != nil {
				t.Fatal(err)
			}
			if crash {
				accept()
				if err := j.run(func(*Engine) { taken() }); err != nil {
					t.Fatal(err)
				}
			}
			j.atRest(func(dir *state.Dir) {
				if got, err := ReadQueues(dir); err != nil || len(got) != 1 || got["warehouse"] != 0 {
					t.Errorf("%v wait, %v", got, err)
				}
			})
		})
	}
}

// An app that is stopped while a newcomer hands the session of its own database over leaves
// none open.
func TestStopDuringAHandOver(t *testing.T) {
	j := newJoining(t)
	j.depot = newSource()
	j.depot.name = "depot"
	j.depot.tx(true, 1)
	j.beside = func(b *topology.Builder, _ *sources.Database) {
		sinks.View(sources.Table[int64, item](b, sources.NewDatabase("depot", j.depot), "public.items"), "second")
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var e *Engine
	started, snapshot := make(chan struct{}), make(chan struct{})
	reached, open := make(chan struct{}), make(chan struct{})
	off := failpoint.Set(failpoint.JoinerSync, func(hit int) error {
		if hit == 1 {
			close(snapshot)
			<-reached // The loop is to be asked when it stands still.
			return nil
		}
		<-started
		stop()
		if !await.Within(await.Limit, func() bool { return e.Status().Stopped }) {
			t.Error("the loop goes on")
		}
		return nil
	})
	defer off()
	goOn := sync.OnceFunc(func() { close(open) })
	j.observer.onEpoch = sync.OnceFunc(func() {
		close(reached)
		<-open
	})
	j.source.tx(false, 3)
	if err := j.runUnder(ctx, context.Canceled, func(running *Engine) {
		defer goOn()
		e = running
		close(started)
		wait(t, reached) // The loop stands still.
		wait(t, snapshot)
		await.That(t, "the newcomer to ask", func() bool { return len(e.joiner.asks) == 1 })
		j.depot.tx(false, 2)
		await.That(t, "what is left to take", func() bool { return len(e.joiner.followers[0].d.batches) == 1 })
		goOn()
		await.That(t, "the end", func() bool { return e.Status().Stopped })
	}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*scriptedSource{j.source, j.depot} {
		if s.closed != len(s.opens) || s.closed == 0 {
			t.Errorf("%s: %d of %d sessions were closed", s.name, s.closed, len(s.opens))
		}
	}
}

// refuseDrops lets no slot be dropped, until it is told nil.
func (s *scriptedSource) refuseDrops(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusesDrops = err
}

// awaitDrops waits until slots were asked to be dropped n times.
func (j *joining) awaitDrops(n int) {
	j.t.Helper()
	await.That(j.t, "a slot to be dropped", func() bool {
		j.source.mu.Lock()
		defer j.source.mu.Unlock()
		return j.source.drops >= n
	})
}

// A server that cannot drop the slot of a newcomer at the moment stops nobody: before the
// snapshot it is asked again, and once the topology has joined the next start asks.
func TestSlotThatCannotBeDropped(t *testing.T) {
	j := newJoining(t)
	down := errors.New("the connection is refused")
	j.source.refusesDrops = down
	var before atomic.Int64
	off := failpoint.Set(failpoint.JoinerSync, func(int) error {
		j.source.refuseDrops(down)
		j.source.mu.Lock()
		defer j.source.mu.Unlock()
		before.Store(int64(j.source.drops))
		return nil
	})
	defer off()
	close(j.source.gate)
	if err := j.run(func(e *Engine) {
		j.awaitDrops(2)
		j.source.refuseDrops(nil)
		j.source.tx(false, 3)
		wait(t, e.Joined())
		j.awaitDrops(int(before.Load()) + 1)
		j.source.tx(false, 4)
		j.reaches(j.second, 80)
	}); err != nil {
		t.Fatal(err)
	}
	if n := len(j.source.dropped); n != 1 {
		t.Errorf("%d slots were dropped", n)
	}
	for _, err := range []error{down, nil, nil} {
		j.source.refuseDrops(err)
		if err := j.run(func(*Engine) { j.reaches(j.second, 80) }); err != nil {
			t.Fatal(err)
		}
	}
	if want := NewcomerApp("app", "beside"); !slices.Equal(j.source.dropped, []string{want, want}) {
		t.Errorf("the slots of %q were dropped, want %q twice", j.source.dropped, want)
	}
}

// A start without the topology that was on its way drops the slot that it left, once.
func TestNewcomerLeftOut(t *testing.T) {
	j := newJoining(t)
	died := errors.New("died")
	off := failpoint.Set(failpoint.JoinerSync, func(int) error {
		j.source.refuseDrops(died) // The process that dies does not get to dropping its slot.
		return died
	})
	close(j.source.gate)
	err := j.run(nil)
	off()
	if !errors.Is(err, died) {
		t.Fatalf("got %v", err)
	}
	j.beside, j.source.dropped = nil, nil
	for _, err := range []error{died, nil, nil} {
		j.source.refuseDrops(err)
		if err := j.run(func(*Engine) { j.reaches(j.first, 32) }); err != nil {
			t.Fatal(err)
		}
	}
	if want := NewcomerApp("app", "beside"); !slices.Equal(j.source.dropped, []string{want}) {
		t.Errorf("the slots of %q were dropped, want %q", j.source.dropped, want)
	}
}
