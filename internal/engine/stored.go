package engine

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// Stored is what a state directory holds of a topology.
type Stored struct {
	// Summary is that of the topology that made the state. Without Nodes only its name
	// and hash are known: a release that did not note more has made it.
	Summary   *topology.Summary
	Positions record.Positions
	// Bytes are the sizes of its stores, by name.
	Bytes map[string]int64
}

// ReadStored returns what a state directory holds, by topology.
func ReadStored(dir *state.Dir) (map[string]*Stored, error) {
	out := map[string]*Stored{}
	err := each(dir, checkpointKey(""), func(name string, value []byte) error {
		var c checkpoint
		err := json.Unmarshal(value, &c)
		if c.Joining {
			c.Positions = nil // what it holds is dropped at the next start
		}
		out[name] = &Stored{Summary: &topology.Summary{Name: name, Hash: c.Hash}, Positions: c.Positions}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(dir, summaryKey(""), func(name string, value []byte) error {
		var s topology.Summary
		err := json.Unmarshal(value, &s)
		if known := out[name]; known != nil && known.Summary.Hash == s.Hash {
			known.Summary = &s
		}
		return err
	})
	for _, name := range slices.Sorted(maps.Keys(out)) {
		if err == nil {
			err = out[name].measure(dir, name)
		}
	}
	return out, err
}

// measure finds the sizes of a topology's stores.
func (s *Stored) measure(dir *state.Dir, topology string) error {
	ids, err := dir.Stores(topology)
	if err != nil {
		return err
	}
	s.Bytes = map[string]int64{}
	for name, id := range ids {
		if strings.HasPrefix(name, task.OutputPrefix) {
			continue // nothing is ever committed there
		}
		if s.Bytes[name], err = dir.StoreBytes(id); err != nil {
			return err
		}
	}
	return nil
}

// SampleStores estimates the sizes of a topology's stores, by name: see
// state.Dir.SampleStore.
func SampleStores(dir *state.Dir, topology string) (map[string]state.Size, error) {
	ids, err := dir.Stores(topology)
	if err != nil {
		return nil, err
	}
	sizes := map[string]state.Size{}
	for name, id := range ids {
		if strings.HasPrefix(name, task.OutputPrefix) {
			continue // nothing is ever committed there
		}
		if sizes[name], err = dir.SampleStore(id); err != nil {
			return nil, err
		}
	}
	return sizes, nil
}

// ReadQueues returns the bytes that wait for targets in a state directory, by target.
func ReadQueues(dir *state.Dir) (map[string]int64, error) {
	queues, err := dir.Queues()
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for name, id := range queues {
		lower, upper := queueItems(id)
		target, staged := ofStaged(name)
		if staged {
			lower = itemKey(nil, id, 0, itemHeader)
		}
		bytes, err := dir.RangeBytes(lower, upper)
		if err != nil {
			return nil, err
		}
		out[target] += bytes
	}
	return out, nil
}
