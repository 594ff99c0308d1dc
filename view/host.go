package view

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// HostOptions are the bounds of a host.
type HostOptions struct {
	// Sources are the names of the sources that the app reads. Waiting for a source
	// that is not among them fails at once. Empty: any source may be waited for.
	Sources []string
	// WatchChanges and WatchBytes bound what waits for one watcher of a view, in
	// changes and in bytes of their keys and values. A watcher that is outrun gets a
	// reset. They default to 65,536 changes and 16 MiB.
	WatchChanges, WatchBytes int
	// CursorTTL is how long a paging cursor stays valid, counted from its first
	// page. Defaults to 30 s.
	CursorTTL time.Duration
	// MaxCursors bounds the cursors that are open at a time, each of which may pin a
	// snapshot of its own. Defaults to 128.
	MaxCursors int
}

func (o HostOptions) withDefaults() HostOptions {
	if o.WatchChanges <= 0 {
		o.WatchChanges = 1 << 16
	}
	if o.WatchBytes <= 0 {
		o.WatchBytes = 16 << 20
	}
	if o.CursorTTL <= 0 {
		o.CursorTTL = 30 * time.Second
	}
	if o.MaxCursors <= 0 {
		o.MaxCursors = 128
	}
	return o
}

// Host shows the views of one app. It is for drivers: programs read by the handles of their
// views, and by App.WaitFor. Its reading methods are safe for concurrent
// use; Publish and Advance are the committer's, one call at a time.
type Host struct {
	opts    HostOptions
	current atomic.Pointer[moment]
	// open counts snapshots that are not closed yet.
	open    atomic.Int64
	pins    pins
	members Members // nil where the app is one process

	// mu orders publishing against subscribing: a watcher sees exactly the epochs
	// after the moment it starts at. Reads do not take it.
	mu       sync.Mutex
	views    map[string]*core
	watchers map[*core]map[*watcher]struct{}
	// collected are the changes that wait for Publish; nobody begins to watch
	// meanwhile.
	collected *collected
	waiters   map[*waiter]struct{}
	closed    bool

	drainMu   sync.Mutex
	drainOnce sync.Once
	drained   chan struct{}
	closeErr  error
}

// NewHost makes the host of an app.
func NewHost(opts HostOptions) *Host {
	h := &Host{
		opts:     opts.withDefaults(),
		views:    map[string]*core{},
		watchers: map[*core]map[*watcher]struct{}{},
		waiters:  map[*waiter]struct{}{},
		drained:  make(chan struct{}),
	}
	h.pins.init(h.opts.CursorTTL, h.opts.MaxCursors)
	return h
}

