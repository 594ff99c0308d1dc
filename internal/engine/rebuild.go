package engine

import (
	"encoding/json"
	"slices"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/topology"
)

// A topology that has changed is rebuilt from a new snapshot. It gets stores of its own
// at once, and the state of its other form stays beside them, with its checkpoint, until
// the sources of the rebuild are open: a start that fails before that, for want of a
// right or of a table, has cost nothing, and the program of before can go on.

// keptSuffix makes a name of its own for what outlives a topology's state: no topology
// can be called so.
const keptSuffix = ":kept"

// storeID returns the id of a topology's store, by its full name.
func (e *Engine) storeID(r *topologyRun, store string) (uint32, error) {
	switch {
	case outlives(r.topology, store):
		return e.cfg.Dir.StoreID(r.name()+keptSuffix, store)
	case r.old != nil:
		return e.cfg.Dir.NextStoreID(r.name(), store)
	}
	return e.cfg.Dir.StoreID(r.name(), store)
}

// hasStore reports whether a topology has a store of that name already.
func (e *Engine) hasStore(r *topologyRun, store string) (bool, error) {
	name := r.name()
	if outlives(r.topology, store) {
		name += keptSuffix
	} else if r.old != nil {
		return false, nil
	}
	ids, err := e.cfg.Dir.Stores(name)
	_, ok := ids[store]
	return ok, err
}

// outlives reports whether a store stays where the topology's state is dropped: dead
// letters, and outputs of events, by whose ids a queue knows what waits in it. They are
// not events again after the rebuild.
func outlives(t *topology.Topology, store string) bool {
	return store == task.DeadLetterStore || slices.ContainsFunc(t.Nodes(), func(n *topology.Node) bool {
		spec, ok := n.Sink.(*sinks.Spec)
		return ok && spec.Output.Append && (store == task.OutputStore(n) || store == refusedStore(n))
	})
}

// afterDrop returns the checkpoint of a topology whose state is dropped: it remembers
// from where on its events have not been taken.
func (r *topologyRun) afterDrop(was *checkpoint) checkpoint {
	next := checkpoint{Hash: r.hash, Replay: map[string]uint64{}}
	for _, positions := range []map[string]uint64{was.Positions, was.Replay} {
		for database := range positions {
			if r.readsEvents(database) {
				next.Replay[database] = through(was.Positions, was.Replay, database)
			}
		}
	}
	return next
}

// dropChanged drops the state of topologies that have changed, now that all sources of
// their rebuild are open. The checkpoint goes before the state does, so that a crash in
// between leaves a topology that starts anew and not one without its state. What is held
// keeps its state for the program of before.
func (e *Engine) dropChanged() error {
	for _, r := range e.runs {
		if r.joining || r.old == nil || r.held != nil {
			continue
		}
		if err := e.dropOld(r); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) dropOld(r *topologyRun) error {
	e.log.Warn("the sources are open: the state of the topology's other form is dropped", "topology", r.name())
	if err := e.resetCheckpoint(r); err != nil {
		return err
	}
	if err := e.cfg.Dir.ReplaceStores(r.name()); err != nil {
		return err
	}
	e.ackMu.Lock()
	r.old = nil
	e.ackMu.Unlock()
	return nil
}

func (e *Engine) resetCheckpoint(r *topologyRun) error {
	next := r.afterDrop(r.old)
	if len(next.Replay) == 0 {
		return e.dropCheckpoint(r.name())
	}
	value, err := json.Marshal(next)
	if err != nil {
		return err
	}
	return e.write(checkpointKey(r.name()), value)
}

// keepsOld reports whether state of another form of a database's topologies is still
// kept. A joiner may be about to drop it.
func (e *Engine) keepsOld(d *databaseRun) bool {
	e.ackMu.Lock()
	defer e.ackMu.Unlock()
	return slices.ContainsFunc(d.runs, func(r *topologyRun) bool { return r.old != nil })
}
