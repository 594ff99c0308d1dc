package view

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engine is the least that a driver does: it writes changes into the stores of
// views, commits them in one batch and publishes.
type engine struct {
	t     testing.TB
	db    state.DB
	env   *state.Env
	host  *Host
	nodes []*node
	seq   uint64
	lsn   uint64
	last  uint32
	// silent commits without publishing.
	silent bool
	// parts are those of views that it has, where it is one of several members.
	parts map[string][]Part
	// source is what positions are of.
	source string
}

// node is the running form of one view.
type node struct {
	port   Port
	stores []*state.Ordered
}

func (n *node) Dirty(fn func(key, value []byte, deleted bool) bool) error {
	return n.stores[0].Dirty(fn)
}

func newEngine(t testing.TB, opts HostOptions) *engine {
	return newEngineOn(t, state.NewMemory(), opts)
}

// onDisk opens a database on disk that ends after the engine on it.
func onDisk(t testing.TB) state.DB {
	db, err := state.OpenPebble(t.TempDir(), state.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func newEngineOn(t testing.TB, db state.DB, opts HostOptions) *engine {
	e := &engine{t: t, db: db, env: &state.Env{DB: db}, host: NewHost(opts), source: "shop"}
	t.Cleanup(func() {
		if err := e.host.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if n := e.host.open.Load(); n != 0 {
			t.Errorf("%d snapshots are open after Close", n)
		}
	})
	return e
}

// table is a view under test with the map that it has to equal.
type table[K comparable, V any] struct {
	*View[K, V]
	w    *Writer[K, V]
	rows map[K]V
}

func addView[K comparable, V any](e *engine, name string, indexes ...Indexed[K, V]) *table[K, V] {
	e.t.Helper()
	v, err := New("top", name, indexes...)
	if err != nil {
		e.t.Fatal(err)
	}
	n, ids := &node{port: v}, map[string]uint32{}
	stores := make([]Store, 0, 2)
	for _, s := range v.Stores() {
		e.last++
		ids[s] = e.last
		o := state.NewOrdered(e.env, e.last)
		n.stores, stores = append(n.stores, o), append(stores, o)
	}
	if err := e.host.Bind(v, func(s string) uint32 { return ids[s] }); err != nil {
		e.t.Fatal(err)
	}
	e.nodes = append(e.nodes, n)
	w, err := NewWriter(v, stores...)
	if err != nil {
		e.t.Fatal(err)
	}
	return &table[K, V]{View: v, w: w, rows: map[K]V{}}
}

// set and remove make a change of the epoch that the next commit ends.
func (tb *table[K, V]) set(t testing.TB, k K, v V) {
	c := record.Change[K, V]{Key: k, New: v, Sides: record.HasNew}
	if old, ok := tb.rows[k]; ok {
		c.Old, c.Sides = old, c.Sides|record.HasOld
	}
	tb.rows[k] = v
	if err := tb.w.Apply(&c); err != nil {
		t.Fatal(err)
	}
}

func (tb *table[K, V]) remove(t testing.TB, k K) {
	old, ok := tb.rows[k]
	if !ok {
		return
	}
	delete(tb.rows, k)
	if err := tb.w.Apply(&record.Change[K, V]{Key: k, Old: old, Sides: record.HasOld}); err != nil {
		t.Fatal(err)
	}
}

// commit makes the epoch durable and publishes it 16 bytes further in the log.
func (e *engine) commit() { e.commitHeld(nil) }

func (e *engine) commitHeld(held map[string]Standing) {
	e.t.Helper()
	b := e.db.NewBatch()
	for _, n := range e.nodes {
		for _, s := range n.stores {
			if err := s.Flush(b); err != nil {
				e.t.Fatal(err)
			}
		}
	}
	// Every second commit is published after the stores were told of it.
	late := e.seq%2 == 1 && !e.silent
	if late {
		if err := e.host.Collect(e.changed); err != nil {
			e.t.Fatal(err)
		}
	}
	if err := errors.Join(e.db.Commit(b, false), b.Close()); err != nil {
		e.t.Fatal(err)
	}
	e.seq++
	e.lsn += 16
	if !late && !e.silent {
		e.publish(held)
	}
	for _, n := range e.nodes {
		for _, s := range n.stores {
			s.Committed()
		}
	}
	if late {
		e.publish(held)
	}
}

func (e *engine) publish(held map[string]Standing) {
	e.t.Helper()
	err := e.host.Publish(Commit{
		Seq: e.seq, Positions: e.positions(), Held: held, AsOf: int64(e.seq) * 1_000_000,
		Snapshot: &guarded{Snapshot: e.db.NewSnapshot(), t: e.t}, Changes: e.changed, Parts: e.parts,
	})
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *engine) positions() record.Positions { return record.Positions{e.source: e.lsn} }

func (e *engine) changed(p Port) Changed {
	for _, n := range e.nodes {
		if n.port == p {
			return n
		}
	}
	return nil
}

// advance moves the frontier alone.
func (e *engine) advance() {
	e.t.Helper()
	e.lsn += 16
	if err := e.host.Advance(e.positions()); err != nil {
		e.t.Fatal(err)
	}
}

// guarded is a snapshot that notices who uses it after its end.
type guarded struct {
	state.Snapshot
	t      testing.TB
	closed atomic.Bool
}

func (g *guarded) Get(dst, key []byte) ([]byte, bool, error) {
	if g.closed.Load() {
		g.t.Error("Get on a closed snapshot")
	}
	return g.Snapshot.Get(dst, key)
}

func (g *guarded) NewIter(lower, upper []byte) (state.Iter, error) {
	if g.closed.Load() {
		g.t.Error("NewIter on a closed snapshot")
	}
	return g.Snapshot.NewIter(lower, upper)
}

// Only implements Divided for members that have one part of each view.
func (g *guarded) Only(string, []int32) state.Reader { return g }

func (g *guarded) Close() error {
	if g.closed.Swap(true) {
		g.t.Error("a snapshot is closed twice")
	}
	return g.Snapshot.Close()
}