// Bind ties a view to the host; storeID gives the prefix of each of the view
// node's stores. It fails with ErrBound where the name is taken in this app, or
// where another app that still runs keeps the same handle.
func (h *Host) Bind(p Port, storeID func(store string) uint32) error {
	c := p.port()
	b := &binding{host: h}
	for i, store := range p.Stores() {
		prefix := storePrefix(storeID(store))
		if i == 0 {
			b.rows = prefix
		} else {
			b.indexes = append(b.indexes, prefix)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	if other, dup := h.views[c.name]; dup && other != c {
		return fmt.Errorf("%w: topologies %q and %q both keep a view %q; give one another name",
			ErrBound, other.topology, c.topology, c.name)
	}
	if old := c.binding.Load(); old != nil && old.host != h && !old.host.isClosed() {
		return fmt.Errorf("%w: another app of this process keeps view %q; build its topology once for each app",
			ErrBound, c.name)
	}
	c.binding.Store(b)
	h.views[c.name] = c
	return nil
}

func (h *Host) isClosed() bool {
	m := h.current.Load()
	return m == closedMoment
}

// Commit is one durable commit, as Publish takes it.
type Commit struct {
	// Seq numbers the commits; it grows.
	Seq uint64
	// Positions is where the commit stands in each source. The host keeps a copy, and
	// what it shows never goes back: a position that Advance has shown stays, even
	// where the engine has to read again from the checkpoint before it, since the
	// views were complete up to there.
	Positions record.Positions
	// Held is where topologies stand that are at an earlier position, by name, such
	// as one that a schema change stopped. Without positions they are not shown: what
	// their stores hold is of no moment. Nil for none.
	Held map[string]Standing
	// AsOf is the source's commit time of the last transaction, in Unix
	// microseconds; 0 keeps the time of the commit before.
	AsOf int64
	// Snapshot is of the state right after this commit, opened before the next one
	// began. It belongs to the host from the call on, which closes it when nobody
	// reads it any more, also where Publish fails.
	Snapshot state.Snapshot
	// Parts are those that the snapshot has of views, by their names, where the app runs as
	// several members; see Join.
	Parts map[string][]Part
	// Changes returns the running form of a view's node, whose Dirty names the rows
	// that the commit wrote; nil where nothing was written. It is called during
	// Publish, and only for views that are watched: so Publish comes after the
	// commit and before the stores are told of it, unless Collect came then. A nil
	// function, as at start, says that anything may have changed: watchers are reset.
	Changes func(Port) Changed
}

// Standing is where a topology stands that others have left behind.
type Standing struct {
	Positions record.Positions
	// AsOf is the source's commit time of its last transaction, in Unix microseconds.
	AsOf int64
}

// Publish makes a durable commit visible to readers (invariant V1) and hands its changes to
// watchers. It never waits for a reader. An error is one of reading the state.
func (h *Host) Publish(c Commit) error {
	m := &moment{
		seq: c.Seq, positions: c.Positions.Clone(), held: cloneHeld(c.Held), asOf: c.AsOf, parts: c.Parts,
	}
	m.snap = h.counted(c.Snapshot)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		m.snap.release()
		return ErrClosed
	}
	old := h.current.Load()
	if old != nil {
		m.keepUp(old)
	}
	epochs, err := h.changed(old, c.Changes)
	if err != nil {
		m.snap.release()
		return err
	}
	h.show(old, m)
	for view, set := range h.watchers {
		e := epochs[view]
		e.at = m.position(view.topology)
		for w := range set {
			w.push(e)
		}
	}
	return nil
}

// Collect reads what the next Publish is to hand to watchers, so that the stores can
// be told of the commit before it is durable and shown. It is called after the Publish
// before it; its changes are as in Commit, and Publish needs none then. Until Publish
// or Discard whoever begins to watch waits.
func (h *Host) Collect(changes func(Port) Changed) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	epochs, err := h.collect(h.current.Load(), changes)
	if err != nil {
		return err
	}
	h.collected = &collected{epochs: epochs, done: make(chan struct{})}
	return nil
}

// Discard forgets what was collected for a commit that failed. Without it does
// nothing.
func (h *Host) Discard() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.takeCollected()
}

// Advance moves the positions without a change of state: the frontier moved over
// transactions that concern no view. Before the first Publish there is nothing to
// move, and it does nothing.
func (h *Host) Advance(positions record.Positions) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	old := h.current.Load()
	if old == nil {
		return nil
	}
	m := *old
	m.positions = positions.Clone()
	m.keepUp(old)
	old.snap.refs.Add(1) // The host's own reference keeps it above zero.
	h.show(old, &m)
	for view, set := range h.watchers {
		e := &epoch{at: m.position(view.topology)}
		for w := range set {
			w.push(e)
		}
	}
	return nil
}

// show makes m current and wakes those who wait for its positions. h.mu is held.
func (h *Host) show(old, m *moment) {
	h.current.Store(m)
	if old != nil {
		old.snap.release()
	}
	for w := range h.waiters {
		if m.position(w.topology).Sources.Covers(w.positions) {
			delete(h.waiters, w)
			close(w.done)
		}
	}
}

