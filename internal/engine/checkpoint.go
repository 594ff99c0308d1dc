package engine

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// checkpoint is what is stored of a topology, in the same batch as its state
// (invariant S2). A topology without one has never committed; one without positions
// has had its state dropped.
type checkpoint struct {
	Hash        string            `json:"hash"`
	Positions   map[string]uint64 `json:"positions"`
	StreamTimes map[string]int64  `json:"stream_times,omitempty"`
	Replay      map[string]uint64 `json:"replay,omitempty"`
	Cut         bool              `json:"cut,omitempty"`
	// Joining says that the topology had not joined the others yet: what it wrote is
	// dropped at the next start.
	Joining bool `json:"joining,omitempty"`
}

// ownKey is a key of the engine's own space, which lies before all stores (invariant S3).
// In order these are:
//
//	a-seq                  the number of the last commit
//	begun/<database>       a start without state found nothing kept for the database
//	checkpoint/<topology>  where the topology stands
//	joining/<database>/<topology>  there may be a slot of the topology's own
//	known/<database>       topologies that were forgotten since had a position in the database
//	published/<topology>   how the tables that the topology reads were published
//	shapes/<topology>      what the tables were when the state began
//	topology/<topology>    the summary of the topology that made the state
func ownKey(name string) []byte { return append([]byte{0, 0, 0, 0}, name...) }

var seqKey = ownKey("a-seq")

func begunKey(database string) []byte { return ownKey("begun/" + database) }

// knownKey says that topologies had a position in a database that were forgotten since.
func knownKey(database string) []byte { return ownKey("known/" + database) }

func checkpointKey(topology string) []byte { return ownKey("checkpoint/" + topology) }

func ownSlotKey(database, topology string) []byte {
	return ownKey("joining/" + database + "/" + topology)
}

func summaryKey(topology string) []byte { return ownKey("topology/" + topology) }

func (e *Engine) loadSeq() error {
	value, ok, err := e.cfg.Dir.DB.Get(nil, seqKey)
	if err != nil || !ok {
		return err
	}
	if len(value) != 8 {
		return fmt.Errorf("engine: commit number of %d bytes: %w", len(value), state.ErrCorrupt)
	}
	e.seq = binary.BigEndian.Uint64(value)
	return nil
}

// loadTopology makes a topology's task from its checkpoint. State that was made by
// another form of the topology stays for now; see dropChanged.
func (e *Engine) loadTopology(t *topology.Topology) (*topologyRun, error) {
	e.warnPolicies(t)
	r := &topologyRun{topology: t, hash: strconv.FormatUint(t.Hash(), 16)}
	c, ok, err := e.loadCheckpoint(t.Name())
	if err != nil {
		return nil, err
	}
	if ok && c.Joining {
		if err := e.dropCheckpoint(t.Name()); err != nil {
			return nil, err
		}
		c, ok = checkpoint{}, false
	}
	if ok && c.Hash != r.hash {
		e.log.Warn("the topology has changed: its state is rebuilt from a new snapshot",
			"topology", t.Name(), "was", c.Hash, "is", r.hash)
		was := c
		r.old, c = &was, r.afterDrop(&was)
	}
	if ok = len(c.Positions) > 0; !ok && r.old == nil {
		// There is state without a checkpoint after a crash between the two drops.
		if err := e.cfg.Dir.DropStores(t.Name(), ""); err != nil {
			return nil, err
		}
	}
	if r.noted, err = e.isNoted(t); err != nil {
		return nil, err
	}
	if r.published, err = e.loadPublished(t.Name()); err != nil {
		return nil, err
	}
	if r.shapes, err = e.loadShapes(t.Name()); err != nil {
		return nil, err
	}
	r.unbegun = !ok
	r.fresh, r.committed = !ok, record.Positions(c.Positions).Clone()
	r.replay = record.Positions(c.Replay).Clone()
	r.task, err = e.newTask(r, e.env, task.Checkpoint{
		Positions: r.committed, StreamTimes: c.StreamTimes, Replay: r.replay, Cut: c.Cut,
	})
	return r, err
}

// newTask makes a topology's task as of a checkpoint.
func (e *Engine) newTask(r *topologyRun, env *state.Env, at task.Checkpoint) (*task.Task, error) {
	t := r.topology
	var idErr error
	made, err := task.New(task.Config{
		Topology: t, Env: env, Logger: e.log,
		StoreID: func(store string) uint32 {
			id, err := e.storeID(r, store)
			if err != nil {
				idErr = err
			}
			return id
		},
		HasStore: func(store string) bool {
			has, err := e.hasStore(r, store)
			if err != nil {
				idErr = err
			}
			return has
		},
		Checkpoint: at,
		Partitions: e.partitions(),
		Drop: func(n *topology.Node, reason string, count int) {
			e.cfg.Observe.Dropped(t.Name(), n.Name, reason, count)
		},
	})
	if err == nil {
		err = idErr
	}
	return made, err
}

