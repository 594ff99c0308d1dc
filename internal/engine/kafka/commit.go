package kafka

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/state"
)

// sealed is a task with something to commit.
type sealed struct {
	run   *taskRun
	ready []*task.Ready // by run.parts
	// metadata goes beside the offsets.
	metadata string
}

// commit ends the cycle with a transaction. Whatever its outcome other than a sure
// commit, nothing of what was computed survives (invariants K3, K4, K7).
func (e *Engine) commit(ctx context.Context) error {
	work, err := e.seal()
	if err != nil {
		return e.giveUp(ctx, err)
	}
	offsets := map[kafka.Partition]kafka.Offset{}
	for _, s := range work {
		if err := e.produce(s); err != nil {
			return e.giveUp(ctx, err)
		}
		if err := e.hit(failpoint.KafkaProducing); err != nil {
			return err
		}
		for _, b := range s.run.inputs {
			o := b.next
			o.Metadata = s.metadata
			if o.Next >= 0 {
				offsets[b.partition] = o
			}
		}
	}
	if err := e.hit(failpoint.KafkaProduced); err != nil {
		return err
	}
	end, cancel := e.ending(ctx)
	defer cancel()
	e.begun = false
	committed, err := e.session.Commit(end, offsets)
	if err != nil || !committed {
		return e.abandon(ctx, err)
	}
	if err := e.hit(failpoint.KafkaCommitted); err != nil {
		return err
	}
	if err := e.apply(work, offsets); err != nil {
		return err
	}
	for _, r := range e.tasks {
		for _, b := range r.inputs {
			b.handedOver()
		}
	}
	e.status.committed()
	e.purge(time.Now())
	if err := e.hit(failpoint.KafkaApplied); err != nil {
		return err
	}
	return e.publish(work)
}

// begin begins the cycle's transaction, before the first record that goes into it.
func (e *Engine) begin() error {
	if e.begun {
		return nil
	}
	e.begun = true
	return sessionError(e.session.Begin())
}

// ending bounds the end of a transaction, also one that begins while the app stops: after
// its timeout the cluster has given it up, and only a new session goes on.
func (e *Engine) ending(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), e.limits.TransactionTimeout)
}

// giveUp ends the transaction without a commit for an error of ours, which stops.
func (e *Engine) giveUp(ctx context.Context, cause error) error {
	if !e.begun {
		return cause
	}
	end, cancel := e.ending(ctx)
	defer cancel()
	e.begun = false
	if err := e.session.Abort(end); err != nil {
		e.log.Warn("a transaction was not given up; the broker does so when its time is over", "error", err)
	}
	return cause
}

func (e *Engine) seal() ([]*sealed, error) {
	var work []*sealed
	for _, id := range e.order() {
		r := e.tasks[id]
		if !r.ready {
			continue
		}
		// Tasks come before those that they feed, and may have fed them only as they were sealed.
		if err := e.drain(r); err != nil {
			return nil, err
		}
		if !r.moved() {
			continue
		}
		s := &sealed{run: r}
		times := map[string]map[string]int64{}
		for _, p := range r.parts {
			ready, err := p.task.Seal()
			if err != nil {
				return nil, err
			}
			p.out.flush()
			s.ready = append(s.ready, ready)
			if len(ready.Checkpoint.StreamTimes) > 0 {
				times[p.share.name()] = ready.Checkpoint.StreamTimes
			}
		}
		var err error
		if s.metadata, err = r.metadata(times); err != nil {
			return nil, err
		}
		work = append(work, s)
	}
	return work, nil
}

// moved reports whether any input has been processed since the last commit.
func (r *taskRun) moved() bool {
	return slices.ContainsFunc(r.all, func(b *buffer) bool {
		return b.next.Next != b.committed.Next || b.handover.taken > 0
	})
}

// produce writes a task's changelogs and outputs.
func (e *Engine) produce(s *sealed) error {
	for _, ready := range s.ready {
		err := ready.Changelog(func(store string, key, value []byte) error {
			st := s.run.stores[store]
			if st == nil {
				return nil // not a store of a node: nothing that outlives the task
			}
			st.last = &kgo.Record{
				Topic: st.topic, Partition: s.run.id.partition, Key: bytes.Clone(key), Value: bytes.Clone(value),
			}
			e.session.Produce(st.last)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return e.produceOutputs(s)
}

// apply brings what has committed to the disk: the state of each task with the offsets of
// its changelogs, in one batch (invariants K1, K2). It need not be synced: what a crash
// takes is in the changelogs.
func (e *Engine) apply(work []*sealed, offsets map[kafka.Partition]kafka.Offset) error {
	batch := e.cfg.Dir.DB.NewBatch()
	defer batch.Close()
	slices.SortFunc(work, func(a, b *sealed) int { return cmp.Compare(a.run.owner(), b.run.owner()) })
	var stores []state.Store
	for _, s := range work {
		if err := e.noteCheckpoint(batch, s.run); err != nil {
			return err
		}
		for _, ready := range s.ready {
			stores = append(stores, ready.Stores...)
		}
	}
	slices.SortFunc(stores, func(a, b state.Store) int { return cmp.Compare(a.ID(), b.ID()) })
	for _, st := range stores {
		if err := st.Flush(batch); err != nil {
			return err
		}
	}
	if err := e.collect(work); err != nil {
		return err
	}
	if err := e.cfg.Dir.DB.Commit(batch, false); err != nil {
		return err
	}
	for _, s := range work {
		for i, p := range s.run.parts {
			p.task.Committed(s.ready[i].Checkpoint)
			p.origins = p.origins[:0]
		}
		for _, b := range s.run.inputs {
			if o, ok := offsets[b.partition]; ok {
				b.committed = o
			}
		}
		for _, b := range s.run.beats {
			b.committed = b.next
		}
		s.run.fed = 0
		e.countAside(s.run)
	}
	return nil
}
