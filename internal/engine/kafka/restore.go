package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/state"
)

// checkpointKey is where a task's checkpoint lies: in the engine's own space, before all
// stores.
func checkpointKey(owner string) []byte { return append([]byte("\x00\x00\x00\x00kafka/"), owner...) }

// taskOf describes a task to those who restore, follow or verify it.
func (e *Engine) taskOf(sub *subTopology, partition int32) (changelog.Task, error) {
	owner := sub.owner(partition)
	t := changelog.Task{
		Name: owner, Key: checkpointKey(owner),
		Identity: changelog.Identity{Cluster: e.cluster, App: e.cfg.App, Topology: sub.hash},
	}
	for _, s := range sub.parts {
		for _, name := range s.stores() {
			id, err := e.cfg.Dir.StoreID(owner, name)
			if err != nil {
				return t, err
			}
			t.Stores = append(t.Stores, changelog.Store{
				Partition: changelog.Partition{Topic: e.changelogTopic(name), Number: partition}, ID: id,
			})
		}
	}
	return t, nil
}

// restore brings a task's state up to its changelogs. The offsets of its inputs have been
// fetched stable before (invariant K5).
func (e *Engine) restore(ctx context.Context, r *taskRun) error {
	if err := e.hit(failpoint.KafkaAssigned); err != nil {
		return err
	}
	if len(r.stores) == 0 {
		return nil
	}
	e.unfollow(kafka.Task{SubTopology: r.sub.name, Partition: r.id.partition})
	task, err := e.taskOf(r.sub, r.id.partition)
	if err != nil {
		return err
	}
	ckpt, err := e.restorer.Restore(ctx, task)
	if err != nil {
		return fmt.Errorf("kafka: restore task %s: %w", r.owner(), err)
	}
	r.ckpt = ckpt
	return nil
}

// newRestorer makes what restores or follows, telling progress.
func (e *Engine) newRestorer(progress func(changelog.Progress)) (*changelog.Restorer, error) {
	return changelog.NewRestorer(changelog.RestoreConfig{
		DB: e.cfg.Dir.DB, Log: kafka.NewLog(e.admin), Logger: e.log, Now: time.Now, Progress: progress,
		Wiped: e.cfg.Wiped,
	})
}

// restoring tells how far a task has come.
func (e *Engine) restoring(p changelog.Progress) {
	if p.Records > 0 {
		e.log.Info("restoring", "task", p.Task, "records", p.Records, "left", p.Left,
			"rate", int(p.Rate), "eta", p.ETA.Round(time.Second))
	}
	if p.Done && e.cfg.Restored != nil {
		e.cfg.Restored(p.Task, p.Records)
	}
}

// keepCheckpoints writes the checkpoints of idle tasks anew from time to time, so that
// idleness does not look like age; see changelog.Checkpoint.Due.
func (e *Engine) keepCheckpoints() error {
	now := time.Now()
	for _, id := range e.order() {
		r := e.tasks[id]
		if !r.ready || len(r.stores) == 0 || !r.ckpt.Due(now, changelog.DefaultDeleteRetention) {
			continue
		}
		b := e.cfg.Dir.DB.NewBatch()
		err := e.noteCheckpoint(b, r)
		if err == nil {
			err = e.cfg.Dir.DB.Commit(b, false)
		}
		if err = errors.Join(err, b.Close()); err != nil {
			return err
		}
	}
	return nil
}

// noteCheckpoint writes a task's checkpoint beside its state: changelogs up to the
// transaction that has just committed (invariant K2).
func (e *Engine) noteCheckpoint(b state.Batch, r *taskRun) error {
	if len(r.stores) == 0 {
		return nil
	}
	wrote := map[string]*storeRun{}
	for _, s := range r.stores {
		wrote[s.topic] = s
	}
	for i := range r.ckpt.Positions {
		at := &r.ckpt.Positions[i]
		if s := wrote[at.Topic]; s.last != nil {
			at.Next, at.Epoch, s.last = s.last.Offset+1, s.last.LeaderEpoch, nil
		}
	}
	r.ckpt.Time = time.Now()
	return b.Set(checkpointKey(r.owner()), r.ckpt.Append(nil))
}
