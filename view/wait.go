package view

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/record"
)

// waiter waits until a topology's views have reached a position.
type waiter struct {
	topology  string
	positions record.Positions
	done      chan struct{}
	// err is set before done is closed.
	err error
}

// WaitFor returns once the view shows the positions or later ones, so that a
// program that wrote to a source reads its own write: take the position after the
// commit (pg_current_wal_flush_lsn), wait for it, read. The frontier reaches it also on
// an idle database. Nil positions wait for the first commit. It fails with the
// context's error, ErrUnknownSource or ErrClosed.
//
// A server sends only what it has flushed, so pg_current_wal_insert_lsn may stay out of
// reach for seconds on an idle database: reading rows writes to the log as well. After a
// commit with synchronous_commit = off it is nevertheless what has to be waited for.
func (v *View[K, V]) WaitFor(ctx context.Context, positions record.Positions) error {
	b, err := v.core.bound()
	if err != nil {
		return err
	}
	return b.host.waitFor(ctx, v.core.topology, positions)
}

// WaitFor waits until the app's views show the positions; see View.WaitFor.
func (h *Host) WaitFor(ctx context.Context, positions record.Positions) error {
	return h.waitFor(ctx, "", positions)
}

func (h *Host) waitFor(ctx context.Context, topology string, positions record.Positions) error {
	w, err := h.await(topology, positions)
	if w == nil || err != nil {
		return err
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		h.mu.Lock()
		delete(h.waiters, w)
		h.mu.Unlock()
		at := "before its first commit"
		if p, ok := h.Position(); ok {
			at = "at " + p.String()
		}
		return fmt.Errorf("view: waiting for %s, now %s: %w", positions, at, ctx.Err())
	}
}

// await registers a waiter; nil where there is nothing to wait for.
func (h *Host) await(topology string, positions record.Positions) (*waiter, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	m := h.current.Load()
	if err := h.checkSources(m, positions); err != nil {
		return nil, err
	}
	if m != nil && m.position(topology).Sources.Covers(positions) {
		return nil, nil
	}
	w := &waiter{topology: topology, positions: positions.Clone(), done: make(chan struct{})}
	h.waiters[w] = struct{}{}
	return w, nil
}

// checkSources refuses to wait for a source that will never move.
func (h *Host) checkSources(m *moment, positions record.Positions) error {
	known := h.sources(m)
	if known == nil {
		return nil
	}
	for _, s := range positions.Sources() {
		if !slices.Contains(known, s) {
			return fmt.Errorf("%w %q; the app reads %s", ErrUnknownSource, s, strings.Join(known, ", "))
		}
	}
	return nil
}

// sources returns the names of the sources as far as they are known.
func (h *Host) sources(m *moment) []string {
	if len(h.opts.Sources) > 0 || m == nil {
		return h.opts.Sources
	}
	return m.positions.Sources()
}
