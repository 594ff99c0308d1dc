package engine

import (
	"strings"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// ReadDeadLetters yields the dead letters in a state directory as of its last commit,
// topology by topology, until yield returns false.
func ReadDeadLetters(dir *state.Dir, yield func(*task.DeadLetter) bool) error {
	names, err := dir.Topologies()
	if err != nil {
		return err
	}
	snapshot := dir.DB.NewSnapshot()
	defer snapshot.Close()
	for _, name := range names {
		if !strings.HasSuffix(name, keptSuffix) {
			continue
		}
		ids, err := dir.Stores(name)
		if err != nil {
			return err
		}
		id, ok := ids[task.DeadLetterStore]
		if !ok {
			continue
		}
		more := true
		err = task.ReadDeadLetters(snapshot, id, func(l *task.DeadLetter) bool {
			more = yield(l)
			return more
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// warnPolicies says at start which nodes may leave inputs out.
func (e *Engine) warnPolicies(t *topology.Topology) {
	for _, n := range t.Nodes() {
		if n.OnError != nil {
			e.log.Warn("an error policy may leave out inputs of this node: what follows from them is then missing "+
				"in results, which hold whole transactions otherwise", "topology", t.Name(), "node", n.Name)
		}
	}
}
