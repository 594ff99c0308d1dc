package engine

import (
	"maps"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/internal/task"
)

// dropUndeliverable drops the state of topologies that this start leaves out where what they
// have put out waits for a target that it does not: the target gets its epochs without their
// rows and events, so that they could not go on behind these. Added again they start as new,
// and the target is reconciled. It comes once all is open, and before the first delivery.
func (e *Engine) dropUndeliverable() error {
	stored, err := Checkpoints(e.cfg.Dir)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		if e.hasTopology(name) {
			continue
		}
		outputs, err := e.outputsOf(name)
		if err != nil {
			return err
		}
		if !e.waitsFor(outputs) {
			continue
		}
		e.log.Warn("the app has a topology no longer, and a target of others takes what is queued without what"+
			" the topology has put out: its state is dropped", "topology", name)
		if err := e.forget(name); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) hasTopology(name string) bool {
	return slices.ContainsFunc(e.runs, func(r *topologyRun) bool { return r.name() == name })
}

// forget drops a topology's checkpoint and its state. That there was some is noted, so that it
// is not looked for as one that was lost.
func (e *Engine) forget(topology string) error {
	stored, err := Checkpoints(e.cfg.Dir)
	if err != nil {
		return err
	}
	for database := range stored[topology] {
		if err := e.write(knownKey(database), nil); err != nil {
			return err
		}
	}
	if err := e.dropCheckpoint(topology); err != nil {
		return err
	}
	return e.cfg.Dir.DropStores(topology, "")
}

// outputsOf returns the ids of a topology's outputs, those that outlive its state too.
func (e *Engine) outputsOf(topology string) (map[uint32]bool, error) {
	out := map[uint32]bool{}
	for _, owner := range []string{topology, topology + keptSuffix} {
		ids, err := e.cfg.Dir.Stores(owner)
		if err != nil {
			return nil, err
		}
		for store, id := range ids {
			if strings.HasPrefix(store, task.OutputPrefix) {
				out[id] = true
			}
		}
	}
	return out, nil
}

// waitsFor reports whether something of some outputs waits for a target, be it that they are
// to begin: then the target has rows of before.
func (e *Engine) waitsFor(outputs map[uint32]bool) bool {
	for _, t := range e.targets {
		for _, p := range t.pending {
			for id := range outputs {
				if p.brings(id) || p.begins(id) {
					return true
				}
			}
		}
	}
	return false
}
