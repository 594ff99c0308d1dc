package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// Join joins two tables on their keys (INNER JOIN): a result row exists while both
// sides have one. However many rows of both sides a transaction touches, each key
// of the result changes at most once.
//
// A row that is deleted on either side deletes the result. Keys match where they are
// equal: unlike SQL's, a NULL key (of type sql.Null) matches a NULL key, since both are
// keys of rows. The last written row of a side counts, also if it comes out of order by
// event time, so nothing is late; the event time of a result is the later one of its
// sides'.
func Join[K comparable, L, R, O any](
	name string, left topology.Table[K, L], right topology.Table[K, R], joiner func(L, R) O,
) topology.Table[K, O] {
	given(builderOf(left, right), named("Join", name), function{"joiner", joiner})
	return addJoin(name, "join", left, right, innerJoiner(joiner))
}

// LeftJoin joins two tables on their keys (LEFT JOIN): a result row exists while
// the left side has one. The joiner is told whether there is a right row; without
// one it gets the zero value.
//
// What Join says of deletes, NULL and order holds here; see Join. When the right row is
// deleted, the result changes and stays.
func LeftJoin[K comparable, L, R, O any](
	name string, left topology.Table[K, L], right topology.Table[K, R],
	joiner func(l L, r R, hasRight bool) O,
) topology.Table[K, O] {
	given(builderOf(left, right), named("LeftJoin", name), function{"joiner", joiner})
	return addJoin(name, "left-join", left, right, leftJoiner(joiner))
}

// OuterJoin joins two tables on their keys (FULL OUTER JOIN): a result row exists
// while either side has one. The joiner is told which sides there are; a missing
// one is the zero value.
//
// For deletes, NULL and order see Join. The result ends when the last of both sides is
// deleted.
func OuterJoin[K comparable, L, R, O any](
	name string, left topology.Table[K, L], right topology.Table[K, R],
	joiner func(l L, hasLeft bool, r R, hasRight bool) O,
) topology.Table[K, O] {
	given(builderOf(left, right), named("OuterJoin", name), function{"joiner", joiner})
	return addJoin(name, "outer-join", left, right,
		func(l *L, hasL bool, r *R, hasR bool, o *O) bool {
			if hasL || hasR {
				*o = joiner(*l, hasL, *r, hasR)
			}
			return hasL || hasR
		})
}

// joinFunc computes the result of two sides into o and reports whether there is
// one. A side that is missing points to the zero value.
type joinFunc[L, R, O any] func(l *L, hasL bool, r *R, hasR bool, o *O) bool

func innerJoiner[L, R, O any](joiner func(L, R) O) joinFunc[L, R, O] {
	return func(l *L, hasL bool, r *R, hasR bool, o *O) bool {
		if hasL && hasR {
			*o = joiner(*l, *r)
		}
		return hasL && hasR
	}
}

func leftJoiner[L, R, O any](joiner func(L, R, bool) O) joinFunc[L, R, O] {
	return func(l *L, hasL bool, r *R, hasR bool, o *O) bool {
		if hasL {
			*o = joiner(*l, *r, hasR)
		}
		return hasL
	}
}

func addJoin[K comparable, L, R, O any](
	name string, kind topology.Kind, left topology.Table[K, L], right topology.Table[K, R],
	f joinFunc[L, R, O],
) topology.Table[K, O] {
	b := builderOf(left, right)
	leftCodec, errL := state.CodecOf[L]()
	outCodec, errO := state.CodecOf[O]()
	for _, err := range []error{errL, errO} {
		if err != nil {
			b.Errorf("topology: %s %q: %w", kind, name, err)
		}
	}
	return topology.AddTable[K, O](b, topology.Node{
		Name:      name,
		NeedsName: true,
		Kind:      kind,
		Inputs:    []*topology.Node{left.Node(), right.Node()},
		Needs:     topology.Needs(2, topology.ByKey()),

		TakesPolicy: true,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			j := &tableJoin[K, L, R, O]{
				cursor: newCursor[K](rt),
				left:   topology.TableInput[K, L](rt, 0), right: topology.TableInput[K, R](rt, 1),
				join: f, equalLeft: leftCodec.Equal, equalOut: outCodec.Equal,
			}
			return orGuarded[K, O](rt, j)
		},
	})
}

