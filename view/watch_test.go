package view

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/tailrace/tailrace/record"
)

// history is what a view held at each position.
type history struct {
	mu sync.Mutex
	at map[uint64]map[int64]int64
}

func (h *history) record(lsn uint64, rows map[int64]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at == nil {
		h.at = map[uint64]map[int64]int64{}
	}
	h.at[lsn] = maps.Clone(rows)
}

func (h *history) rows(lsn uint64) map[int64]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at[lsn]
}

// randomEpoch changes some rows, some of them back to what they were.
func randomEpoch(t *testing.T, r *rand.Rand, tb *table[int64, int64]) {
	for range r.IntN(6) {
		k := r.Int64N(20)
		switch old, ok := tb.rows[k]; {
		case r.IntN(4) == 0:
			tb.remove(t, k)
		case ok && r.IntN(4) == 0:
			tb.set(t, k, old+1)
			tb.set(t, k, old)
		default:
			tb.set(t, k, r.Int64N(5))
		}
	}
}

// folder adds up the events of a watch and checks the sum at each epoch mark.
type folder struct {
	t              *testing.T
	rows           map[int64]int64
	changed        map[int64]bool
	epochs, resets int
	last           uint64
}

func (f *folder) take(h *history, ev Event[int64, int64]) {
	lsn := ev.Position.Sources["shop"]
	switch ev.Kind {
	case EventReset:
		f.resets++
		f.rows, f.changed = map[int64]int64{}, map[int64]bool{}
	case EventChange:
		f.change(&ev.Change)
	case EventEpoch:
		f.epochs++
		clear(f.changed)
		if lsn < f.last {
			f.t.Errorf("epoch %d after %d", lsn, f.last)
		}
		f.last = lsn
		if diff := cmp.Diff(h.rows(lsn), f.rows); diff != "" {
			f.t.Errorf("at %d (-view +watched): %s", lsn, diff)
		}
	}
}

func (f *folder) change(c *record.Change[int64, int64]) {
	old, had := f.rows[c.Key]
	if had != c.HasOld() || old != c.Old {
		f.t.Errorf("change of %d from %d, %v; have %d, %v", c.Key, c.Old, c.HasOld(), old, had)
	}
	if f.changed[c.Key] || (c.HasOld() && c.HasNew() && c.Old == c.New) || c.Sides == 0 {
		f.t.Errorf("change of %d is empty or a second one: %+v", c.Key, *c)
	}
	f.changed[c.Key] = true
	if c.HasNew() {
		f.rows[c.Key] = c.New
	} else {
		delete(f.rows, c.Key)
	}
}

// TestWatchFoldsToView: what a watch delivers up to a mark adds up to the view at
// the mark's position, with and without overruns.
func TestWatchFoldsToView(t *testing.T) {
	for name, limit := range map[string]int{"roomy": 0, "tight": 12} {
		t.Run(name, func(t *testing.T) { watchFolds(t, limit, limit > 0) })
	}
}

func watchFolds(t *testing.T, limit int, wantResets bool) {
	const commits = 400
	e := newEngine(t, HostOptions{WatchChanges: limit})
	tb := addView[int64, int64](e, "v")
	r := rand.New(rand.NewPCG(3, uint64(limit)))
	h := &history{}
	commit := func() {
		randomEpoch(t, r, tb)
		h.record(e.lsn+16, tb.rows)
		e.commit()
	}
	for range 5 {
		commit()
	}
	end := e.lsn + 16*commits
	var wg sync.WaitGroup
	started := make(chan struct{}, 3)
	for i := range 3 {
		wg.Go(func() {
			f := folder{t: t, changed: map[int64]bool{}}
			for ev, err := range tb.Watch(t.Context(), WithRows()) {
				if err != nil {
					t.Error(err)
				}
				if f.take(h, ev); f.epochs == 1 && ev.Kind == EventEpoch {
					started <- struct{}{}
				}
				if ev.Kind == EventEpoch && f.last == end {
					break
				}
				if i == 0 && ev.Kind == EventEpoch && wantResets && f.last+16*20 <= end {
					// One watcher is slow: it sleeps through twenty epochs.
					after := record.Positions{"shop": f.last + 16*20}
					if err := tb.WaitFor(t.Context(), after); err != nil {
						t.Error(err)
					}
				}
			}
			if resets := f.resets - 1; (i == 0 && wantResets && resets == 0) || (!wantResets && resets > 0) {
				t.Errorf("%d resets", resets)
			}
		})
	}
	for range 3 {
		<-started
	}
	for i := range commits {
		if i%10 == 9 {
			h.record(e.lsn+16, tb.rows)
			e.advance()
			continue
		}
		commit()
	}
	wg.Wait()
	if len(e.host.watchers) != 0 {
		t.Error("watchers are left behind")
	}
}

