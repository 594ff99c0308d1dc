package engine

import "github.com/tailrace/tailrace/record"

// frontier is how far the views are complete, by source: the least of the
// topologies that go on.
func (e *Engine) frontier() record.Positions {
	out := record.Positions{}
	for _, r := range e.runs {
		if r.held != nil {
			continue
		}
		for name, at := range r.task.Positions() {
			if p, ok := out[name]; !ok || at < p {
				out[name] = at
			}
		}
	}
	return out
}

// durable is the frontier as of the last commit.
func (e *Engine) durable() record.Positions {
	out := record.Positions{}
	for _, r := range e.runs {
		if r.held != nil {
			continue
		}
		for name, at := range r.committed {
			if p, ok := out[name]; !ok || at < p {
				out[name] = at
			}
		}
	}
	return out
}

// through is what could be acknowledged as of the last commit: the frontier, less the
// events that are still to be taken again.
func (e *Engine) through() record.Positions {
	out := e.durable()
	for _, r := range e.runs {
		lower(out, r.replay)
	}
	lower(out, e.keep)
	return out
}

// lower lowers positions to others, where these are lower.
func lower(positions, to record.Positions) {
	for name, at := range to {
		if p, ok := positions[name]; ok {
			positions[name] = min(p, at)
		}
	}
}

// acknowledge lets each source forget what every topology holds durably and every
// append-only target of what comes from it has taken (invariant D1). It is called by the loop and by the
// workers of targets.
func (e *Engine) acknowledge() {
	e.ackMu.Lock()
	defer e.ackMu.Unlock()
	for _, d := range e.databases {
		if e.withheld[d.name] {
			continue
		}
		at, first := uint64(0), true
		for _, r := range d.runs {
			p := r.done(d.name)
			if p == 0 && (r.held != nil || r.joining) {
				continue // it has no snapshot yet: there is nothing to keep for it
			}
			if first || p < at {
				at, first = p, false
			}
		}
		for _, t := range e.targets {
			if t.appends[d.name] {
				at = min(at, t.deliveredTo(d.name, at))
			}
		}
		if kept, ok := e.keep[d.name]; ok {
			at = min(at, kept)
		}
		if d.session != nil && at > d.acked {
			d.acked = at
			d.session.Ack(at)
		}
	}
}
