package engine

import (
	"strings"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// LetterPlace is where a walk over dead letters stands, the zero value before its
// beginning.
type LetterPlace struct {
	topology string
	key      []byte // of the last letter
}

// ReadDeadLetters yields the dead letters in a state directory as of its last commit,
// topology by topology, from after a place on until yield returns false. It returns the
// place of the last one.
func ReadDeadLetters(
	dir *state.Dir, at LetterPlace, yield func(*task.DeadLetter) bool,
) (LetterPlace, error) {
	names, err := dir.Topologies()
	if err != nil {
		return at, err
	}
	snapshot := dir.DB.NewSnapshot()
	defer snapshot.Close()
	for _, name := range names {
		if !strings.HasSuffix(name, keptSuffix) || name < at.topology {
			continue
		}
		ids, err := dir.Stores(name)
		if err != nil {
			return at, err
		}
		id, ok := ids[task.DeadLetterStore]
		if !ok {
			continue
		}
		if name != at.topology {
			at = LetterPlace{topology: name}
		}
		more := true
		at.key, err = task.ReadDeadLetters(snapshot, id, at.key, func(l *task.DeadLetter) bool {
			more = yield(l)
			return more
		})
		if err != nil || !more {
			return at, err
		}
	}
	return at, nil
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
