package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// joiner brings new topologies up to where the others are while these go on: it reads
// their databases through slots of its own, snapshot and what follows, into their own
// stores, by commits of its own. It trails the shared loop: it takes no transaction that
// the loop has not made durable for the others. So both can meet at a position, J: when
// the joiner has everything up to there, the loop stands still between two transactions,
// the joiner takes the few that are left, and the topologies are the loop's from the
// next one on (admit).
//
// Until J their checkpoints are marked, and a start that finds the mark drops what they
// have written. No reader sees any of it before.
type joiner struct {
	parent *Engine
	// sub runs the topologies until they join. Only the joiner's goroutine uses it.
	sub       *Engine
	runs      []*topologyRun // the parent's
	followers []*follower
	// commitTime is that of the last transaction in a commit.
	commitTime int64
	asks       chan *joinAsk
	// stop ends it, and over is closed when it has ended.
	stop context.CancelFunc
	over chan struct{}
	wake chan struct{} // a batch has come, or the loop has moved

	mu sync.Mutex
	// goals is how far the loop is, without what it has not committed or has found to hold
	// nothing for the others.
	goals record.Positions
}

// follower is a database as a joiner reads it.
type follower struct {
	d    *databaseRun // of sub
	main *databaseRun // the parent's
	req  sources.OpenRequest
	// whole says that nobody else reads the database: its session is the app's own, which
	// the loop takes over, and there is no position of others to meet at.
	whole bool

	in     *sources.Batch // what has been received and not been fed, from at on
	at     int
	begun  bool   // the snapshot is in
	from   uint64 // where it stands
	passed uint64 // every transaction that begins before it has been fed
}

// joinAsk asks the loop to let topologies join, or tells it that they cannot.
type joinAsk struct {
	failed error
	at     chan record.Positions // where the loop stands
	done   chan joinAnswer
}

// joinAnswer has the checkpoints of the topologies, nil if they could not get to where
// the loop stands in time.
type joinAnswer struct {
	checkpoints []task.Checkpoint
	commitTime  int64 // of the last transaction that they hold, in Unix microseconds
	// keep is what the sources that are handed over have to keep for events on the way there.
	keep record.Positions
}

const (
	// joinPause bounds how long the loop stands still for those who join.
	joinPause = 250 * time.Millisecond
	// joinAgain is how long a joiner that was not in time waits before it asks again, so
	// that the loop moves on most of the time.
	joinAgain = time.Second
	// joinMemory is the part of Limits.Memory that joining topologies have beside the
	// others'.
	joinMemory = 4
)

// asking is where a joiner's requests come from; never ready without one.
func (j *joiner) asking() <-chan *joinAsk {
	if j == nil {
		return nil
	}
	return j.asks
}

// follow tells how far the loop is.
func (j *joiner) follow(at record.Positions) {
	if j == nil {
		return
	}
	j.mu.Lock()
	j.goals = at
	j.mu.Unlock()
	signal(j.wake)
}

// goal is up to where a database may be read now.
func (j *joiner) goal(f *follower, at record.Positions) uint64 {
	if at == nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		at = j.goals
	}
	if p, shared := at[f.d.name]; shared {
		return p
	}
	return math.MaxUint64
}

// run brings the topologies up, until they have joined or ctx ends. What is permanent is
// returned and ends the engine; a table that does not fit holds those who join.
func (j *joiner) run(ctx context.Context) error {
	err := j.bringUp(ctx)
	var misfit misfits
	if err != nil && ctx.Err() == nil && (errors.Is(err, sources.ErrSchema) || errors.As(err, &misfit)) {
		ask := &joinAsk{failed: err}
		select {
		case j.asks <- ask:
			err = nil
		case <-ctx.Done():
		}
	}
	j.close(ctx)
	return errors.Join(err, j.sub.env.Close())
}

// open opens all sessions, and then drops what other forms of the topologies have left.
func (j *joiner) open(ctx context.Context) error {
	e := j.parent
	for _, f := range j.followers {
		for _, r := range f.d.runs {
			e.log.Info("a new topology is brought up beside the others", "topology", r.name(), "database", f.d.name)
		}
		session, err := j.openOne(ctx, f)
		if err != nil {
			return err
		}
		j.sub.setSession(f.d, session)
		if err := e.cfg.Dir.BindSystem(f.d.name, session.System()); err != nil {
			return fmt.Errorf("%w: %w", sources.ErrWrongSystem, err)
		}
		if err := j.sub.noteTimeline(f.d, session); err != nil {
			return err
		}
		if err := j.sub.checkRelations(f.d, session); err != nil {
			return err
		}
	}
	for _, r := range j.runs {
		if r.old != nil {
			if err := e.dropOld(r); err != nil {
				return err
			}
		}
	}
	for _, f := range j.followers {
		j.sub.readInto(ctx, f.d, func() { signal(j.wake) })
	}
	return nil
}

