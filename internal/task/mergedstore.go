package task

import (
	"bytes"
	"errors"
	"iter"

	"github.com/tailrace/tailrace/state"
)

// mergedStore is a store of which each partition has some keys: one store to whom makes
// an epoch durable (invariant X3).
type mergedStore struct {
	env   *state.Env
	parts []state.Store
}

// mergeStores merges the stores of all partitions by their ids.
func mergeStores(env *state.Env, partitions [][]state.Store) []state.Store {
	at := map[uint32]int{}
	var out []state.Store
	for _, stores := range partitions {
		for _, s := range stores {
			i, ok := at[s.ID()]
			if !ok {
				i, at[s.ID()] = len(out), len(out)
				out = append(out, &mergedStore{env: env})
			}
			m := out[i].(*mergedStore)
			m.parts = append(m.parts, s)
		}
	}
	return out
}

// ID is the store's key prefix.
func (m *mergedStore) ID() uint32 { return m.parts[0].ID() }

// EndStep forgets the old values of the step.
func (m *mergedStore) EndStep() {
	for _, s := range m.parts {
		s.EndStep()
	}
}

// Flush writes all changes since the last commit in ascending key order. What all
// partitions hold, as a global table, is written once.
func (m *mergedStore) Flush(b state.Batch) error {
	defer m.env.Hold()()
	parts := make([]pairs, len(m.parts))
	for i, s := range m.parts {
		parts[i] = func(fn func(key, value []byte, deleted bool) bool) error {
			err := s.Flush(pairBatch(fn))
			if errors.Is(err, errStopped) {
				return nil
			}
			return err
		}
	}
	var failed error
	err := mergePairs(parts, func(key, value []byte, deleted bool) bool {
		if deleted {
			failed = b.Delete(key)
		} else {
			failed = b.Set(key, value)
		}
		return failed == nil
	})
	return errors.Join(err, failed)
}

// Committed says that the database holds the flushed batch.
func (m *mergedStore) Committed() {
	for _, s := range m.parts {
		s.Committed()
	}
}

// Rollback drops everything written since the last commit.
func (m *mergedStore) Rollback() {
	for _, s := range m.parts {
		s.Rollback()
	}
}

// pairs walks over pairs of keys and values, in ascending order of the keys.
type pairs func(fn func(key, value []byte, deleted bool) bool) error

// pairBatch shows the writes of a flush to a function.
type pairBatch func(key, value []byte, deleted bool) bool

var errStopped = errors.New("task: the walk has ended")

func (b pairBatch) Set(key, value []byte) error { return b.put(key, value, false) }
func (b pairBatch) Delete(key []byte) error     { return b.put(key, nil, true) }
func (b pairBatch) Len() int                    { return 0 }
func (b pairBatch) Close() error                { return nil }

func (b pairBatch) put(key, value []byte, deleted bool) error {
	if !b(key, value, deleted) {
		return errStopped
	}
	return nil
}

// pairWalk is a walk that stands on a pair.
type pairWalk struct {
	next       func() (struct{}, bool)
	stop       func()
	key, value []byte
	deleted    bool
	err        error
}

func startWalk(p pairs) *pairWalk {
	w := &pairWalk{}
	w.next, w.stop = iter.Pull(func(yield func(struct{}) bool) {
		w.err = p(func(key, value []byte, deleted bool) bool {
			w.key, w.value, w.deleted = key, value, deleted
			return yield(struct{}{})
		})
	})
	return w
}

// mergePairs walks over the pairs of several walks in ascending order of their keys; of
// those with the same key the first one's counts.
func mergePairs(parts []pairs, fn func(key, value []byte, deleted bool) bool) error {
	if len(parts) == 1 {
		return parts[0](fn)
	}
	var open []*pairWalk
	defer func() {
		for _, w := range open {
			w.stop()
		}
	}()
	for _, p := range parts {
		w := startWalk(p)
		if _, ok := w.next(); ok {
			open = append(open, w)
		} else if w.err != nil {
			return w.err
		}
	}
	for len(open) > 0 {
		least := open[0]
		for _, w := range open[1:] {
			if bytes.Compare(w.key, least.key) < 0 {
				least = w
			}
		}
		if !fn(least.key, least.value, least.deleted) {
			return nil
		}
		key := bytes.Clone(least.key)
		left := open[:0]
		var failed error
		for _, w := range open {
			if w != least && !bytes.Equal(w.key, key) {
				left = append(left, w)
			} else if _, ok := w.next(); ok {
				left = append(left, w)
			} else {
				failed = errors.Join(failed, w.err)
			}
		}
		if open = left; failed != nil {
			return failed
		}
	}
	return nil
}