// counted wraps a snapshot with one user, the host.
func (h *Host) counted(s state.Snapshot) *snapshot {
	c := &snapshot{Snapshot: s}
	c.refs.Store(1)
	h.open.Add(1)
	c.closed = func(err error) {
		last := h.open.Add(-1) == 0
		if err != nil || last {
			h.snapshotClosed(err)
		}
	}
	return c
}

func (h *Host) snapshotClosed(err error) {
	h.drainMu.Lock()
	defer h.drainMu.Unlock()
	h.closeErr = errors.Join(h.closeErr, err)
	if h.isClosed() && h.open.Load() == 0 {
		h.drainOnce.Do(func() { close(h.drained) })
	}
}

// closedMoment is current once the host is closed.
var closedMoment = &moment{snap: &snapshot{}}

// acquire takes the current moment; the caller releases its snapshot.
func (h *Host) acquire() (*moment, error) {
	for {
		m := h.current.Load()
		switch m {
		case nil:
			return nil, ErrNotReady
		case closedMoment:
			return nil, ErrClosed
		}
		// A moment that is not current any more may have lost its last user between
		// the two loads; the current one never has.
		if m.snap.acquire() {
			return m, nil
		}
	}
}

// acquireFor is acquire for the views of a topology, which may not be shown yet.
func (h *Host) acquireFor(topology string) (*moment, error) {
	m, err := h.acquire()
	if err != nil {
		return nil, err
	}
	if err := m.shows(topology); err != nil {
		m.snap.release()
		return nil, err
	}
	return m, nil
}

// Position returns the current position; ok is false where nothing has been
// committed yet or the host is closed.
func (h *Host) Position() (p Position, ok bool) {
	m := h.current.Load()
	if m == nil || m == closedMoment {
		return Position{}, false
	}
	return m.position(""), true
}

// PositionOf returns the current position as the views of a topology have it; ok is false
// where it has committed nothing yet, or the host is closed.
func (h *Host) PositionOf(topology string) (p Position, ok bool) {
	m := h.current.Load()
	if m == nil || m == closedMoment || m.shows(topology) != nil {
		return Position{}, false
	}
	return m.position(topology), true
}

// Close ends all reads to come, watches and cursors with ErrClosed, and waits for
// running reads to let go of their snapshots, after which the database may be
// closed. It fails where ctx ends first; then the database must stay open.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		h.takeCollected()
		if old := h.current.Swap(closedMoment); old != nil {
			old.snap.release()
		}
		for _, set := range h.watchers {
			for w := range set {
				w.close()
			}
		}
		for w := range h.waiters {
			delete(h.waiters, w)
			w.err = ErrClosed
			close(w.done)
		}
	}
	h.mu.Unlock()
	h.pins.close()
	h.snapshotClosed(nil)
	select {
	case <-h.drained:
		h.drainMu.Lock()
		defer h.drainMu.Unlock()
		return h.closeErr
	case <-ctx.Done():
		return fmt.Errorf("view: %d snapshot(s) are still being read; close every Moment and end every Range: %w",
			h.open.Load(), ctx.Err())
	}
}

// list returns the bound views by name.
func (h *Host) list() []*core {
	h.mu.Lock()
	defer h.mu.Unlock()
	views := make([]*core, 0, len(h.views))
	for _, name := range slices.Sorted(maps.Keys(h.views)) {
		views = append(views, h.views[name])
	}
	return views
}

// lookup returns a bound view.
func (h *Host) lookup(name string) (*core, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.views[name]
	return c, ok
}

func cloneHeld(held map[string]Standing) map[string]Standing {
	if len(held) == 0 {
		return nil
	}
	out := make(map[string]Standing, len(held))
	for topology, s := range held {
		out[topology] = Standing{Positions: s.Positions.Clone(), AsOf: s.AsOf}
	}
	return out
}
