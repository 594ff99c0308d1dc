package engine

import (
	"fmt"
	"math"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
)

// catchUp feeds what has arrived, up to positions or, without any, to where the loop is;
// there says that everything up to that has been fed.
func (j *joiner) catchUp(at record.Positions) (there bool, err error) {
	there = true
	for _, f := range j.followers {
		goal := j.goal(f, at)
		if err := j.feed(f, goal); err != nil {
			return false, err
		}
		there = there && f.d.open == nil && (f.passed >= goal || goal == math.MaxUint64)
	}
	return there, nil
}

// feed feeds what has arrived of a database without waiting, up to the first transaction
// that begins at or behind the goal.
func (j *joiner) feed(f *follower, goal uint64) error {
	for {
		if f.in == nil {
			select {
			case next := <-f.d.batches:
				if next.err != nil {
					return &lostSession{f.d.name, next.err}
				}
				f.in, f.at = next.batch, 0
				f.d.lag.taken()
			default:
				return nil
			}
		}
		for f.at < len(f.in.Txs) {
			p := &f.in.Txs[f.at]
			if f.begun && f.d.open == nil && p.Tx.CommitStart >= goal {
				f.passed = max(f.passed, p.Tx.CommitStart)
				return nil
			}
			if !f.begun && !p.Tx.Snapshot {
				return fmt.Errorf("engine: database %q: a newcomer's snapshot did not come first", f.d.name)
			}
			if err := j.sub.feedPiece(f.d, p); err != nil {
				return err
			}
			f.at++
			if p.Last {
				f.passed = max(f.passed, p.Tx.Position)
				if !f.begun {
					f.begun, f.from = true, p.Tx.Position
					return nil
				}
			}
			if err := j.commitFull(); err != nil {
				return err
			}
		}
		f.passed = max(f.passed, f.in.Idle)
		release(f.in)
		f.in = nil
	}
}

func (j *joiner) commitFull() error {
	if !j.sub.full() || !j.sub.closed() {
		return nil
	}
	return j.commit()
}

// commit makes what has been fed durable, marked as that of topologies that have not
// joined (invariants S2, S3). Nobody reads it before they have.
func (j *joiner) commit() error {
	s := j.sub
	if len(s.epoch.txs) == 0 || s.snapshotPending() {
		return nil
	}
	sealed := make([]*task.Ready, len(s.runs))
	for i, r := range s.runs {
		var err error
		if sealed[i], err = r.task.Seal(); err != nil {
			return err
		}
	}
	batch := s.cfg.Dir.DB.NewBatch()
	defer batch.Close()
	if _, err := s.fill(batch, sealed); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.JoinerSync); err != nil {
		return err
	}
	if err := s.cfg.Dir.DB.Commit(batch, true); err != nil {
		return fmt.Errorf("engine: commit: %w", err)
	}
	for i, r := range s.runs {
		r.task.Committed(sealed[i].Checkpoint)
	}
	j.commitTime = s.epoch.txs[len(s.epoch.txs)-1].CommitTime
	s.epoch = epoch{}
	s.seq++
	for _, f := range j.followers {
		f.acknowledge()
		f.main.snapshot.complete()
	}
	return nil
}

// acknowledge lets the source forget what has been made durable, where the slot is the
// newcomers' own. The app's own has to keep everything from the snapshot on until they have
// joined: their events are staged only, and a start that finds that the app has acknowledged
// something, and no state, takes its state for lost.
func (f *follower) acknowledge() {
	if f.whole {
		return
	}
	at := uint64(math.MaxUint64)
	for _, r := range f.d.runs {
		at = min(at, r.task.Positions()[f.d.name])
	}
	f.d.session.Ack(at)
}
