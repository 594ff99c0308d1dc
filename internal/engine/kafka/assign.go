package kafka

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/tailrace/tailrace/internal/kafka"
)

// order is the order that tasks are worked through in.
func (e *Engine) order() []taskID {
	ids := make([]taskID, 0, len(e.tasks))
	for id := range e.tasks {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b taskID) int {
		return cmp.Or(cmp.Compare(a.sub, b.sub), cmp.Compare(a.partition, b.partition))
	})
	return ids
}

// assign makes the tasks those that this member owns all inputs of, restores their state
// and lets their inputs flow. No transaction is open here.
func (e *Engine) assign(ctx context.Context) error {
	e.session.Prune()
	owned, rounds := e.session.Owned()
	if rounds == e.rounds {
		return nil
	}
	if err := e.dropRevoked(); err != nil {
		return err
	}
	e.rounds = rounds
	e.restartBeats()
	for i, sub := range e.subs {
		for p := range sub.tasks() {
			id := taskID{i, p}
			if e.tasks[id] != nil || !ownsAll(sub, p, owned) {
				continue
			}
			r, err := e.newTask(id, owned)
			if err != nil {
				return err
			}
			e.tasks[id] = r
		}
	}
	for _, id := range e.order() {
		r := e.tasks[id]
		if r.ready {
			continue
		}
		if err := e.restore(ctx, r); err != nil {
			return sessionError(err)
		}
		if err := e.open(r); err != nil {
			return err
		}
		e.log.Info("a task begins", "task", r.owner())
		e.session.Resume(r.partitions())
	}
	e.closeHandovers()
	if err := errors.Join(e.follow(ctx), e.noteTasks()); err != nil {
		return err
	}
	return e.publish(nil)
}

func ownsAll(sub *subTopology, task int32, owned map[kafka.Partition]kafka.Owned) bool {
	all := true
	sub.reads(task, func(_ *input, p kafka.Partition) {
		_, ok := owned[p]
		all = all && ok
	})
	return all
}

// dropRevoked ends the tasks of which an input was taken away. Their state stays: it is
// what the changelogs hold, and saves restoring if they come back.
func (e *Engine) dropRevoked() error {
	owned, rounds := e.session.Owned()
	if rounds == e.rounds {
		return nil
	}
	var errs []error
	for _, id := range e.order() {
		r := e.tasks[id]
		if ownsAll(r.sub, id.partition, owned) && !r.restarted(owned) {
			continue
		}
		e.log.Info("a task ends", "task", r.owner())
		errs = append(errs, r.close())
		delete(e.tasks, id)
	}
	return errors.Join(errs...)
}

// restarted reports whether an input was taken away and given back: others may have gone
// on with it meanwhile, and it is delivered anew from the committed offset once it is resumed.
func (r *taskRun) restarted(owned map[kafka.Partition]kafka.Owned) bool {
	for i, b := range r.inputs {
		if owned[b.partition].Lease != r.leases[i] {
			return true
		}
	}
	return false
}

func (e *Engine) closeTasks() error {
	var errs []error
	for id, r := range e.tasks {
		errs = append(errs, r.close())
		delete(e.tasks, id)
	}
	return errors.Join(errs...)
}

func (r *taskRun) owner() string { return r.sub.owner(r.id.partition) }

func (r *taskRun) partitions() []kafka.Partition {
	out := make([]kafka.Partition, 0, len(r.inputs))
	for _, b := range r.inputs {
		out = append(out, b.partition)
	}
	return out
}
