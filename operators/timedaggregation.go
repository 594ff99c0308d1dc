package operators

import (
	"math"

	"github.com/tailrace/tailrace/topology"
)

// timedAggregation is an aggregation for which it matters that stream time passes:
// windows that close, rows of windows that are deleted long after, records that are no
// longer needed.
type timedAggregation[G comparable, V, R any] struct {
	*aggregation[G, V, R]
	id        int
	closes    func(G) int64
	retention int64 // after a window has closed; negative: for good
	timers    *timers
	merging   mergingInput[G] // nil: groups do not become one
	forgets   expiringInput   // nil: nothing is kept besides the groups
	key       []byte
}

func newTimedAggregation[G comparable, V, R any](
	rt *topology.Runtime, a *aggregation[G, V, R], closes func(G) int64, o aggregateOptions,
	timed bool, forgets expiringInput,
) *timedAggregation[G, V, R] {
	t := &timedAggregation[G, V, R]{
		aggregation: a, id: rt.Node().ID, closes: closes, retention: -1, forgets: forgets,
	}
	if o.retention != nil {
		t.retention = o.retention.Microseconds()
	}
	t.merging, _ = a.in.(mergingInput[G])
	if timed {
		t.timers = newTimers(rt, "timers", byKey[G](0))
		a.opened, a.left = t.wait, t.unwait
	}
	return t
}

// wait waits for a window to close.
func (t *timedAggregation[G, V, R]) wait(key G) error {
	at := t.closes(key)
	if at == math.MaxInt64 {
		return nil
	}
	t.key = t.keyCodec.Append(t.key[:0], key)
	return t.timers.set(at, t.key)
}

func (t *timedAggregation[G, V, R]) unwait(key G) error {
	t.key = t.keyCodec.Append(t.key[:0], key)
	return t.timers.unset(t.closes(key), t.key)
}

// Step takes the step's contributions into the windows that were open before it. Then
// time passes, and what falls due happens.
func (t *timedAggregation[G, V, R]) Step(s *topology.Step) error {
	if err := t.gather(s); err != nil {
		return err
	}
	now := s.After[t.id]
	if t.timers != nil {
		err := t.timers.fire(now, func(at int64, key []byte) error { return t.fall(at, now, key) })
		if err != nil {
			return err
		}
	}
	if t.forgets != nil {
		if err := t.forgets.expire(now); err != nil {
			return err
		}
	}
	return t.conclude()
}

// fall closes a window, or deletes it if it had closed before.
func (t *timedAggregation[G, V, R]) fall(at, now int64, key []byte) error {
	k, _, err := t.keyCodec.Decode(key)
	if err != nil {
		return err
	}
	g, err := t.table.Get(k)
	if err != nil || g == nil {
		return err // it has lost its last row
	}
	if at != t.closes(k) {
		return t.end(k, at)
	}
	if t.onClose {
		v, err := t.table.At(k)
		if err != nil {
			return err
		}
		g, _, err := t.table.Edit(k, v.Time)
		if err != nil {
			return err
		}
		g.shown = true
	}
	if t.merging != nil {
		if err := t.merging.closed(k); err != nil {
			return err
		}
	}
	if t.retention < 0 {
		return nil
	}
	// A window that closes is to be seen for one step at least, however far time jumps.
	t.key = append(t.key[:0], key...)
	return t.timers.set(max(addSpan(at, t.retention), addSpan(now, 1)), t.key)
}

// end deletes a window that has closed.
func (t *timedAggregation[G, V, R]) end(key G, time int64) error {
	g, err := t.edit(key, time)
	if err != nil {
		return err
	}
	if err := g.acc.Clear(t.entries); err != nil {
		return err
	}
	t.parts.end(g)
	return t.table.Delete(key, time)
}

// NextTimer is when the next thing falls due.
func (t *timedAggregation[G, V, R]) NextTimer() (at int64, ok bool) {
	if t.timers != nil {
		at, ok = t.timers.NextTimer()
	}
	if t.forgets != nil {
		if first, waits := t.forgets.NextTimer(); waits && (!ok || first < at) {
			return first, true
		}
	}
	return at, ok
}
