package operators

import (
	"database/sql"
	"strings"

	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// Side is one of the tables of a join of several: see Required and Optional.
type Side[K comparable, V any] struct {
	table    topology.Table[K, V]
	optional bool
}

// Required is a side without which there is no result row.
//
// See JoinSides3.
func Required[K comparable, V any](t topology.Table[K, V]) Side[K, V] { return Side[K, V]{table: t} }

// Optional is a side that may be missing: the joiner then gets NULL for it.
//
// See JoinSides3.
func Optional[K comparable, V any](t topology.Table[K, V]) Side[K, V] {
	return Side[K, V]{table: t, optional: true}
}

// Join3 joins three tables on their keys (INNER JOIN): a result row exists while all of
// them have one. It is one operator: however many rows of however many sides a
// transaction touches, each key of the result changes at most once, from its value
// before to its value after. The same table may be given more than once.
//
// As for Join, the last written row of a side counts, also if its event time is older;
// a row that is deleted on any side ends the result; the event time of a result is the
// latest of its sides'.
//
// NULL keys match one another, as for Join, and nothing is late, in whatever order rows
// come.
func Join3[K comparable, A, B, C, O any](
	name string, a topology.Table[K, A], b topology.Table[K, B], c topology.Table[K, C],
	joiner func(A, B, C) O,
) topology.Table[K, O] {
	given(builderOf(a, b, c), named("Join3", name), function{"joiner", joiner})
	return JoinSides3(name, Required(a), Required(b), Required(c),
		func(a sql.Null[A], b sql.Null[B], c sql.Null[C]) O { return joiner(a.V, b.V, c.V) })
}

// Join4 is Join3 of four tables.
func Join4[K comparable, A, B, C, D, O any](
	name string, a topology.Table[K, A], b topology.Table[K, B], c topology.Table[K, C],
	d topology.Table[K, D], joiner func(A, B, C, D) O,
) topology.Table[K, O] {
	given(builderOf(a, b, c, d), named("Join4", name), function{"joiner", joiner})
	return JoinSides4(name, Required(a), Required(b), Required(c), Required(d),
		func(a sql.Null[A], b sql.Null[B], c sql.Null[C], d sql.Null[D]) O {
			return joiner(a.V, b.V, c.V, d.V)
		})
}

// JoinSides3 joins three tables on their keys, of which some may have no row. A result
// row exists while every Required side has a row and at least one side has: one required
// side and two optional ones are two LEFT JOINs, three optional ones a FULL OUTER JOIN.
// See Join3 for what holds besides.
func JoinSides3[K comparable, A, B, C, O any](
	name string, a Side[K, A], b Side[K, B], c Side[K, C],
	joiner func(a sql.Null[A], b sql.Null[B], c sql.Null[C]) O,
) topology.Table[K, O] {
	given(builderOf(a.table, b.table, c.table), named("JoinSides3", name), function{"joiner", joiner})
	on := builderOf(a.table, b.table, c.table)
	left := bothOf[A, B](on, joinSidesKind, name)
	equal := equalOf[O](on, joinSidesKind, name)
	return addJoinSides[K, O](on, name, []sideInfo{a.info(), b.info(), c.info()},
		func(rt *topology.Runtime) (computedOutput[K, O], []topology.Operator) {
			ab := joinBoth(rt, left, sideInput[K, A](rt, 0), sideInput[K, B](rt, 1))
			return &tableJoin[K, both[A, B], C, O]{
				cursor: newCursor[K](rt), left: ab, right: sideInput[K, C](rt, 2),
				equalLeft: left.equal, equalOut: equal,
				join: func(ab *both[A, B], _ bool, cv *C, hasC bool, o *O) bool {
					if !ab.hasA && !a.optional || !ab.hasB && !b.optional || !hasC && !c.optional ||
						!ab.hasA && !ab.hasB && !hasC {
						return false
					}
					*o = joiner(sql.Null[A]{V: ab.a, Valid: ab.hasA}, sql.Null[B]{V: ab.b, Valid: ab.hasB},
						sql.Null[C]{V: *cv, Valid: hasC})
					return true
				},
			}, []topology.Operator{ab}
		})
}

// JoinSides4 is JoinSides3 of four tables.
func JoinSides4[K comparable, A, B, C, D, O any](
	name string, a Side[K, A], b Side[K, B], c Side[K, C], d Side[K, D],
	joiner func(a sql.Null[A], b sql.Null[B], c sql.Null[C], d sql.Null[D]) O,
) topology.Table[K, O] {
	given(builderOf(a.table, b.table, c.table, d.table), named("JoinSides4", name),
		function{"joiner", joiner})
	on := builderOf(a.table, b.table, c.table, d.table)
	left := bothOf[A, B](on, joinSidesKind, name)
	right := bothOf[C, D](on, joinSidesKind, name)
	equal := equalOf[O](on, joinSidesKind, name)
	return addJoinSides[K, O](on, name, []sideInfo{a.info(), b.info(), c.info(), d.info()},
		func(rt *topology.Runtime) (computedOutput[K, O], []topology.Operator) {
			ab := joinBoth(rt, left, sideInput[K, A](rt, 0), sideInput[K, B](rt, 1))
			cd := joinBoth(rt, right, sideInput[K, C](rt, 2), sideInput[K, D](rt, 3))
			return &tableJoin[K, both[A, B], both[C, D], O]{
				cursor: newCursor[K](rt), left: ab, right: cd, equalLeft: left.equal, equalOut: equal,
				join: func(l *both[A, B], _ bool, r *both[C, D], _ bool, o *O) bool {
					if !l.hasA && !a.optional || !l.hasB && !b.optional ||
						!r.hasA && !c.optional || !r.hasB && !d.optional ||
						!l.hasA && !l.hasB && !r.hasA && !r.hasB {
						return false
					}
					*o = joiner(sql.Null[A]{V: l.a, Valid: l.hasA}, sql.Null[B]{V: l.b, Valid: l.hasB},
						sql.Null[C]{V: r.a, Valid: r.hasA}, sql.Null[D]{V: r.b, Valid: r.hasB})
					return true
				},
			}, []topology.Operator{ab, cd}
		})
}

// sideInfo is what the node needs of a side.
type sideInfo struct {
	node     *topology.Node
	optional bool
}

func (s Side[K, V]) info() sideInfo { return sideInfo{s.table.Node(), s.optional} }

func sideInput[K comparable, V any](rt *topology.Runtime, i int) topology.TableOutput[K, V] {
	return topology.TableInput[K, V](rt, i)
}

// joinOutput is the join that puts out the result of a join of several tables.
type joinOutput[K comparable, O any] interface {
	topology.TableOutput[K, O]
	CurrentKey() any
	keepOutput(keep bool)
}

func (c *changes[K, V]) keepOutput(keep bool) { c.keep = keep }

// addJoinSides adds a node that is a tree of joins.
func addJoinSides[K comparable, O any](
	b *topology.Builder, name string, sides []sideInfo,
	open func(rt *topology.Runtime) (result computedOutput[K, O], inner []topology.Operator),
) topology.Table[K, O] {
	inputs := make([]*topology.Node, len(sides))
	detail := make([]string, len(sides))
	for i, s := range sides {
		inputs[i], detail[i] = s.node, presence(s.optional)
	}
	return topology.AddTable[K, O](b, topology.Node{
		Name:      name,
		NeedsName: true,
		Kind:      joinSidesKind,
		Inputs:    inputs,
		Needs:     topology.Needs(len(inputs), topology.ByKey()),
		Detail:    strings.Join(detail, ","),

		TakesPolicy: true,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			out, inner := open(rt)
			join, err := orGuarded[K, O](rt, out)
			return &joinTree[K, O]{TableOutput: join, inner: inner}, err
		},
	})
}

