package engine

import (
	"errors"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// checkpoints reads the directory of a bench at rest.
func (b *bench) checkpoints() map[string]record.Positions {
	b.t.Helper()
	var out map[string]record.Positions
	b.atRest(func(dir *state.Dir) {
		var err error
		if out, err = Checkpoints(dir); err != nil {
			b.t.Fatal(err)
		}
	})
	return out
}

func (b *bench) atRest(look func(dir *state.Dir)) {
	b.t.Helper()
	dir, err := state.OpenDir(b.path, state.Identity{App: "app"}, state.Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	look(dir)
	if err := dir.Close(); err != nil {
		b.t.Fatal(err)
	}
}

// A source that cannot go on ends the app; what came whole before that is kept.
func TestEpochBeforeAFailingSourceIsKept(t *testing.T) {
	b := newBench(t, asTable)
	b.limits.OneTransaction = false
	b.source.tx(true, 1)
	b.source.tx(false, 2)
	b.source.tx(false, 3)
	b.source.fails = errors.New("the log is gone")
	// The loop is held in the first commit until everything else waits for it.
	var e *Engine
	held := false
	started := make(chan struct{})
	b.observer.onEpoch = func() {
		if held {
			return
		}
		held = true
		<-started
		d := e.databases[0] // two transactions and the failure
		// In the loop, which must not be ended from here.
		await.Within(10*time.Second, func() bool { return len(d.batches) == 3 })
	}
	err := b.run(func(running *Engine) {
		e = running
		close(started)
		wait(t, b.observer.epochs)
		await.That(t, "the end", func() bool { return e.Status().Stopped })
	})
	if !errors.Is(err, b.source.fails) {
		t.Errorf("got %v", err)
	}
	if at := b.checkpoints()["topo"]["shop"]; at != 48 {
		t.Errorf("the state is at %d, want 48", at)
	}
}

// The queue of a target that the app has no more goes, and with it what holds the
// source's log.
func TestQueueOfRemovedTarget(t *testing.T) {
	b := newBench(t, asStream)
	b.target.open = func() error { return errDown }
	b.source.tx(true, 1, 2)
	b.source.tx(false, 3)
	if err := b.run(func(*Engine) {
		wait(t, b.observer.epochs)
		wait(t, b.observer.epochs)
	}); err != nil {
		t.Fatal(err)
	}
	queued := func() (n int) {
		b.atRest(func(dir *state.Dir) {
			id, err := dir.QueueID("warehouse")
			if err != nil {
				t.Fatal(err)
			}
			it, err := dir.DB.NewIter(itemKey(nil, id, 1, 0), itemKey(nil, id+1, 0, 0))
			if err != nil {
				t.Fatal(err)
			}
			defer it.Close()
			for ok := it.First(); ok; ok = it.Next() {
				n++
			}
		})
		return n
	}
	if n := queued(); n == 0 {
		t.Fatal("nothing was queued")
	}
	stays := b.build
	b.build = func(b *topology.Builder, db *sources.Database, _ *sinks.Target) {
		sinks.View(sources.Table[int64, item](b, db, "public.items"), "items")
	}
	b.source.tx(false, 4)
	if err := b.run(func(*Engine) {
		for wait(t, b.source.acks) != 48 {
		}
	}); err != nil {
		t.Fatal(err)
	}
	if n := queued(); n != 0 {
		t.Errorf("%d entries are left", n)
	}
	// The target comes back.
	b.build, b.target.open = stays, nil
	b.source.tx(false, 5)
	if err := b.run(func(*Engine) { wait(t, b.target.taken) }); err != nil {
		t.Error(err)
	}
}

// failingDB is a database whose reads or writes by workers fail once told to.
type failingDB struct {
	state.DB
	reads, deletes atomic.Bool
}

func (d *failingDB) NewSnapshot() state.Snapshot {
	return &failingSnapshot{d.DB.NewSnapshot(), &d.reads}
}

func (d *failingDB) DeleteRange(lower, upper []byte) error {
	if d.deletes.Load() {
		return errDisk
	}
	return d.DB.DeleteRange(lower, upper)
}

type failingSnapshot struct {
	state.Snapshot
	fails *atomic.Bool
}

func (s *failingSnapshot) NewIter(lower, upper []byte) (state.Iter, error) {
	if s.fails.Load() {
		return nil, errDisk
	}
	return s.Snapshot.NewIter(lower, upper)
}

var errDisk = errors.New("the disk does not read")

// A worker that cannot read or trim its queue stops the app: the target is not to
// blame, and trying again would go on for ever.
func TestStorageErrorOfAWorkerStops(t *testing.T) {
	for _, what := range []string{"read", "trim"} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, asTable)
			b.wrapDB = func(db state.DB) state.DB {
				f := &failingDB{DB: db}
				f.reads.Store(what == "read")
				f.deletes.Store(what == "trim")
				return f
			}
			b.source.tx(true, 1)
			if err := b.run(nil); !errors.Is(err, errDisk) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A target that wraps nothing of what its epochs' items fail with is no way around.
func TestStorageErrorHiddenByTheTarget(t *testing.T) {
	b := newBench(t, asTable)
	b.target.hides = true
	b.wrapDB = func(db state.DB) state.DB {
		f := &failingDB{DB: db}
		f.reads.Store(true)
		return f
	}
	b.source.tx(true, 1)
	if err := b.run(nil); !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
}

// misfit says that a table does not fit.
type misfit struct{ table string }

func (m misfit) Error() string { return "sources: table " + m.table + " does not fit" }
func (m misfit) Unwrap() error { return sources.ErrSchema }
func (m misfit) Of(t []string) error {
	if slices.Contains(t, m.table) {
		return m
	}
	return nil
}

// Where nothing is left to run, Run says why.
func TestOnlyMisfits(t *testing.T) {
	b := newBench(t, asTable)
	b.source.refuses = misfit{"public.items"}
	if err := b.run(nil); !errors.Is(err, sources.ErrSchema) {
		t.Errorf("got %v", err)
	}
	if left, _ := filepath.Glob(b.path); !slices.Contains(left, b.path) {
		t.Error("the state directory is gone")
	}
}
