package engine

import (
	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// topologyRun is a topology at work.
type topologyRun struct {
	topology *topology.Topology
	task     *task.Task
	hash     string
	// fresh is true until the topology's first commit, which holds the whole content
	// of its outputs.
	fresh bool
	// committed is where the topology stands durably, by database.
	committed record.Positions
	// replay is where it stands durably in taking events again after its state was
	// lost or dropped, by database; see task.Checkpoint.
	replay record.Positions
	// asOf is the commit time of its last transaction since the start.
	asOf int64
	// held is why the topology stands still, nil if it does not.
	held error
	// joining says that the topology is brought up to the others by a joiner of its own,
	// which has a topologyRun for it too: this one is idle until the topology joins.
	joining bool
	// unbegun says that nothing that its outputs begin with is durable yet.
	unbegun bool
	// snapshotting says that the snapshot at hand is taken for this topology, beside a
	// session that others go on with.
	snapshotting bool
	// takes says whether the transaction at hand is for this topology.
	takes bool
	// noted says that the topology's summary is stored beside its checkpoint.
	noted bool
	// published is how its tables were published when its sessions were opened, by database
	// and table; publishedNoted says that it is stored so. See published.go.
	published      published
	publishedNoted bool
	// shapes are the tables, by database and name, as they were when last compared with
	// what the state is made of.
	shapes shapes
	// old is the checkpoint of the state that another form of the topology made, until
	// that is dropped; see dropChanged.
	old *checkpoint
}

// name is the topology's name.
func (r *topologyRun) name() string { return r.topology.Name() }

// reads reports whether the topology reads a database.
func (r *topologyRun) reads(database string) bool {
	for _, n := range r.topology.Nodes() {
		if n.Source != nil && n.Source.Input().Database == database {
			return true
		}
	}
	return false
}

// readsEvents reports whether the topology reads events of a database: what a new
// snapshot of its tables does not bring back.
func (r *topologyRun) readsEvents(database string) bool {
	for _, n := range r.topology.Nodes() {
		if n.Source != nil && n.Source.Input().Database == database && n.Kind != topology.KindSourceTable {
			return true
		}
	}
	return false
}

// done is up to where the topology is through with a database, durably; 0 if it has
// no position there.
func (r *topologyRun) done(database string) uint64 {
	if r.old != nil {
		return through(r.old.Positions, r.old.Replay, database)
	}
	return through(r.committed, r.replay, database)
}

// through is up to where positions and what is replayed are both through with a
// database; 0 if there is neither.
func through(positions, replay map[string]uint64, database string) uint64 {
	at, ok := positions[database]
	if again, replays := replay[database]; replays && (!ok || again < at) {
		return again
	}
	return at
}
