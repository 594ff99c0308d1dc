package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// keeper is a scriptedSource that remembers what was acknowledged. While somebody reads it
// nobody can ask it.
type keeper struct{ *scriptedSource }

func (k keeper) Kept(context.Context, sources.KeptRequest) (uint64, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.opens) > k.closed {
		return 0, false, fmt.Errorf("%w: by a session of this app", sources.ErrInUse)
	}
	return k.acked, k.acked != 0, nil
}

// newWhole is a newcomer that alone reads the depot, with events for a target. It stops at
// its second commit, behind that of its snapshot, to do what onWay does.
func newWhole(t *testing.T, onWay func() error) *joining {
	j := newJoining(t)
	j.limits.EpochRows = 1 // The newcomer commits each transaction.
	j.depot = newSource()
	j.depot.name = "depot"
	j.depotIn = keeper{j.depot}
	j.stopOnLost = true
	j.depot.tx(true, 1)
	j.depot.tx(false, 2)
	j.depot.tx(false, 3)
	j.beside = func(b *topology.Builder, _ *sources.Database) {
		depot := sources.NewDatabase("depot", j.depot)
		j.second = sinks.View(sources.Table[int64, item](b, depot, "public.items"), "second")
		in := sources.Stream[int64, item](b, depot, "public.items", sources.As[item]("events"))
		sinks.Stream(in, j.out, "events")
	}
	t.Cleanup(failpoint.Set(failpoint.JoinerSync, func(hit int) error {
		if hit == 2 {
			return onWay()
		}
		return nil
	}))
	return j
}

// events takes events, and returns their keys; one that is marked as replayed is one too many.
func (j *joining) events(n int) (keys []string) {
	j.t.Helper()
	for range n {
		ev := wait(j.t, j.target.taken).event
		if ev.Replayed {
			j.t.Errorf("event %s is said to come again", ev.Key)
		}
		keys = append(keys, string(ev.Key))
	}
	return keys
}

// The loop opens its sessions again while a newcomer is on its way on a database that it
// alone reads: the newcomer's session is not asked about, and goes on.
func TestReopenBesideANewcomer(t *testing.T) {
	var cut atomic.Int32
	proceed := make(chan struct{})
	reached := make(chan struct{})
	j := newWhole(t, func() error {
		close(reached)
		<-proceed
		return nil
	})
	j.source.breaks = func(joins bool) error {
		if cut.CompareAndSwap(1, 2) {
			return sources.ErrReopen
		}
		return nil
	}
	goOn := sync.OnceFunc(func() { close(proceed) })
	if err := j.run(func(e *Engine) {
		defer goOn()
		wait(t, reached)
		before := len(j.source.sessions())
		cut.Store(1)
		j.source.tx(false, 3)
		await.That(t, "the loop to open its sessions again", func() bool {
			return len(j.source.sessions()) > before || e.Status().Stopped
		})
		goOn()
		await.That(t, "the newcomer to join", func() bool {
			return len(e.Status().Joining) == 0 || e.Status().Stopped
		})
	}); err != nil {
		t.Fatal(err)
	}
	if n := len(j.depot.opens); n != 1 {
		t.Errorf("the depot was opened %d times", n)
	}
}

// sessions returns what sessions were opened with.
func (s *scriptedSource) sessions() []sources.OpenRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.opens)
}

// beginsAnew checks that nothing was acknowledged of the depot, and that the newcomer joins at
// the next start with all its events.
func (j *joining) beginsAnew() {
	j.t.Helper()
	if at := j.depot.durable(); at != 0 {
		j.t.Errorf("the depot was told to forget up to %d", at)
	}
	if err := j.run(func(e *Engine) {
		wait(j.t, e.Joined())
		if got := j.events(2); !slices.Equal(got, []string{"2", "3"}) {
			j.t.Errorf("events %q", got)
		}
	}); err != nil {
		j.t.Fatal(err)
	}
}

