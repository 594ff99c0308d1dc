package kafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/state"
)

// ErrNoTasks says that there is nothing to verify: this member has no tasks at the moment.
var ErrNoTasks = errors.New("kafka: this member has no tasks at the moment")

// Verification is what was compared of one task.
type Verification struct {
	Task string
	changelog.Verification
}

// noteTasks tells other goroutines which tasks with state run here.
func (e *Engine) noteTasks() error {
	var tasks []changelog.Task
	for _, id := range e.order() {
		r := e.tasks[id]
		if !r.ready || len(r.stores) == 0 {
			continue
		}
		task, err := e.taskOf(r.sub, id.partition)
		if err != nil {
			return err
		}
		tasks = append(tasks, task)
	}
	e.verifiable.Store(&tasks)
	return nil
}

// Verify compares the state of the tasks that run here with their changelogs, while they
// go on. found is told every difference. It ends with Run.
func (e *Engine) Verify(
	ctx context.Context, found func(task string, d changelog.Difference) error,
) (out []Verification, err error) {
	tasks := e.verifiable.Load()
	if tasks == nil || len(*tasks) == 0 {
		return nil, ErrNoTasks
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.running, func() { cancel(ErrNoTasks) })()
	// A client of its own: that of the session ends with it.
	cl, err := kgo.NewClient(slices.Concat([]kgo.Opt{
		kgo.SeedBrokers(e.cfg.Brokers...), kgo.ClientID("tailrace-verify"),
	}, e.cfg.Options)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: verify: %w", err)
	}
	defer cl.Close()
	for _, task := range *tasks {
		v, err := e.verifyTask(ctx, kafka.NewLog(cl), task, found)
		if err != nil {
			return out, err
		}
		out = append(out, Verification{task.Name, v})
	}
	return out, nil
}

// verifyTask folds the changelogs of a task into a database that is removed again.
func (e *Engine) verifyTask(
	ctx context.Context, log changelog.Log, task changelog.Task,
	found func(task string, d changelog.Difference) error,
) (v changelog.Verification, err error) {
	scratches := filepath.Join(e.cfg.Dir.Path(), "scratch") // which a start empties
	err = os.MkdirAll(scratches, 0o700)
	var dir string
	if err == nil {
		dir, err = os.MkdirTemp(scratches, "verify-")
	}
	if err != nil {
		return v, fmt.Errorf("kafka: verify: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	scratch, err := state.OpenPebble(filepath.Join(dir, "fold"), state.Options{Logger: e.log})
	if err != nil {
		return v, fmt.Errorf("kafka: verify: %w", err)
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	return changelog.Verify(ctx, e.cfg.Dir.DB, log, scratch, task, func(d changelog.Difference) error {
		return found(task.Name, d)
	})
}