// tableJoin needs no store of its own: its inputs know their values before the
// step and now, and the joiner is a function.
type tableJoin[K comparable, L, R, O any] struct {
	changes[K, O]
	cursor[K]
	left      topology.TableOutput[K, L]
	right     topology.TableOutput[K, R]
	join      joinFunc[L, R, O]
	equalLeft func(a, b *L) bool
	equalOut  func(a, b *O) bool

	// The values at work. They are handed to a function value by pointer, so that as
	// local variables each would be an allocation.
	l      record.Versions[L]
	r      record.Versions[R]
	result record.Versions[O]
}

// Step does nothing: a join works when its output is walked.
func (j *tableJoin[K, L, R, O]) Step(*topology.Step) error { return nil }

// Changes joins, for each key that either side changed, old with old and new with
// new.
func (j *tableJoin[K, L, R, O]) Changes(yield func([]record.Change[K, O]) bool) error {
	return j.walk(j.compute, yield)
}

func (j *tableJoin[K, L, R, O]) compute(yield func([]record.Change[K, O]) bool) error {
	return j.each(j, j.equalOut, yield)
}

// touched visits the keys that either side changed, with both sides at hand.
func (j *tableJoin[K, L, R, O]) touched(visit func(key K) error) error {
	return touchedSides(&j.cursor, j.left, j.right, &j.l, &j.r, j.equalLeft, visit)
}

// touchedSides visits each key once that the left or the right side changed, with what
// both hold in l and r.
func touchedSides[K comparable, L, R any](
	at *cursor[K], left joinSideOf[K, L], right joinSideOf[K, R], l *record.Versions[L], r *record.Versions[R],
	equalLeft func(a, b *L) bool, visit func(key K) error,
) error {
	err := eachOf(left.Changes, func(c *record.Change[K, L]) (err error) {
		if *r, err = right.At(c.Key); err != nil {
			return err
		}
		*l = versionsOf(c)
		at.at(c.Key)
		return visit(c.Key)
	})
	if err != nil {
		return err
	}
	return eachOf(right.Changes, func(c *record.Change[K, R]) (err error) {
		if *l, err = left.At(c.Key); err != nil || changed(l, equalLeft) {
			return err // the left side has led to the key (invariant T2)
		}
		*r = versionsOf(c)
		at.at(c.Key)
		return visit(c.Key)
	})
}

// joinSideOf is a table as a join reads it.
type joinSideOf[K comparable, V any] interface {
	Changes(yield func([]record.Change[K, V]) bool) error
	At(key K) (record.Versions[V], error)
}

// combine joins the sides at hand.
func (j *tableJoin[K, L, R, O]) combine(c *record.Change[K, O]) error {
	c.Time = lastTime(&j.l, &j.r)
	c.Sides = joinSides(j.join, &j.l, &j.r, &c.Old, &c.New)
	return nil
}

// At joins the values of both sides.
func (j *tableJoin[K, L, R, O]) At(key K) (record.Versions[O], error) {
	var err error
	if j.l, err = j.left.At(key); err != nil {
		return record.Versions[O]{}, err
	}
	if j.r, err = j.right.At(key); err != nil {
		return record.Versions[O]{}, err
	}
	j.at(key)
	return joinVersions(j.join, &j.l, &j.r, &j.result), nil
}

// joinVersions joins old with old and new with new, by way of scratch.
func joinVersions[L, R, O any](
	join joinFunc[L, R, O], l *record.Versions[L], r *record.Versions[R], scratch *record.Versions[O],
) record.Versions[O] {
	*scratch = record.Versions[O]{Time: lastTime(l, r)}
	scratch.Sides = joinSides(join, l, r, &scratch.Old, &scratch.New)
	return *scratch
}

// lastTime is the event time of a result: the later one of the sides that have a
// row, or had one before the step. (A table may or may not remember when a row that is
// gone was deleted.)
func lastTime[L, R any](l *record.Versions[L], r *record.Versions[R]) int64 {
	switch {
	case l.Sides == 0:
		return r.Time
	case r.Sides == 0:
		return l.Time
	}
	return max(l.Time, r.Time)
}

// joinSides joins old with old and new with new (invariant T3).
func joinSides[L, R, O any](
	join joinFunc[L, R, O], l *record.Versions[L], r *record.Versions[R], older, newer *O,
) record.Sides {
	var sides record.Sides
	if join(&l.Old, l.HasOld(), &r.Old, r.HasOld(), older) {
		sides |= record.HasOld
	}
	if join(&l.New, l.HasNew(), &r.New, r.HasNew(), newer) {
		sides |= record.HasNew
	}
	return sides
}
