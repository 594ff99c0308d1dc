package operators

import (
	"math"

	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// timerSchema is the fingerprint of a store of timers.
const timerSchema = "timers-1"

// timers are what a node waits for: keys by the stream time at which they fall due.
// They are kept in a store, so they survive a restart.
type timers struct {
	store *state.Ordered
	// floor is a time before which nothing is due: where a walk begins, so that it
	// does not pass over what has fired. It holds for one generation of the store.
	floor      int64
	generation uint64
	batch      []timer
	arena      []byte
	buf        []byte
	// owns tells the partition's timers from those of others, by their keys; nil: all are
	// its own.
	owns func(key []byte) bool
}

type timer struct {
	at       int64
	from, to int // of its key in the arena
}

// byKey is what timers are divided by whose keys begin with an encoded key of type K, and
// end with so many bytes besides.
func byKey[K comparable](besides int) func(timer []byte) []byte {
	d, _ := topology.DividerOf[K]() // an error is reported by the node
	return func(timer []byte) []byte { return d.Part(timer[:len(timer)-besides]) }
}

// newTimers makes the timers of the node that is being made, in its store of the
// given name. key finds in a timer's key what that is divided by where the topology is
// cut: partitions share the store, and each fires its own timers (invariant X3).
func newTimers(rt *topology.Runtime, store string, key func(timer []byte) []byte) *timers {
	t := &timers{store: state.NewOrdered(rt.Env, rt.StoreIDFor(store)), floor: math.MinInt64}
	if p := rt.Partition(); p.Count > 1 {
		t.owns = func(timer []byte) bool { return p.Owns(key(timer)) }
	}
	rt.Register(t.store)
	return t
}

// addSpan adds a span that is not negative to a time, up to the last time there is.
func addSpan(at, span int64) int64 {
	if sum := at + span; sum >= at {
		return sum
	}
	return math.MaxInt64
}

// set waits for a time on behalf of an encoded key. A key may wait for several.
func (t *timers) set(at int64, key []byte) error {
	t.refresh()
	t.floor = min(t.floor, at)
	return t.store.Set(t.encode(at, key), nil)
}

// unset takes set back; of what is not set it is no change.
func (t *timers) unset(at int64, key []byte) error { return t.store.Delete(t.encode(at, key)) }

func (t *timers) encode(at int64, key []byte) []byte {
	t.buf = append(appendTime(t.buf[:0], at), key...)
	return t.buf
}

// refresh forgets the floor where a rollback may have brought timers back.
func (t *timers) refresh() {
	if g := t.store.Rollbacks(); g != t.generation {
		t.generation, t.floor = g, math.MinInt64
	}
}

// fire calls fn for all that is due at now, in order of time and key, and removes it.
// fn may set further timers; those that are due fire as well, after the others.
func (t *timers) fire(now int64, fn func(at int64, key []byte) error) error {
	for {
		if err := t.gather(now); err != nil {
			return err
		}
		if len(t.batch) == 0 {
			return nil
		}
		for _, b := range t.batch {
			if err := t.unset(b.at, t.arena[b.from:b.to]); err != nil {
				return err
			}
		}
		for _, b := range t.batch {
			if err := fn(b.at, t.arena[b.from:b.to]); err != nil {
				return err
			}
		}
	}
}

// gather collects a bounded number of timers that are due.
func (t *timers) gather(now int64) error {
	t.batch, t.arena = t.batch[:0], t.arena[:0]
	next, ok, err := t.next()
	now = min(now, math.MaxInt64-1) // the last time of all is that of what never falls due
	if err != nil || !ok || next > now {
		return err
	}
	return t.store.ScanRange(t.lower(), nil, false, func(key, _ []byte) bool {
		at := decodeTime(key)
		if at > now || len(t.batch) == chunkSize {
			return false
		}
		if t.owns != nil && !t.owns(key[8:]) {
			return true
		}
		t.floor = at
		from := len(t.arena)
		t.arena = append(t.arena, key[8:]...)
		t.batch = append(t.batch, timer{at: at, from: from, to: len(t.arena)})
		return true
	})
}

// next returns the earliest time waited for.
func (t *timers) next() (at int64, ok bool, err error) {
	t.refresh()
	if t.floor == math.MaxInt64 {
		return 0, false, nil // nothing is set, as the last walk found
	}
	err = t.store.ScanRange(t.lower(), nil, false, func(key, _ []byte) bool {
		if t.owns != nil && !t.owns(key[8:]) {
			return true
		}
		at, ok = decodeTime(key), true
		return false
	})
	if err == nil {
		t.floor = at
		if !ok {
			t.floor = math.MaxInt64
		}
	}
	return at, ok, err
}

func (t *timers) lower() []byte {
	t.buf = appendTime(t.buf[:0], t.floor)
	return t.buf
}

// NextTimer implements topology.TimedOperator. An error of the store shows when the
// timers are read in a step, which it therefore asks for.
func (t *timers) NextTimer() (at int64, ok bool) {
	at, ok, err := t.next()
	if err != nil {
		return math.MinInt64, true
	}
	return at, ok
}
