package tailrace

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/engine/kafka"
)

// StateVerification is what VerifyState has compared.
type StateVerification struct {
	// Tasks are those of this member.
	Tasks []TaskVerification `json:"tasks"`
	// Differences are the first that were found, of all tasks.
	Differences []StateDifference `json:"differences"`
}

// TaskVerification is what was compared of a task.
type TaskVerification struct {
	Task string `json:"task"`
	// Keys were compared. Newer were not: the changelogs have changed them since.
	Keys        int64 `json:"keys"`
	Newer       int64 `json:"newer"`
	Differences int64 `json:"differences"`
}

// StateDifference is a key in which state and changelog differ.
type StateDifference struct {
	Task string `json:"task"`
	// Topic is the changelog, and Partition the one of the task.
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Kind says how they differ, Key is the stored key in hexadecimal.
	Kind string `json:"kind"`
	Key  string `json:"key"`
}

// maxDifferences is how many differences of states are listed.
const maxDifferences = 100

// VerifyState compares, in Kafka mode, the local state of the tasks that run on this member
// with their changelogs, while everything goes on: state == fold(changelog), key by key. It
// reads the changelogs from their beginning. Differences are no error; each member knows its
// own tasks alone. The error is ErrVerify where there are none to compare.
func (a *App) VerifyState(ctx context.Context) (*StateVerification, error) {
	a.dirMu.RLock() // the state directory stays open
	defer a.dirMu.RUnlock()
	a.mu.Lock()
	eng, ok := a.runner.(*kafka.Engine)
	a.mu.Unlock()
	if !ok || a.dir == nil {
		return nil, fmt.Errorf("%w: a state has changelogs in Kafka mode, while the app runs", ErrVerify)
	}
	out := &StateVerification{Tasks: []TaskVerification{}, Differences: []StateDifference{}}
	tasks, err := eng.Verify(ctx, func(task string, d changelog.Difference) error {
		if len(out.Differences) < maxDifferences {
			out.Differences = append(out.Differences, StateDifference{
				Task: task, Topic: d.Topic, Partition: d.Number, Kind: string(d.Kind), Key: hex.EncodeToString(d.Key),
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrVerify, err)
	}
	for _, t := range tasks {
		out.Tasks = append(out.Tasks, TaskVerification{t.Task, t.Keys, t.Newer, t.Differences})
	}
	return out, nil
}

// serveVerifyState answers with what VerifyState finds, to one client at a time.
func (a *App) serveVerifyState(w http.ResponseWriter, r *http.Request) {
	if !a.verifying.TryLock() {
		refuse(w, http.StatusServiceUnavailable, "the state is being verified already; ask again when that is done")
		return
	}
	defer a.verifying.Unlock()
	ctx, cancel := unhurried(w, r)
	defer cancel()
	found, err := a.VerifyState(ctx)
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// An error here means that the client has gone.
	_ = json.NewEncoder(w).Encode(found)
}
