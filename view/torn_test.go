package view

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tailrace/tailrace/state"
)

// TestNeverTorn moves money between two views while readers add up both at one
// moment, and one of them alone in a walk.
func TestNeverTorn(t *testing.T) {
	t.Run("memory", func(t *testing.T) { neverTorn(t, state.NewMemory()) })
	t.Run("disk", func(t *testing.T) { neverTorn(t, onDisk(t)) })
}

func neverTorn(t *testing.T, db state.DB) {
	const accounts, total, commits = 50, 50 * 2 * 1000, 1500
	e := newEngineOn(t, db, HostOptions{})
	a, b := addView[int64, int64](e, "a"), addView[int64, int64](e, "b")
	for i := range int64(accounts) {
		a.set(t, i, 1000)
		b.set(t, i, 1000)
	}
	e.commit()
	var reads, positions atomic.Int64
	var seen atomic.Uint64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := uint64(0)
			for !stop.Load() {
				sum, seq, err := sumBoth(a, b)
				if err != nil || sum != total || seq < last {
					t.Errorf("read %d at seq %d after %d: %v", sum, seq, last, err)
					return
				}
				if seq != last {
					positions.Add(1)
					seen.Store(seq)
				}
				last = seq
				reads.Add(1)
			}
		})
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range commits {
		for range 1 + r.IntN(20) {
			from, to, n := r.Int64N(accounts), r.Int64N(accounts), r.Int64N(500)
			a.set(t, from, a.rows[from]-n)
			b.set(t, to, b.rows[to]+n)
		}
		e.commit()
		// Every fifth commit waits for a reader, so that a busy machine tests as much.
		for e.seq%5 == 0 && seen.Load()+5 < e.seq && !t.Failed() {
			runtime.Gosched()
		}
	}
	stop.Store(true)
	wg.Wait()
	if reads.Load() == 0 || positions.Load() < commits/10 {
		t.Fatalf("only %d reads at %d positions", reads.Load(), positions.Load())
	}
	t.Logf("%d reads, %d positions seen", reads.Load(), positions.Load())
	if n := e.host.open.Load(); n != 1 {
		t.Fatalf("%d snapshots are open, want the current one alone", n)
	}
}

// sumBoth adds up two views at one moment.
func sumBoth(a, b *table[int64, int64]) (sum int64, seq uint64, err error) {
	ctx := context.Background()
	m, err := At(ctx, a, b)
	if err != nil {
		return 0, 0, err
	}
	defer m.Close()
	for _, r := range []Reader[int64, int64]{a.At(m), b.At(m)} {
		rows := r.Range(ctx, All[int64]())
		for _, cents := range rows.All() {
			sum += cents
		}
		if rows.Err() != nil {
			return 0, 0, rows.Err()
		}
	}
	return sum, m.Position().Seq, nil
}

// TestSnapshotStaysClosed: a reader that loaded a moment just before its last user left
// must not bring it back.
func TestSnapshotStaysClosed(t *testing.T) {
	closes := 0
	s := &snapshot{Snapshot: &guarded{Snapshot: state.NewMemory().NewSnapshot(), t: t},
		closed: func(error) { closes++ }}
	s.refs.Store(1)
	if !s.acquire() {
		t.Fatal("an open snapshot cannot be acquired")
	}
	s.release()
	s.release()
	if s.acquire() || closes != 1 {
		t.Errorf("acquired after its end; closed %d times", closes)
	}
}
