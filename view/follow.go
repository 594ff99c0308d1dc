package view

import (
	"context"
	"maps"
	"time"

	"github.com/tailrace/tailrace/record"
)

// rawEvent is an event of a watch as stored. Its slices are valid during the call.
type rawEvent struct {
	kind   EventKind // 0: nothing happened for a tick
	change rawChange
	at     Position
}

// follow says how to follow a view.
type follow struct {
	// rows asks for the rows at the start and after each reset.
	rows bool
	// after is the mark that the watcher knows already; a start elsewhere is a
	// reset. Empty: none.
	after string
	// tick, where it is not nil, wakes fn with an event of kind 0.
	tick <-chan time.Time
}

// follow calls fn with the events of a watch until it says to stop, fails or ctx
// ends.
func (c *core) follow(ctx context.Context, f follow, fn func(rawEvent) (bool, error)) error {
	b, err := c.bound()
	if err != nil {
		return err
	}
	if err := b.host.waitFor(ctx, c.topology, nil); err != nil {
		return err
	}
	w, m, err := b.host.watch(ctx, c)
	if err != nil {
		return err
	}
	defer b.host.unwatch(w)
	fn = marksOnce(fn)
	at := m.position(c.topology)
	known := f.after != "" && f.after == at.mark()
	reset := (f.rows || f.after != "") && !known
	more, err := c.begin(ctx, f, b, m, reset, fn)
	for more && err == nil {
		e, outrun, nerr := w.next(ctx, f.tick)
		switch {
		case nerr != nil:
			return nerr
		case outrun:
			if m, err = w.restart(); err == nil {
				more, err = c.begin(ctx, f, b, m, true, fn)
			}
		case e == nil:
			more, err = fn(rawEvent{})
		default:
			more, err = deliver(e, fn)
		}
	}
	return err
}

// begin starts or restarts a watch at m, which it releases.
func (c *core) begin(ctx context.Context, f follow, b *binding, m *moment, reset bool,
	fn func(rawEvent) (bool, error)) (more bool, err error) {
	at := m.position(c.topology)
	defer m.snap.release()
	if !reset {
		return fn(rawEvent{kind: EventEpoch, at: at})
	}
	more, err = fn(rawEvent{kind: EventReset, at: at})
	if !more || err != nil || !f.rows {
		return more, err
	}
	n := 0
	err = scan(m.snap, b.rows, nil, nil, false, func(key, value []byte) (bool, error) {
		if n++; n%ctxEvery == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		more, err = fn(rawEvent{kind: EventChange, change: rawChange{key: key, new: notNil(value)}, at: at})
		return more, err
	})
	if !more || err != nil {
		return false, err
	}
	return fn(rawEvent{kind: EventEpoch, at: at})
}

// marksOnce leaves out marks that say nothing new: of the position that the last mark
// was of, without a change between. The frontier of an idle database, say, is shown
// at once, and shown again when it has become durable.
func marksOnce(fn func(rawEvent) (bool, error)) func(rawEvent) (bool, error) {
	var last record.Positions // nil where the next mark has something to say
	return func(e rawEvent) (bool, error) {
		switch e.kind {
		case EventChange, EventReset:
			last = nil
		case EventEpoch:
			if last != nil && maps.Equal(last, e.at.Sources) {
				return true, nil
			}
			last = e.at.Sources
		}
		return fn(e)
	}
}

// notNil keeps an empty value apart from an absent one.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// deliver hands over one epoch and its mark.
func deliver(e *epoch, fn func(rawEvent) (bool, error)) (bool, error) {
	for _, ch := range e.changes {
		if more, err := fn(rawEvent{kind: EventChange, change: ch, at: e.at}); !more || err != nil {
			return false, err
		}
	}
	return fn(rawEvent{kind: EventEpoch, at: e.at})
}
