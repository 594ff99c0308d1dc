package view

import (
	"context"
	"fmt"
	"iter"

	"github.com/tailrace/tailrace/record"
)

// EventKind says what an event of a watch is.
type EventKind uint8

// The kinds of events.
const (
	// EventChange is a change of one row.
	EventChange EventKind = iota + 1
	// EventEpoch ends an epoch: all changes up to its position have been delivered,
	// and the view as of it is what they add up to.
	EventEpoch
	// EventReset says that changes may have been left out, because the watcher was
	// outrun: what it knew is void, and the following changes count from the event's
	// position. With WithRows the rows of the view at that position follow as
	// changes, ended by an epoch mark.
	EventReset
)

// String returns the name that server-sent events use.
func (k EventKind) String() string {
	switch k {
	case EventChange:
		return "change"
	case EventEpoch:
		return "epoch"
	case EventReset:
		return "reset"
	}
	return "unknown"
}

// Event is one event of a watch.
type Event[K comparable, V any] struct {
	Kind EventKind
	// Change is set on a change. Its Time is 0.
	Change record.Change[K, V]
	// Position is that of the epoch that the event belongs to.
	Position Position
}

// WatchOption changes what Watch delivers.
type WatchOption interface{ watchOption(*watchOptions) }

type watchOptions struct{ rows bool }

type withRows struct{}

func (withRows) watchOption(o *watchOptions) { o.rows = true }

// WithRows starts the watch with a reset and all rows of the view, and repeats
// them after each reset: applying the changes to an empty map, emptied at each
// reset, gives the view at each epoch mark.
func WithRows() WatchOption { return withRows{} }

// Watch follows the view epoch by epoch: the changes, at most one a row, then an
// epoch mark. It begins with an epoch mark for the moment it starts at (with
// WithRows, with a reset and the rows). Epochs that change nothing in this view
// come as marks, of which several may be merged. The engine never waits for a
// watcher: one that is outrun gets a reset (see HostOptions). The loop ends with
// the context's error, ErrClosed or an error of reading the state.
func (v *View[K, V]) Watch(ctx context.Context, opts ...WatchOption) iter.Seq2[Event[K, V], error] {
	var o watchOptions
	for _, opt := range opts {
		opt.watchOption(&o)
	}
	return func(yield func(Event[K, V], error) bool) {
		err := v.core.follow(ctx, follow{rows: o.rows}, func(e rawEvent) (bool, error) {
			out, err := v.event(e)
			return err == nil && yield(out, nil), err
		})
		if err != nil {
			yield(Event[K, V]{}, err)
		}
	}
}

// event decodes an event.
func (v *View[K, V]) event(e rawEvent) (out Event[K, V], err error) {
	out.Kind, out.Position = e.kind, e.at
	if e.kind != EventChange {
		return out, nil
	}
	c := &out.Change
	if c.Key, _, err = v.keys.Decode(e.change.key); err != nil {
		return out, fmt.Errorf("view: %q: stored key: %w", v.core.name, err)
	}
	if e.change.old != nil {
		c.Sides |= record.HasOld
		err = v.values.Decode(e.change.old, &c.Old)
	}
	if e.change.new != nil && err == nil {
		c.Sides |= record.HasNew
		err = v.values.Decode(e.change.new, &c.New)
	}
	if err != nil {
		return out, fmt.Errorf("view: %q: stored value: %w", v.core.name, err)
	}
	return out, nil
}
