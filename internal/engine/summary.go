package engine

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// isNoted reports whether the summary of a topology is stored as it is now.
func (e *Engine) isNoted(t *topology.Topology) (bool, error) {
	value, ok, err := e.cfg.Dir.DB.Get(nil, summaryKey(t.Name()))
	if err != nil || !ok {
		return false, err
	}
	now, err := json.Marshal(t.Summary())
	return bytes.Equal(now, value), err
}

// notes reports whether what a topology is is stored with a commit: its first checkpoint.
func (e *Engine) notes(r *topologyRun, ready *task.Ready) bool {
	return !r.noted && e.joins == nil && len(ready.Checkpoint.Positions) > 0
}

// note stores a topology's summary with its first checkpoint.
func (e *Engine) note(batch state.Batch, r *topologyRun, ready *task.Ready) error {
	if !e.notes(r, ready) {
		return nil
	}
	value, err := json.Marshal(r.topology.Summary())
	if err != nil {
		return err
	}
	return batch.Set(summaryKey(r.name()), value)
}

// each visits the values under a prefix in the engine's own space.
func each(dir *state.Dir, prefix []byte, fn func(name string, value []byte) error) error {
	it, err := dir.DB.NewIter(prefix, state.PrefixEnd(prefix))
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		name := string(it.Key()[len(prefix):])
		if err := fn(name, it.Value()); err != nil {
			return fmt.Errorf("engine: what is stored of topology %q: %w: %w", name, state.ErrCorrupt, err)
		}
	}
	return it.Error()
}