// TestWatchReset outruns a watcher that has not read yet, step by step.
func TestWatchReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, HostOptions{WatchChanges: 2})
		tb := addView[int64, int64](e, "v")
		tb.set(t, 1, 10)
		e.commit()
		gate := make(chan struct{})
		var got []string
		go func() {
			for ev, err := range tb.Watch(context.Background()) {
				if err != nil {
					got = append(got, err.Error())
					break
				}
				got = append(got, ev.Kind.String()+" "+ev.Position.String())
				<-gate
			}
			close(gate)
		}()
		synctest.Wait()
		for i := range int64(3) { // Three changes are one more than fits.
			tb.set(t, i, 20)
			e.commit()
		}
		gate <- struct{}{}
		synctest.Wait()
		tb.set(t, 1, 30)
		e.commit()
		e.advance()
		e.advance()
		for range 4 {
			gate <- struct{}{}
			synctest.Wait()
		}
		if err := e.host.Close(context.Background()); err != nil {
			t.Error(err)
		}
		<-gate
		want := []string{"epoch shop:0/10", "reset shop:0/40", "change shop:0/50", "epoch shop:0/50",
			"epoch shop:0/70", ErrClosed.Error()}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestWatchMarksOnce: what shows a position again, as when the frontier of an idle
// database becomes durable, brings no second mark of it, and an empty view's rows end
// with one all the same.
func TestWatchMarksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, HostOptions{})
		tb := addView[int64, int64](e, "v")
		e.commit()
		var got []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ev, err := range tb.Watch(context.Background(), WithRows()) {
				if err != nil {
					break
				}
				got = append(got, ev.Kind.String()+" "+ev.Position.String())
			}
		}()
		synctest.Wait()
		again := func() {
			e.seq++
			e.publish(nil)
			synctest.Wait()
		}
		again()
		e.advance()
		synctest.Wait()
		again()
		tb.set(t, 1, 1)
		e.commit()
		synctest.Wait()
		again()
		if err := e.host.Close(context.Background()); err != nil {
			t.Error(err)
		}
		<-done
		want := []string{
			"reset shop:0/10",
			"epoch shop:0/10",
			"epoch shop:0/20",
			"change shop:0/30",
			"epoch shop:0/30",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestWatchGiantEpoch: an epoch larger than any buffer is a reset, not memory.
func TestWatchGiantEpoch(t *testing.T) {
	e := newEngine(t, HostOptions{WatchChanges: 10})
	tb := addView[int64, int64](e, "v")
	e.commit()
	w, m, err := e.host.watch(t.Context(), tb.core)
	if err != nil {
		t.Fatal(err)
	}
	defer e.host.unwatch(w)
	m.snap.release()
	for i := range int64(1000) {
		tb.set(t, i, i)
	}
	e.commit()
	if ep, outrun, err := w.next(t.Context(), nil); ep != nil || !outrun || err != nil {
		t.Errorf("next is %v, %v, %v; want outrun", ep, outrun, err)
	}
	// Publishing at start, when the changes are unknown, is a reset too.
	m, err = w.restart()
	if err != nil {
		t.Fatal(err)
	}
	m.snap.release()
	err = e.host.Publish(Commit{Seq: 9, Positions: e.positions(), Snapshot: e.db.NewSnapshot()})
	if err != nil {
		t.Fatal(err)
	}
	if ep, outrun, err := w.next(t.Context(), nil); ep != nil || !outrun || err != nil {
		t.Errorf("next is %v, %v, %v; want outrun", ep, outrun, err)
	}
}

func TestWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, HostOptions{})
		tb := addView[int64, int64](e, "v")
		done := map[string]error{}
		wait := func(name string, ctx context.Context, p record.Positions) {
			go func() { done[name] = tb.WaitFor(ctx, p) }()
			synctest.Wait()
		}
		short, cancel := context.WithCancel(context.Background())
		wait("first", context.Background(), nil)
		wait("32", context.Background(), record.Positions{"shop": 32})
		wait("40", context.Background(), record.Positions{"shop": 40})
		wait("cancelled", short, record.Positions{"shop": 900})
		wait("closed", context.Background(), record.Positions{"shop": 900})
		expect := func(names ...string) {
			t.Helper()
			synctest.Wait()
			if len(done) != len(names) {
				t.Errorf("done are %v, want %v", done, names)
			}
			for _, n := range names {
				if err, ok := done[n]; !ok || err != nil {
					t.Errorf("%s: %v, %v", n, ok, err)
				}
			}
			clear(done)
		}
		expect()
		e.commit()
		expect("first")
		e.advance() // The database is idle, the frontier still gets there.
		expect("32")
		e.advance()
		expect("40")
		if err := tb.WaitFor(context.Background(), record.Positions{"shop": 48}); err != nil {
			t.Error(err)
		}
		err := tb.WaitFor(context.Background(), record.Positions{"stock": 48})
		if !errors.Is(err, ErrUnknownSource) {
			t.Error(err)
		}
		cancel()
		synctest.Wait()
		if err := done["cancelled"]; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := e.host.Close(context.Background()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if err := done["closed"]; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}
