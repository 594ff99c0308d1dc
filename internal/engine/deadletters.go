package engine

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// LetterPlace is where a walk over dead letters stands, the zero value before its
// beginning.
type LetterPlace struct {
	topology, store string
	key             []byte // of the last letter
}

// letterStore is a store that holds dead letters.
type letterStore struct {
	topology, store string
	id              uint32
}

func (s letterStore) compare(topology, store string) int {
	return cmp.Or(cmp.Compare(s.topology, topology), cmp.Compare(s.store, store))
}

// letterStores are the stores with dead letters, in order of topologies and names. Of a
// topology some lie among its stores, others among what outlives them.
func letterStores(dir *state.Dir) ([]letterStore, error) {
	names, err := dir.Topologies()
	if err != nil {
		return nil, err
	}
	var out []letterStore
	for _, name := range names {
		ids, err := dir.Stores(name)
		if err != nil {
			return nil, err
		}
		for store, id := range ids {
			if task.HoldsLetters(store) || strings.HasPrefix(store, refusedPrefix) {
				out = append(out, letterStore{strings.TrimSuffix(name, keptSuffix), store, id})
			}
		}
	}
	slices.SortFunc(out, func(a, b letterStore) int { return a.compare(b.topology, b.store) })
	return out, nil
}

// ReadDeadLetters yields the dead letters in a state directory as of its last commit,
// topology by topology, from after a place on until yield returns false. It returns the
// place of the last one.
func ReadDeadLetters(
	dir *state.Dir, at LetterPlace, yield func(*task.DeadLetter) bool,
) (LetterPlace, error) {
	stores, err := letterStores(dir)
	if err != nil {
		return at, err
	}
	snapshot := dir.DB.NewSnapshot()
	defer snapshot.Close()
	for _, s := range stores {
		switch c := s.compare(at.topology, at.store); {
		case c < 0:
			continue
		case c > 0:
			at = LetterPlace{topology: s.topology, store: s.store}
		}
		more := true
		if strings.HasPrefix(s.store, refusedPrefix) {
			at.key, err = readRefused(snapshot, s.id, at.key, func(_ []byte, l *refusedLetter) bool {
				more = yield(&l.DeadLetter)
				return more
			})
			if err != nil || !more {
				return at, err
			}
			continue
		}
		at.key, err = task.ReadDeadLetters(
			snapshot,
			s.topology,
			s.store,
			s.id,
			at.key,
			func(l *task.DeadLetter) bool {
				more = yield(l)
				return more
			},
		)
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
			e.log.Warn("an error policy may leave out inputs of this node: what follows from them is then missing, "+
				"or as it was before, in results, which hold whole transactions otherwise",
				"topology", t.Name(), "node", n.Name)
		}
	}
}