func (j *joiner) openOne(ctx context.Context, f *follower) (sources.Session, error) {
	if f.whole {
		if err := j.parent.dropLeft(ctx, f.main, nil); err != nil {
			return nil, err
		}
		return j.parent.openRetry(ctx, f.main, f.req)
	}
	return j.parent.openOwnSlot(ctx, f.main, f.d.runs, f.req)
}

// close ends the sessions that the loop has not taken over, and drops their slots.
func (j *joiner) close(ctx context.Context) {
	for _, f := range j.followers {
		release(f.in)
		if f.d.session == nil {
			continue
		}
		j.sub.closeSession(f.d)
		if !f.whole {
			j.parent.leaveOwnSlot(ctx, f.d, f.d.runs)
		}
	}
}

// work takes the snapshots, follows the loop, and asks to be let in.
func (j *joiner) work(ctx context.Context) error {
	for _, f := range j.followers {
		if err := j.takeSnapshot(ctx, f); err != nil {
			return err
		}
	}
	if err := j.commit(); err != nil {
		return err
	}
	var later <-chan time.Time
	for tries := 0; ; {
		there, err := j.catchUp(nil)
		if err != nil {
			return err
		}
		if there && later == nil {
			if err := j.commit(); err != nil {
				return err
			}
			if joined, err := j.ask(ctx); joined || err != nil {
				return err
			}
			// Not in step with what the server tells each second.
			tries++
			later = time.After(joinAgain + time.Duration(tries%4)*joinAgain/5)
			continue
		}
		select {
		case <-j.wake:
		case <-later:
			later = nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (j *joiner) takeSnapshot(ctx context.Context, f *follower) error {
	for {
		if err := j.feed(f, 0); err != nil || f.begun {
			return err
		}
		select {
		case <-j.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ask asks the loop to stand still, and takes what is left up to there.
func (j *joiner) ask(ctx context.Context) (joined bool, err error) {
	ask := &joinAsk{at: make(chan record.Positions, 1), done: make(chan joinAnswer, 1)}
	var at record.Positions
	select {
	case j.asks <- ask:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	select {
	case at = <-ask.at:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	var answer joinAnswer
	defer func() { ask.done <- answer }()
	enough := time.NewTimer(joinPause)
	defer enough.Stop()
	for {
		there, err := j.catchUp(at)
		if err != nil {
			return false, err
		}
		if there {
			break
		}
		select {
		case <-j.wake:
		case <-enough.C:
			return false, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	if err := j.commit(); err != nil {
		return false, err
	}
	checkpoints, ok := j.checkpoints(at)
	if !ok {
		return false, nil
	}
	answer.checkpoints, answer.commitTime = checkpoints, j.commitTime
	answer.keep = record.Positions{}
	for _, f := range j.followers {
		if !f.whole {
			continue
		}
		if slices.ContainsFunc(j.sub.targets, func(t *targetRun) bool { return t.appends[f.d.name] }) {
			answer.keep[f.d.name] = f.from
		}
		j.handOver(f)
	}
	return true, nil
}

// checkpoints are those of the topologies at the position where they join; ok is false if
// they are ahead of it, since the loop has gone back to its last commit after a failure.
func (j *joiner) checkpoints(at record.Positions) (out []task.Checkpoint, ok bool) {
	for _, r := range j.sub.runs {
		c := r.task.Checkpoint()
		for name, p := range c.Positions {
			to, shared := at[name]
			if shared && p > to {
				return nil, false
			}
			c.Positions[name] = max(p, to)
		}
		out = append(out, c)
	}
	return out, true
}

// handOver gives the loop the session of a database that it does not read yet.
func (j *joiner) handOver(f *follower) {
	d := f.main
	d.batches, d.stop, d.done = f.d.batches, f.d.stop, f.d.done
	d.fed = f.d.fed // What it has fed is shown with the loop's next commit.
	j.parent.setSession(d, f.d.session)
	f.d.session = nil
}
