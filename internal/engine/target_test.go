package engine

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

var errDown = errors.New("down")

func TestQueueKeepsEventsAcrossRetries(t *testing.T) {
	b := newBench(t, asStream)
	b.source.tx(true, 1, 2)
	b.source.tx(false, 3)
	b.source.tx(false, 4, 5, 6)
	refused := 0
	b.target.refuse = func() error {
		if refused++; refused <= 3 {
			return errDown
		}
		return nil
	}
	var got []string
	var status Status
	err := b.run(func(e *Engine) {
		for range 6 {
			ev := wait(t, b.target.taken).event
			got = append(got, fmt.Sprintf("%s %s last=%v", ev.ID, ev.Key, ev.Last))
		}
		for wait(t, b.source.acks) != 48 { // after the last delivery has been noted
		}
		status = e.Status()
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"shop/0/10/topo/warehouse/items/0 1 last=false",
		"shop/0/10/topo/warehouse/items/1 2 last=true",
		"shop/0/20/topo/warehouse/items/0 3 last=true",
		"shop/0/30/topo/warehouse/items/0 4 last=false",
		"shop/0/30/topo/warehouse/items/1 5 last=false",
		"shop/0/30/topo/warehouse/items/2 6 last=true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
	first := b.target.walks[0]
	for _, walk := range b.target.walks[1:4] {
		if !reflect.DeepEqual(walk[:len(first)], first) {
			t.Errorf("an attempt was given %v, the first one %v", walk, first)
		}
	}
	if len(status.Targets) != 0 {
		t.Errorf("the target takes everything again, and the status still has %v", status.Targets)
	}
}

// TestTargetBeingOpened has a target that takes its time to open, as where a lease has to end:
// the status says so until it is open.
func TestTargetBeingOpened(t *testing.T) {
	b := newBench(t, asTable)
	b.source.tx(true, 1)
	asked, proceed := make(chan bool), make(chan bool)
	b.target.open = func() error {
		asked <- true
		<-proceed
		return nil
	}
	if err := b.run(func(e *Engine) {
		wait(t, asked)
		if err := e.Status().Targets["warehouse"]; !errors.Is(err, errOpening) {
			t.Errorf("while it is being opened the status has %v", err)
		}
		close(proceed)
		wait(t, b.target.taken)
		await.That(t, "the status says nothing", func() bool { return len(e.Status().Targets) == 0 })
	}); err != nil {
		t.Fatal(err)
	}
}

// A start with state shows its views at once, and is not ready before all is open: a source
// and a target may have to wait for another instance to end.
func TestNotReadyBeforeAllIsOpen(t *testing.T) {
	b := newBench(t, asTable)
	b.source.tx(true, 1)
	if err := b.run(func(*Engine) { wait(t, b.target.taken) }); err != nil {
		t.Fatal(err)
	}
	asked, proceed := make(chan bool), make(chan bool)
	b.source.opening = func() {
		asked <- true
		<-proceed
	}
	if err := b.run(func(e *Engine) {
		wait(t, asked)
		s := e.Status()
		if !s.Ready || !errors.Is(s.Sources["shop"], errOpeningSource) ||
			!errors.Is(s.Targets["warehouse"], errOpening) {
			t.Errorf("while the source is being opened the status is %+v", s)
		}
		close(proceed)
		await.That(t, "all to be open", func() bool {
			s := e.Status()
			return len(s.Sources) == 0 && len(s.Targets) == 0
		})
	}); err != nil {
		t.Fatal(err)
	}
}

func TestTargetDownAtOpen(t *testing.T) {
	b := newBench(t, asTable)
	b.source.tx(true, 1)
	if err := b.run(func(*Engine) { wait(t, b.target.taken) }); err != nil {
		t.Fatal(err)
	}
	attempts := 0
	b.target.open = func() error {
		if attempts++; attempts <= 3 {
			return errDown
		}
		return nil
	}
	b.source.tx(false, 2)
	if err := b.run(func(*Engine) {
		if d := wait(t, b.target.taken); !slices.Equal(d.columns, []string{"2", "item 2"}) || d.fresh {
			t.Errorf("got %+v", d)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestProgressThatIsNotWhatItWas(t *testing.T) {
	for name, change := range map[string]func(m *memoryTarget){
		"lost":   func(m *memoryTarget) { m.holds = false },
		"behind": func(m *memoryTarget) { m.seq = 0 },
		"ahead":  func(m *memoryTarget) { m.seq += 5 },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, asTable)
			b.source.tx(true, 1)
			b.source.tx(false, 2)
			b.source.tx(false, 3)
			if err := b.run(func(*Engine) {
				for range 3 {
					wait(t, b.target.taken)
				}
			}); err != nil {
				t.Fatal(err)
			}
			change(b.target)
			b.source.tx(false, 4)
			if err := b.run(nil); !errors.Is(err, errLostProgress) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFencedTargetStops(t *testing.T) {
	b := newBench(t, asTable)
	b.source.tx(true, 1)
	b.target.refuse = func() error { return fmt.Errorf("%w: by a test", sinks.ErrFenced) }
	if err := b.run(nil); !errors.Is(err, sinks.ErrFenced) {
		t.Errorf("got %v", err)
	}
}

func TestFullQueueStopsReading(t *testing.T) {
	b := newBench(t, asTable)
	b.limits.QueueBytes = 1
	b.source.tx(true, 1)
	for i := 2; i < 10; i++ {
		b.source.tx(false, i)
	}
	// Batches that are read ahead are handed out all the same; the rest waits.
	b.target.open = func() error {
		if b.source.handedOut() < 6 {
			return errDown
		}
		return nil
	}
	if err := b.run(func(*Engine) {
		for range 9 {
			wait(t, b.target.taken)
		}
	}); err != nil {
		t.Fatal(err)
	}
	b.observer.mu.Lock()
	defer b.observer.mu.Unlock()
	one := b.observer.queued[0] // the snapshot's, which is the largest
	for _, bytes := range b.observer.queued {
		if bytes > one {
			t.Errorf("%d bytes were queued over a bound of 1, an epoch has %d", bytes, one)
		}
	}
}

// An append-only target limits what the source may forget (D1).
func TestAppendTargetLimitsAcknowledgement(t *testing.T) {
	b := newBench(t, asStream)
	up := make(chan struct{})
	b.target.open = func() error {
		select {
		case <-up:
			return nil
		default:
			return errDown
		}
	}
	b.source.tx(true, 1)
	for i := 2; i < 6; i++ {
		b.source.tx(false, i)
	}
	if err := b.run(func(*Engine) {
		for range 5 {
			wait(t, b.observer.epochs)
		}
		// Those of the first four commits are over.
		if at := b.source.durable(); at != 0 {
			t.Errorf("acknowledged %d while the target has nothing", at)
		}
		close(up)
		for wait(t, b.source.acks) != 5*16 {
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// What an append-only target has not taken holds the log of the databases that its events
// come from and of no other, after another start too.
func TestAppendTargetHoldsItsOwnSources(t *testing.T) {
	b := newBench(t, asStream)
	b.depot = newSource()
	b.depot.name = "depot"
	b.beside = func(tb *topology.Builder, _ *sources.Database) {
		depot := sources.NewDatabase("depot", nil)
		sinks.View(sources.Table[int64, item](tb, depot, "public.items"), "stock")
	}
	b.target.open = func() error { return errDown }
	b.source.tx(true, 1)
	b.depot.tx(true, 1)
	for start := 1; start <= 2; start++ {
		b.depot.tx(false, start+1)
		if err := b.run(func(*Engine) {
			for want := uint64(start+1) * 16; wait(t, b.depot.acks) != want; {
			}
			if at := b.source.durable(); at != 0 {
				t.Errorf("acknowledged %d of the shop while the target has nothing", at)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// However deliveries and commits fall together, a source is never told to forget
// what an append-only target does not hold (D1).
func TestAcknowledgementNeverPassesAppendTarget(t *testing.T) {
	b := newBench(t, asStream)
	b.source.tx(true, 1)
	const n = 200
	for i := 2; i <= n; i++ {
		b.source.tx(false, i)
	}
	if err := b.run(func(*Engine) {
		for at := uint64(0); at != n*16; {
			at = wait(t, b.source.acks)
			b.target.mu.Lock()
			held := b.target.seq
			b.target.mu.Unlock()
			if at > held*16 {
				t.Fatalf("acknowledged %d, and the target holds epoch %d", at, held)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestEndByTheCallersCauseIsNoError(t *testing.T) {
	b := newBench(t, asTable)
	b.source.tx(true, 1)
	err := b.runUnder(t.Context(), errors.New("a signal came"), func(*Engine) { wait(t, b.target.taken) })
	if err != nil {
		t.Error(err)
	}
}

// A crash can leave state whose checkpoint has been dropped. It must not show.
func TestStateWithoutCheckpointIsDropped(t *testing.T) {
	b := newBench(t, asTable)
	b.source.tx(true, 1, 2)
	if err := b.run(func(*Engine) { wait(t, b.target.taken); wait(t, b.target.taken) }); err != nil {
		t.Fatal(err)
	}
	dir, err := state.OpenDir(b.path, state.Identity{App: "app"}, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	batch := dir.DB.NewBatch()
	err = errors.Join(batch.Delete(checkpointKey("topo")), dir.DB.Commit(batch, true), batch.Close(),
		dir.Close())
	if err != nil {
		t.Fatal(err)
	}
	b.source.log = nil
	b.source.tx(true, 2)
	if err := b.run(func(*Engine) {
		d := wait(t, b.target.taken)
		if !slices.Equal(d.columns, []string{"2", "item 2"}) || !d.fresh {
			t.Errorf("got %+v, want the whole new snapshot", d)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestNewcomerAppsDiffer(t *testing.T) {
	long := "an-app-with-a-name-of-exactly-40-letters"
	seen := map[string]bool{long: true}
	for _, topology := range []string{"a", "b", "orders-by-customer-one", "orders-by-customer-two"} {
		name := NewcomerApp(long, topology)
		if seen[name] || len(name) > 40 {
			t.Errorf("%q for %q", name, topology)
		}
		seen[name] = true
	}
	if got := NewcomerApp("app", "second"); got != "app-join-second" {
		t.Error(got)
	}
}

// A target that is set up wrongly stops the app at its start; one that was open already
// is tried again, as a password may be changed on both ends one after the other.
func TestMisconfiguredTarget(t *testing.T) {
	wrong := func() error { return fmt.Errorf("%w: by a test", sinks.ErrConfig) }
	b := newBench(t, asTable)
	b.source.tx(true, 1)
	b.target.open = wrong
	if err := b.run(nil); !errors.Is(err, sinks.ErrConfig) {
		t.Fatalf("got %v", err)
	}
	opened, refused := 0, 0
	b.target.open = func() error {
		if opened++; opened == 2 {
			return wrong()
		}
		return nil
	}
	b.target.refuse = func() error {
		if refused++; refused == 1 {
			return errDown
		}
		return nil
	}
	if err := b.run(func(*Engine) { wait(t, b.target.taken) }); err != nil {
		t.Fatal(err)
	}
	if opened < 3 {
		t.Errorf("opened %d times", opened)
	}
}
