package engine

import (
	"context"
	"errors"
	"time"

	"github.com/tailrace/tailrace/sources"
)

// lostSession is the error of a session that has ended before its topologies have joined.
type lostSession struct {
	database string
	cause    error
}

func (l *lostSession) Error() string {
	return "engine: database \"" + l.database + "\": " + l.cause.Error()
}

// Unwrap returns what the session ended with.
func (l *lostSession) Unwrap() error { return l.cause }

// again reports whether another session may get further. A gap is no more than the end of
// what this one could read, since nobody has seen anything of it.
func (l *lostSession) again() bool {
	return errors.Is(l.cause, sources.ErrDataGap) || !permanent(l.cause)
}

// bringUp does it again from the beginning where a session is lost for good, as one is by
// the loss of the connection that its snapshot hangs on: what has been written is of no
// use without the log that follows the snapshot. The others go on meanwhile.
func (j *joiner) bringUp(ctx context.Context) error {
	for pause := time.Duration(0); ; {
		err := j.open(ctx)
		if err == nil {
			err = j.work(ctx)
		}
		var lost *lostSession
		if ctx.Err() != nil || !errors.As(err, &lost) || !lost.again() {
			return err
		}
		e := j.parent
		pause = min(max(2*pause, 100*time.Millisecond), e.limits.Retry)
		e.log.Warn("new topologies lost their source on their way and begin anew; the others go on",
			"database", lost.database, "error", lost.cause, "retry_in", pause)
		e.status.sourceError(lost.database, lost.cause)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		if err := j.reset(); err != nil {
			return err
		}
	}
}

// reset drops all that the joiner has received and written. The checkpoint goes before the
// state does, so that a crash in between leaves topologies that start anew.
func (j *joiner) reset() error {
	e, s := j.parent, j.sub
	for _, f := range j.followers {
		release(f.in)
		f.in, f.begun, f.passed = nil, false, 0
		s.closeSession(f.d)
	}
	if err := s.env.Close(); err != nil {
		return err
	}
	for _, r := range j.runs {
		if err := e.dropCheckpoint(r.name()); err != nil {
			return err
		}
		// Their ids stay: views are bound to them.
		if err := e.cfg.Dir.ClearStores(r.name()); err != nil {
			return err
		}
	}
	for _, t := range s.targets {
		if err := e.dropStaged(t.queue); err != nil {
			return err
		}
	}
	s.epoch = epoch{}
	return j.makeTasks()
}