// partitions is how many partitions topologies run in, 0 where they run whole.
func (e *Engine) partitions() int {
	if e.cfg.Partitions > 1 {
		return e.cfg.Partitions
	}
	return 0
}

func (e *Engine) loadCheckpoint(topology string) (c checkpoint, ok bool, err error) {
	value, ok, err := e.cfg.Dir.DB.Get(nil, checkpointKey(topology))
	if err != nil || !ok {
		return c, false, err
	}
	if err := json.Unmarshal(value, &c); err != nil {
		return c, false, fmt.Errorf("engine: checkpoint of topology %q: %w: %w", topology, state.ErrCorrupt, err)
	}
	return c, true, nil
}

// forgetRemoved drops the state of topologies that the app does not have any more
// and that read a database which the others go on reading: the source is told to
// forget its log without regard to them, so what they hold can never be continued.
// Added again they start as new. State over other databases only is kept, since
// nobody acknowledges those meanwhile. It comes once all is open, before anything is
// delivered or acknowledged, and not earlier: a start that fails, with a topology left out
// by mistake, has cost nothing.
func (e *Engine) forgetRemoved() error {
	stored, err := Checkpoints(e.cfg.Dir)
	if err != nil {
		return err
	}
	kept := false
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		if e.hasTopology(name) {
			continue
		}
		if !slices.ContainsFunc(e.databases, func(d *databaseRun) bool {
			_, ok := stored[name][d.name]
			return ok
		}) {
			kept = true
			continue
		}
		e.log.Warn("the app has a topology no longer: its state is dropped", "topology", name)
		if err := e.forget(name); err != nil {
			return err
		}
	}
	if kept {
		return nil // what waits for its targets goes on with it
	}
	return e.forgetQueues()
}

// forgetQueues empties the queues of targets that the app does not have any more, staged
// ones too. What a target has taken stays known, in case that it comes back.
func (e *Engine) forgetQueues() error {
	queues, err := e.cfg.Dir.Queues()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(queues)) {
		target, staged := ofStaged(name)
		if e.hasTarget(target) {
			continue
		}
		if staged {
			if err := e.dropStaged(queues[name]); err != nil {
				return err
			}
			continue
		}
		gone := &targetRun{name: name, queue: queues[name]}
		if err := e.loadQueue(gone); err != nil {
			return err
		}
		if len(gone.pending) == 0 {
			continue
		}
		e.log.Warn("the app has a target no longer: what waits for it is dropped", "target", name,
			"epochs", len(gone.pending), "bytes", gone.size.Load())
		if err := e.cfg.Dir.DB.DeleteRange(queueItems(gone.queue)); err != nil {
			return err
		}
	}
	return nil
}

// write makes one pair of the engine's own durable.
func (e *Engine) write(key, value []byte) error {
	b := e.cfg.Dir.DB.NewBatch()
	defer b.Close()
	if err := b.Set(key, value); err != nil {
		return err
	}
	return e.cfg.Dir.DB.Commit(b, true)
}

// dropCheckpoint removes a topology's checkpoint. It goes before the state does, so
// that a crash in between leaves a topology that starts anew and not one without its
// state.
func (e *Engine) dropCheckpoint(name string) error {
	return e.remove(checkpointKey(name), publishedKey(name), shapesKey(name), summaryKey(name))
}

// remove makes it durable that pairs of the engine's own are gone, whose keys ascend.
func (e *Engine) remove(keys ...[]byte) error {
	b := e.cfg.Dir.DB.NewBatch()
	defer b.Close()
	for _, key := range keys {
		if err := b.Delete(key); err != nil {
			return err
		}
	}
	return e.cfg.Dir.DB.Commit(b, true)
}

// bindViews ties the views of all topologies to the host.
func (e *Engine) bindViews() error {
	for _, r := range e.runs {
		for _, n := range r.topology.Nodes() {
			port, ok := n.Sink.(view.Port)
			if !ok {
				continue
			}
			var idErr error
			err := e.cfg.Host.Bind(port, func(store string) uint32 {
				id, err := e.storeID(r, n.StoreName(store))
				if err != nil {
					idErr = err
				}
				return id
			})
			if err != nil {
				return err
			}
			if idErr != nil {
				return idErr
			}
		}
	}
	return nil
}

// Checkpoints returns where each topology of a state directory stands durably, by
// topology name. It reads the directory, which a running engine may have open.
func Checkpoints(dir *state.Dir) (map[string]record.Positions, error) {
	out := map[string]record.Positions{}
	err := each(dir, checkpointKey(""), func(name string, value []byte) error {
		var c checkpoint
		err := json.Unmarshal(value, &c)
		out[name] = c.Positions
		return err
	})
	return out, err
}
