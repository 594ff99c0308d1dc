package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
)

// gate stops the commits of an engine between being applied and being durable.
type gate struct{ reached, open, received chan struct{} }

func newGate(t *testing.T) *gate {
	g := &gate{reached: make(chan struct{}, 100), open: make(chan struct{}), received: make(chan struct{}, 100)}
	t.Cleanup(failpoint.Set(failpoint.BatchApplied, func(int) error {
		g.reached <- struct{}{}
		<-g.open
		return nil
	}))
	t.Cleanup(failpoint.Set(failpoint.Received, func(int) error {
		g.received <- struct{}{}
		return nil
	}))
	return g
}

// TestNothingLeavesBeforeItIsDurable: while a commit is on its way to the disk the next
// transactions are computed, and nobody is told of either.
func TestNothingLeavesBeforeItIsDurable(t *testing.T) {
	b := newBench(t, asTable)
	b.limits.OneTransaction = false
	b.source.tx(true, 1)
	if err := b.run(func(*Engine) { wait(t, b.target.taken) }); err != nil {
		t.Fatal(err)
	}
	acked := b.source.durable()
	for len(b.source.acks) > 0 {
		<-b.source.acks
	}
	g := newGate(t)
	b.source.tx(false, 2)
	err := b.run(func(e *Engine) {
		wait(t, g.received)
		wait(t, g.reached)
		before, _ := e.cfg.Host.Position()
		b.source.tx(false, 3)
		b.source.tx(false, 4)
		wait(t, g.received)
		wait(t, g.received) // 3 has been computed
		if at, _ := e.cfg.Host.Position(); at.Seq != before.Seq || at.Sources["shop"] != acked {
			t.Errorf("views show %v, %v is durable", at, acked)
		}
		if len(b.source.acks) > 0 || b.source.durable() != acked {
			t.Errorf("acknowledged up to %v, %v is durable", b.source.durable(), acked)
		}
		if len(b.target.taken) > 0 {
			t.Errorf("the target has %v", wait(t, b.target.taken))
		}
		close(g.open)
		for _, want := range []string{"2", "3", "4"} {
			if d := wait(t, b.target.taken); d.columns[0] != want {
				t.Errorf("the target got %v, want %v", d, want)
			}
		}
		for wait(t, b.source.acks) != 64 {
		}
		if at, _ := e.cfg.Host.Position(); at.Sources["shop"] != 64 {
			t.Errorf("views show %v", at)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFailureWhileACommitIsUnderWay keeps that commit, and rolls back what came after
// it only (invariant D6).
func TestFailureWhileACommitIsUnderWay(t *testing.T) {
	b := newBench(t, asTable)
	b.limits.OneTransaction = false
	b.source.tx(true, 1)
	if err := b.run(func(*Engine) { wait(t, b.target.taken) }); err != nil {
		t.Fatal(err)
	}
	g := newGate(t)
	b.source.tx(false, 2)
	go func() {
		<-g.reached
		b.source.poison()
		<-g.received
		<-g.received
		close(g.open)
	}()
	if err := b.run(nil); err == nil {
		t.Error("a row that cannot be decoded was taken")
	}
	if at := b.checkpoint(); at["shop"] != 32 {
		t.Errorf("the state is at %v, want 32", at)
	}
}

// TestCommitThatFails ends the run: nobody is told of it, and what was computed after
// it is not committed.
func TestCommitThatFails(t *testing.T) {
	b := newBench(t, asTable)
	b.limits.OneTransaction = false
	b.source.tx(true, 1)
	if err := b.run(func(*Engine) { wait(t, b.target.taken) }); err != nil {
		t.Fatal(err)
	}
	acked := b.source.durable()
	g := newGate(t)
	t.Cleanup(failpoint.Set(failpoint.BatchApplied, func(hit int) error {
		if hit > 1 {
			return failpoint.ErrInjected // a commit that must not be
		}
		b.source.tx(false, 3)
		b.source.tx(false, 4)
		<-g.received
		<-g.received
		<-g.received // 2, 3 and 4: 3 has been computed
		return failpoint.ErrInjected
	}))
	b.source.tx(false, 2)
	if err := b.run(nil); !errors.Is(err, failpoint.ErrInjected) {
		t.Errorf("got %v", err)
	}
	if b.source.durable() != acked || len(b.target.taken) > 0 {
		t.Errorf("acknowledged %v, delivered %d", b.source.durable(), len(b.target.taken))
	}
	if at := b.checkpoint(); at["shop"] > 32 {
		t.Errorf("the state is at %v, and the commit of 32 failed", at)
	}
}

// TestCommitThatFailsAtTheEnd: being stopped is no reason to keep it back that what was on
// its way to the disk has not arrived.
func TestCommitThatFailsAtTheEnd(t *testing.T) {
	b := newBench(t, asTable)
	b.limits.OneTransaction = false
	b.source.tx(true, 1)
	if err := b.run(func(*Engine) { wait(t, b.target.taken) }); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reached := make(chan struct{}, 10)
	t.Cleanup(failpoint.Set(failpoint.BatchApplied, func(int) error {
		reached <- struct{}{}
		<-ctx.Done()
		return failpoint.ErrInjected
	}))
	b.source.tx(false, 2)
	var e *Engine
	err := b.runUnder(ctx, context.Canceled, func(running *Engine) {
		e = running
		wait(t, reached)
		stop()
	})
	if !errors.Is(err, failpoint.ErrInjected) || !errors.Is(e.Status().Err, failpoint.ErrInjected) {
		t.Errorf("got %v, the status has %v", err, e.Status().Err)
	}
}

// poison appends a transaction that cannot be decoded.
func (s *scriptedSource) poison() {
	s.mu.Lock()
	n := uint64(len(s.log) + 1)
	s.log = append(s.log, sources.TxRows{
		Tx: &record.Tx{Source: "shop", Position: n * 16, CommitStart: n*16 - 8, CommitTime: int64(n)}, Last: true,
		Rows: []record.Row{{Rel: items, Op: record.Insert, New: record.Tuple{
			{Kind: record.Text, Data: []byte("no number")}, {Kind: record.Text, Data: []byte("x")},
		}}},
	})
	s.tell()
	s.mu.Unlock()
}

// checkpoint is where the state stands that an engine has left.
func (b *bench) checkpoint() record.Positions {
	b.t.Helper()
	dir, err := state.OpenDir(b.path, state.Identity{App: "app"}, state.Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	defer dir.Close()
	all, err := Checkpoints(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	return all["topo"]
}

// TestLingering: an epoch waits for more where transactions come in a flood, and never
// for long.
func TestLingering(t *testing.T) {
	of := func(txs int, age time.Duration) time.Duration {
		return (&epoch{txs: make([]*record.Tx, txs), started: time.Now().Add(-age)}).lingers()
	}
	if d := of(floodTxs-1, 0); d > 0 {
		t.Errorf("a few transactions wait for %v", d)
	}
	if d := of(20, 20*floodGap+time.Millisecond); d > 0 {
		t.Errorf("transactions that come slowly wait for %v", d)
	}
	if d := of(100_000, 0); d <= 0 || d > floodEpoch {
		t.Errorf("a flood waits for %v", d)
	}
	if d := of(100_000, floodEpoch); d > 0 {
		t.Errorf("after %v a flood waits for %v more", floodEpoch, d)
	}
}
