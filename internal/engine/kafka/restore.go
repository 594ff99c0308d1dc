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

// changelogTask describes a task to those who restore it.
func (e *Engine) changelogTask(r *taskRun) changelog.Task {
	t := changelog.Task{
		Name: r.owner(), Key: checkpointKey(r.owner()),
		Identity: changelog.Identity{Cluster: e.cluster, App: e.cfg.App, Topology: r.sub.hash},
	}
	for _, s := range r.stores {
		t.Stores = append(t.Stores, changelog.Store{
			Partition: changelog.Partition{Topic: s.topic, Number: r.id.partition}, ID: s.id,
		})
	}
	return t
}

// restore brings a task's state up to its changelogs. The offsets of its inputs have been
// fetched stable before (invariant K5).
func (e *Engine) restore(ctx context.Context, r *taskRun) error {
	if err := failpoint.Hit(failpoint.KafkaAssigned); err != nil {
		return err
	}
	if len(r.stores) == 0 {
		return nil
	}
	ckpt, err := e.restorer.Restore(ctx, e.changelogTask(r))
	if err != nil {
		return fmt.Errorf("kafka: restore task %s: %w", r.owner(), err)
	}
	r.ckpt = ckpt
	return nil
}

func (e *Engine) newRestorer() (*changelog.Restorer, error) {
	return changelog.NewRestorer(changelog.RestoreConfig{
		DB: e.cfg.Dir.DB, Log: kafka.NewLog(e.admin), Logger: e.log, Now: time.Now,
		Progress: func(p changelog.Progress) {
			if p.Records > 0 {
				e.log.Info("restoring", "task", p.Task, "records", p.Records, "left", p.Left,
					"rate", int(p.Rate), "eta", p.ETA.Round(time.Second))
			}
		},
		Wiped: e.cfg.Wiped,
	})
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