// A newcomer that is stopped, or dies, before it has joined is new at the next start, also on
// a database that it alone reads: nothing was acknowledged, so that no state is lost.
func TestNewcomerEndsBeforeItHasJoined(t *testing.T) {
	died := errors.New("died")
	for _, how := range []error{died, nil} {
		t.Run(fmt.Sprint(how), func(t *testing.T) {
			var e *Engine
			started, reached := make(chan struct{}), make(chan struct{})
			j := newWhole(t, func() error {
				<-started
				close(reached)
				if how == nil && !await.Within(await.Limit, func() bool { return e.Status().Stopped }) {
					t.Error("the loop goes on")
				}
				return how
			})
			if err := j.run(func(running *Engine) {
				e = running
				close(started)
				wait(t, reached)
				if how != nil {
					await.That(t, "the end", func() bool { return e.Status().Stopped })
				}
			}); !errors.Is(err, how) {
				t.Fatal(err)
			}
			j.beginsAnew()
		})
	}
}

// The events of a newcomer on its way are kept by the source until the target has taken
// them, also where the newcomer alone reads the database.
func TestWholeNewcomersEventsAreKept(t *testing.T) {
	j := newWhole(t, func() error { return nil })
	refused := make(chan struct{}, 100)
	j.target.refuse = func() error {
		select {
		case refused <- struct{}{}:
		default: // it is tried again and again
		}
		return errDown
	}
	if err := j.run(func(e *Engine) {
		wait(t, e.Joined())
		wait(t, refused)
		j.depot.tx(false, 4)
		if err := j.second.WaitFor(t.Context(), record.Positions{"depot": 64}); err != nil {
			t.Fatal(err)
		}
		if at := j.depot.durable(); at > 16 {
			t.Errorf("the depot forgets up to %d, and events from 32 on are not delivered", at)
		}
		j.target.mu.Lock()
		j.target.refuse = nil
		j.target.mu.Unlock()
		if got := j.events(3); !slices.Equal(got, []string{"2", "3", "4"}) {
			t.Errorf("events %q", got)
		}
		for wait(t, j.depot.acks) != 64 {
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// A topology that reads events takes the place of one that has run, at once or after a start
// without either: nothing is lost, and its outbox begins with the rows that are there.
func TestReplacedByEvents(t *testing.T) {
	for _, between := range []bool{false, true} {
		t.Run(fmt.Sprintf("between=%v", between), func(t *testing.T) {
			j := newJoining(t)
			j.depot = newSource()
			j.depot.name = "depot"
			j.depotIn = keeper{j.depot}
			j.stopOnLost = true
			j.depot.tx(true, 1)
			depot := sources.NewDatabase("depot", j.depot)
			j.beside = func(b *topology.Builder, _ *sources.Database) {
				sinks.View(sources.Table[int64, item](b, depot, "public.items"), "second")
			}
			if err := j.run(func(e *Engine) {
				wait(t, e.Joined())
				j.depot.tx(false, 2)
				for wait(t, j.depot.acks) != 32 {
				}
			}); err != nil {
				t.Fatal(err)
			}
			j.beside = func(b *topology.Builder, _ *sources.Database) {
				if between {
					sinks.View(sources.Table[int64, item](b, depot, "public.more"), "third")
				}
			}
			if between {
				j.besideName = "between"
				if err := j.run(func(e *Engine) { wait(t, e.Joined()) }); err != nil {
					t.Fatal(err)
				}
			}
			j.depot.tx(true, 1, 2)
			j.besideName = "events"
			j.beside = func(b *topology.Builder, _ *sources.Database) {
				sinks.Stream(sources.Outbox[int64, item](b, depot, "public.items"), j.out, "events")
			}
			if err := j.run(func(e *Engine) {
				wait(t, e.Joined())
				if got := j.events(2); !slices.Equal(got, []string{"1", "2"}) {
					t.Errorf("events %q", got)
				}
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Nothing of a database that newcomers alone read is acknowledged before the commit by which
// they join is durable, whoever acknowledges: here the worker of another target does.
func TestDiesWhileItJoins(t *testing.T) {
	died := errors.New("died")
	j := newWhole(t, func() error { return nil })
	var e *Engine
	started := make(chan struct{})
	t.Cleanup(failpoint.Set(failpoint.Joining, func(hit int) error {
		if hit > 1 {
			return nil
		}
		<-started
		e.acknowledge()
		return died
	}))
	if err := j.run(func(running *Engine) {
		e = running
		close(started)
		await.That(t, "the end", func() bool { return e.Status().Stopped })
	}); !errors.Is(err, died) {
		t.Fatal(err)
	}
	j.beginsAnew()
}
