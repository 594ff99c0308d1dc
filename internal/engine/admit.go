package engine

import (
	"context"
	"fmt"
	"maps"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/record"
)

// admit lets topologies join that have asked to, between two transactions. The loop
// stands still meanwhile, for joinPause at most and mostly for much less.
func (e *Engine) admit(ctx context.Context) error {
	if e.asked == nil {
		select {
		case e.asked = <-e.joiner.asking():
		default:
		}
	}
	if e.asked == nil || !e.closed() || e.snapshotPending() {
		return nil
	}
	ask := e.asked
	e.asked = nil
	// What is shown from here on is what is durable.
	if err := e.settle(); err != nil {
		return err
	}
	if ask.failed != nil {
		return e.holdJoining(ask.failed)
	}
	ask.at <- e.frontier()
	var answer joinAnswer
	select {
	case answer = <-ask.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if answer.checkpoints == nil {
		return nil
	}
	return e.join(ctx, answer)
}

// join makes topologies the loop's own. What they hold is shown from the commit on that
// this makes, whose checkpoints carry no mark.
func (e *Engine) join(ctx context.Context, answer joinAnswer) error {
	j := e.joiner
	e.joiner = nil
	e.keepToo(answer.keep)
	e.withholdNew()
	for i, r := range j.runs {
		c := answer.checkpoints[i]
		made, err := e.newTask(r, e.env, c)
		if err != nil {
			return err
		}
		e.ackMu.Lock()
		r.task, r.fresh, r.noted, r.joining = made, true, false, false
		r.committed = c.Positions.Clone() // is what it is read from
		r.shapes = j.sub.runs[i].shapes
		e.ackMu.Unlock()
		e.log.Info("the topology has joined the others", "topology", r.name(), "position", c.Positions.String())
	}
	for _, d := range e.databases {
		if d.session != nil || d.joiningOnly() {
			continue
		}
		if err := e.openSession(ctx, d); err != nil {
			return err
		}
	}
	for _, d := range e.databases {
		if err := e.notePublished(d, d.session); err != nil {
			return err
		}
	}
	for _, t := range e.targets {
		t.staged, t.joined, t.joinedAt = 0, t.staged, answer.commitTime
	}
	if err := failpoint.Hit(failpoint.Joining); err != nil {
		return err
	}
	if err := e.writeCommit(ctx); err != nil {
		return err
	}
	if err := e.settle(); err != nil {
		return err
	}
	e.noneJoining()
	// From here on it is what is queued that is kept for.
	e.ackMu.Lock()
	e.keep, e.withheld = nil, nil
	e.ackMu.Unlock()
	e.acknowledge()
	return e.reopenOlder(ctx, j.runs)
}

// keepToo adds to what the sources have to keep for events of those who join.
func (e *Engine) keepToo(more record.Positions) {
	e.ackMu.Lock()
	defer e.ackMu.Unlock()
	if e.keep == nil {
		e.keep = record.Positions{}
	}
	maps.Copy(e.keep, more)
}

// withholdNew has nothing acknowledged of databases that only those who join read, until
// that is durable: a start that finds something acknowledged, and no state, takes the state
// for lost (invariant D1).
func (e *Engine) withholdNew() {
	e.ackMu.Lock()
	defer e.ackMu.Unlock()
	e.withheld = map[string]bool{}
	for _, d := range e.databases {
		e.withheld[d.name] = d.joiningOnly()
	}
}

// reopenOlder opens the sessions again if one was opened before a table became what those
// who have just joined hold: it would leave out the rows of another table, or refuse rows
// of another shape, until it had a look at the catalog itself.
func (e *Engine) reopenOlder(ctx context.Context, joined []*topologyRun) error {
	for _, d := range e.databases {
		for _, r := range joined {
			if d.session == nil || r.held != nil || !r.reads(d.name) {
				continue
			}
			was, err := shapesOf(d, r, d.session.Relations())
			if err == nil {
				err = became(was, r.shapes[d.name])
			}
			if err != nil {
				return e.reopen(ctx, fmt.Errorf("a session is older than what topology %q has read: %w", r.name(), err))
			}
		}
	}
	return nil
}

// holdJoining holds the topologies that cannot join, since a table does not fit. Readers see
// no difference: nothing of these was ever shown.
func (e *Engine) holdJoining(cause error) error {
	j := e.joiner
	e.joiner = nil
	for _, r := range j.runs {
		e.leaveJoining(r)
		if err := e.hold(r, cause); err != nil {
			return err
		}
	}
	e.noneJoining()
	e.ackMu.Lock()
	e.keep = nil
	e.ackMu.Unlock()
	return nil
}

func (e *Engine) leaveJoining(r *topologyRun) {
	e.ackMu.Lock()
	defer e.ackMu.Unlock()
	r.joining = false
}

// noneJoining lets those know who wait until all topologies can be read.
func (e *Engine) noneJoining() {
	e.status.joining(nil)
	if !e.joinedAll {
		e.joinedAll = true
		close(e.joined)
	}
}

// Joined is closed when no topology is on its way to where the others are.
func (e *Engine) Joined() <-chan struct{} { return e.joined }
