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
	// floor is a time before which nothing is due, and with exact the next one at which
	// something is: the store is asked only where that is not known, and from there on, so
	// that a walk does not pass over what has fired. Both hold for one generation of the
	// store.
	floor      int64
	exact      bool
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
	if at <= t.floor {
		t.floor, t.exact = at, true
	}
	return t.store.Set(t.encode(at, key), nil)
}

// unset takes set back; of what is not set it is no change.
func (t *timers) unset(at int64, key []byte) error {
	if at == t.floor {
		t.exact = false // unless others wait for it
	}
	return t.store.Delete(t.encode(at, key))
}

func (t *timers) encode(at int64, key []byte) []byte {
	t.buf = append(appendTime(t.buf[:0], at), key...)
	return t.buf
}

// refresh forgets the floor where a rollback may have brought timers back.
func (t *timers) refresh() {
	if g := t.store.Rollbacks(); g != t.generation {
		t.generation, t.floor, t.exact = g, math.MinInt64, false
	}
}

// fire calls fn for all that is due at now, in order of time and key, and removes it.
// fn may set further timers; those that are due fire as well, after the others.
func (t *timers) fire(now int64, fn func(at int64, key []byte) error) error {
	for {
		if err := t.take(min(now, lastDue), chunkSize); err != nil || len(t.batch) == 0 {
			return err
		}
		for _, b := range t.batch {
			if err := fn(b.at, t.arena[b.from:b.to]); err != nil {
				return err
			}
		}
	}
}

// lastDue is the last time at which anything falls due: the one after it, the last of all,
// is that of what never does.
const lastDue = math.MaxInt64 - 1

// first removes what is due first, if something is due at now.
func (t *timers) first(now int64) (at int64, key []byte, ok bool, err error) {
	if err := t.take(now, 1); err != nil || len(t.batch) == 0 {
		return 0, nil, false, err
	}
	return t.batch[0].at, t.arena, true, nil
}

// take removes what is due at now, so much of it at most, and leaves it in the batch.
func (t *timers) take(now int64, most int) error {
	t.refresh()
	t.batch, t.arena = t.batch[:0], t.arena[:0]
	if t.floor > now {
		return nil
	}
	if err := t.gather(now, most); err != nil {
		return err
	}
	for _, b := range t.batch {
		if err := t.unset(b.at, t.arena[b.from:b.to]); err != nil {
			return err
		}
	}
	return nil
}

// gather adds to the batch what is due at now, until it holds so much, and finds the next
// time that something else is.
func (t *timers) gather(now int64, most int) error {
	next := int64(math.MaxInt64)
	err := t.store.ScanRange(t.lower(), nil, false, func(key, _ []byte) bool {
		if t.owns != nil && !t.owns(key[8:]) {
			return true
		}
		at := decodeTime(key)
		if at > now || len(t.batch) >= most {
			next = at
			return false
		}
		from := len(t.arena)
		t.arena = append(t.arena, key[8:]...)
		t.batch = append(t.batch, timer{at: at, from: from, to: len(t.arena)})
		return true
	})
	if err == nil {
		t.floor, t.exact = next, true
	}
	return err
}

func (t *timers) lower() []byte {
	t.buf = appendTime(t.buf[:0], t.floor)
	return t.buf
}

// NextTimer implements topology.TimedOperator. An error of the store shows when the
// timers are read in a step, which it therefore asks for.
func (t *timers) NextTimer() (at int64, ok bool) {
	t.refresh()
	if !t.exact {
		if err := t.gather(math.MaxInt64, 0); err != nil {
			return math.MinInt64, true
		}
	}
	return t.floor, t.floor != math.MaxInt64
}
