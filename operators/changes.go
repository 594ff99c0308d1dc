package operators

import (
	"errors"

	"github.com/tailrace/tailrace/record"
)

// bufferLimit is how many changes of a step a node keeps for its second reader.
// A step with more is computed again for each: that bounds memory.
const bufferLimit = 1 << 16

// changes is the output of a derived table node: computed when it is walked, and
// kept for the next walk where several nodes read it.
type changes[K comparable, V any] struct {
	out      []record.Change[K, V]
	keep     bool
	kept     []record.Change[K, V]
	complete bool
}

// walk yields what compute yields, from memory the second time.
func (c *changes[K, V]) walk(
	compute func(yield func([]record.Change[K, V]) bool) error,
	yield func([]record.Change[K, V]) bool,
) error {
	if c.complete {
		if len(c.kept) > 0 {
			yield(c.kept)
		}
		return nil
	}
	if !c.keep {
		return compute(yield)
	}
	c.kept = c.kept[:0]
	fits, ended := true, false
	err := compute(func(chunk []record.Change[K, V]) bool {
		fits = fits && len(c.kept)+len(chunk) <= bufferLimit
		if fits {
			c.kept = append(c.kept, chunk...)
		}
		ended = !yield(chunk)
		return !ended
	})
	c.complete = err == nil && fits && !ended
	return err
}

// EndStep forgets the step's output.
func (c *changes[K, V]) EndStep() {
	c.complete = false
	if cap(c.kept) > 4*chunkSize || cap(c.out) > 4*chunkSize {
		c.kept, c.out = nil, nil
		return
	}
	clear(c.kept)
	clear(c.out)
	c.kept, c.out = c.kept[:0], c.out[:0]
}

// combining is a table that is computed of what others hold.
type combining[K comparable, V any] interface {
	// touched visits each key once of which an input has changed in the step, with the
	// inputs at hand.
	touched(visit func(key K) error) error
	// combine computes the change of the key whose inputs are at hand.
	combine(c *record.Change[K, V]) error
}

// each yields what becomes of the keys that were touched, unless it stays the same
// (invariant T1).
func (c *changes[K, V]) each(
	of combining[K, V], equal func(a, b *V) bool, yield func([]record.Change[K, V]) bool,
) error {
	c.out = c.out[:0]
	err := of.touched(func(key K) error {
		c.out = append(c.out, record.Change[K, V]{Key: key})
		if err := of.combine(&c.out[len(c.out)-1]); err != nil {
			return err
		}
		if c.out = dropEqual(c.out, equal); len(c.out) < chunkSize {
			return nil
		}
		more := yield(c.out)
		if c.out = c.out[:0]; !more {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	if err == nil && len(c.out) > 0 {
		yield(c.out)
	}
	return err
}

// errEnough ends a walk that nobody wants to go on.
var errEnough = errors.New("operators: enough")

// dropEqual takes the last change off again where nothing changed.
func dropEqual[K comparable, V any](
	out []record.Change[K, V], equal func(a, b *V) bool,
) []record.Change[K, V] {
	last := len(out) - 1
	c := &out[last]
	if c.Sides == 0 || c.Sides == record.HasOld|record.HasNew && equal(&c.Old, &c.New) {
		return out[:last]
	}
	return out
}

// versionsOf are a key's values around the step.
func versionsOf[K comparable, V any](c *record.Change[K, V]) record.Versions[V] {
	return record.Versions[V]{Old: c.Old, New: c.New, Sides: c.Sides, Time: c.Time}
}

// changed reports whether a key's values around the step differ.
func changed[V any](v *record.Versions[V], equal func(a, b *V) bool) bool {
	switch v.Sides {
	case 0:
		return false
	case record.HasOld | record.HasNew:
		return !equal(&v.Old, &v.New)
	}
	return true
}
