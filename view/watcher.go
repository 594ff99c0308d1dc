package view

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"
)

// epoch is what one commit changed in one view. It is shared by all watchers and
// never written again.
type epoch struct {
	at      Position
	changes []rawChange
	bytes   int
	// over says that the changes are unknown or more than a watcher may hold.
	over bool
}

// rawChange is a change of a row as stored; old or new is nil where there is none.
type rawChange struct{ key, old, new []byte }

// collected is what a commit that has not been published yet changed in the views
// that were watched.
type collected struct {
	epochs map[*core]*epoch
	done   chan struct{}
}

// takeCollected returns what was collected, nil if nothing was, and lets those go on
// who wait to watch. h.mu is held.
func (h *Host) takeCollected() *collected {
	c := h.collected
	if c != nil {
		h.collected = nil
		close(c.done)
	}
	return c
}

// changed returns what was collected, or else collects it. h.mu is held.
func (h *Host) changed(old *moment, changes func(Port) Changed) (map[*core]*epoch, error) {
	if c := h.takeCollected(); c != nil {
		return c.epochs, nil
	}
	return h.collect(old, changes)
}

// collect reads what a commit after a moment changed in the watched views. h.mu is
// held.
func (h *Host) collect(old *moment, changes func(Port) Changed) (map[*core]*epoch, error) {
	if len(h.watchers) == 0 {
		return nil, nil
	}
	epochs := make(map[*core]*epoch, len(h.watchers))
	for c := range h.watchers {
		e := &epoch{}
		epochs[c] = e
		if changes == nil || old == nil {
			e.over = true
			continue
		}
		if written := changes(c.self); written != nil {
			if err := e.fill(h, old, c.binding.Load().rows, written); err != nil {
				return nil, err
			}
		}
	}
	return epochs, nil
}

// fill adds the rows that differ between the old moment and now.
func (e *epoch) fill(h *Host, old *moment, prefix []byte, written Changed) error {
	key := append([]byte(nil), prefix...)
	var was []byte
	var err error
	dirtyErr := written.Dirty(func(k, value []byte, deleted bool) bool {
		key = append(key[:len(prefix)], k...)
		var had bool
		if was, had, err = old.snap.Get(was[:0], key); err != nil {
			return false
		}
		same := had && !deleted && bytes.Equal(was, value)
		if same || (!had && deleted) {
			return true
		}
		e.add(k, was, value, had, deleted)
		if len(e.changes) > h.opts.WatchChanges || e.bytes > h.opts.WatchBytes {
			*e = epoch{over: true}
		}
		return !e.over
	})
	return errors.Join(err, dirtyErr)
}

func (e *epoch) add(key, old, value []byte, had, deleted bool) {
	c := rawChange{key: bytes.Clone(key)}
	if had {
		c.old = append([]byte{}, old...)
	}
	if !deleted {
		c.new = append([]byte{}, value...)
	}
	e.changes = append(e.changes, c)
	e.bytes += len(c.key) + len(c.old) + len(c.new)
}

// watcher is one consumer's queue of epochs.
type watcher struct {
	host *Host
	view *core

	mu             sync.Mutex
	queue          []*epoch
	changes, bytes int
	outrun, closed bool
	wake           chan struct{}
}

// watch subscribes to a view: the watcher gets exactly the epochs after the moment
// returned, which the caller releases.
func (h *Host) watch(ctx context.Context, c *core) (*watcher, *moment, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.collected != nil {
		// The changes of the commit under way were collected without this watcher.
		done := h.collected.done
		h.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
		}
		h.mu.Lock()
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
	}
	m, err := h.acquireFor(c.topology)
	if err != nil {
		return nil, nil, err
	}
	w := &watcher{host: h, view: c, wake: make(chan struct{}, 1)}
	if h.watchers[c] == nil {
		h.watchers[c] = map[*watcher]struct{}{}
	}
	h.watchers[c][w] = struct{}{}
	return w, m, nil
}

func (h *Host) unwatch(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers[w.view], w)
	if len(h.watchers[w.view]) == 0 {
		delete(h.watchers, w.view)
	}
}

// restart empties the queue of a watcher that was outrun and returns the moment
// that it goes on from.
func (w *watcher) restart() (*moment, error) {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	m, err := w.host.acquire()
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop()
	w.outrun = false
	return m, nil
}

func (w *watcher) drop() { w.queue, w.changes, w.bytes = nil, 0, 0 }

// push queues an epoch or marks the watcher as outrun. It never blocks.
func (w *watcher) push(e *epoch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.outrun {
		return
	}
	opts, last := &w.host.opts, len(w.queue)-1
	switch {
	case e.over, w.changes+len(e.changes) > opts.WatchChanges, w.bytes+e.bytes > opts.WatchBytes:
		w.drop()
		w.outrun = true
	case last >= 0 && len(e.changes) == 0 && len(w.queue[last].changes) == 0:
		// Marks without changes merge: the later position says all.
		w.queue[last] = e
	default:
		w.queue = append(w.queue, e)
		w.changes += len(e.changes)
		w.bytes += e.bytes
	}
	w.signal()
}

func (w *watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.signal()
}

func (w *watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take returns the next epoch without waiting, nil where there is none.
func (w *watcher) take() (e *epoch, outrun, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.outrun {
		return nil, true, w.closed
	}
	if len(w.queue) == 0 {
		return nil, false, w.closed
	}
	e = w.queue[0]
	w.queue = w.queue[1:]
	w.changes -= len(e.changes)
	w.bytes -= e.bytes
	return e, false, false
}

// next waits for an epoch, at most until tick fires (nil: no limit), where it
// returns nil.
func (w *watcher) next(ctx context.Context, tick <-chan time.Time) (e *epoch, outrun bool, err error) {
	for {
		e, outrun, closed := w.take()
		if closed {
			return nil, false, ErrClosed
		}
		if e != nil || outrun {
			return e, outrun, ctx.Err()
		}
		select {
		case <-w.wake:
		case <-tick:
			return nil, false, nil
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}