// presence is what describe prints of a side.
func presence(optional bool) string {
	if optional {
		return "optional"
	}
	return "required"
}

const joinSidesKind = "join-sides"

// joinTree is a join of joins in one node. The inner ones keep no state, so that there
// is nothing to do for them in a step.
type joinTree[K comparable, O any] struct {
	topology.TableOutput[K, O]
	inner []topology.Operator
}

// CurrentKey returns the key at work.
func (t *joinTree[K, O]) CurrentKey() any {
	return t.TableOutput.(interface{ CurrentKey() any }).CurrentKey()
}

// EndStep forgets the step's output.
func (t *joinTree[K, O]) EndStep() {
	t.TableOutput.EndStep()
	for _, op := range t.inner {
		op.EndStep()
	}
}

// both holds what two sides have under a key.
type both[A, B any] struct {
	a          A
	b          B
	hasA, hasB bool
}

// bothCodec compares pairs.
type bothCodec[A, B any] struct {
	equalA func(x, y *A) bool
	equalB func(x, y *B) bool
}

func bothOf[A, B any](b *topology.Builder, kind topology.Kind, name string) bothCodec[A, B] {
	return bothCodec[A, B]{equalOf[A](b, kind, name), equalOf[B](b, kind, name)}
}

func (c bothCodec[A, B]) equal(x, y *both[A, B]) bool {
	return x.hasA == y.hasA && x.hasB == y.hasB &&
		(!x.hasA || c.equalA(&x.a, &y.a)) && (!x.hasB || c.equalB(&x.b, &y.b))
}

// equalOf returns how values are compared; what is wrong with the type goes to b.
func equalOf[V any](b *topology.Builder, kind topology.Kind, name string) func(x, y *V) bool {
	codec, err := state.CodecOf[V]()
	if err != nil {
		b.Errorf("topology: %s %q: %w", kind, name, err)
	}
	return codec.Equal
}

// joinBoth pairs the rows of two tables, of which either may be missing.
func joinBoth[K comparable, A, B any](
	rt *topology.Runtime, codec bothCodec[A, B],
	left topology.TableOutput[K, A], right topology.TableOutput[K, B],
) *tableJoin[K, A, B, both[A, B]] {
	return &tableJoin[K, A, B, both[A, B]]{
		cursor: newCursor[K](rt), left: left, right: right, equalLeft: codec.equalA, equalOut: codec.equal,
		join: func(a *A, hasA bool, b *B, hasB bool, o *both[A, B]) bool {
			*o = both[A, B]{a: *a, b: *b, hasA: hasA, hasB: hasB}
			return hasA || hasB
		},
	}
}
