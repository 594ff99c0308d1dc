package operators

import (
	"database/sql"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// JoinForeignKey joins each row of left to the row of right that its foreign key
// names (INNER JOIN ON right.key = fk(left)). The result has left's key. A change
// of a right row changes the result of every left row that refers to it; a left
// row whose foreign key moves changes once, from its old result to its new one.
//
// A row that is deleted on either side deletes its results. A foreign key that is NULL
// needs JoinForeignKeyNull. As for all tables the last written row counts, also if it
// comes out of order by event time, so nothing is late; the event time of a result is
// the later one of its two rows', in whatever order they came.
func JoinForeignKey[K, F comparable, L, R, O any](
	name string, left topology.Table[K, L], right topology.Table[F, R],
	fk func(L) F, joiner func(L, R) O,
) topology.Table[K, O] {
	given(builderOf(left, right), named("JoinForeignKey", name),
		function{"fk", fk}, function{"joiner", joiner})
	return addForeignKey(name, "join-foreign-key", left, right, notNull(fk), innerJoiner(joiner))
}

// JoinForeignKeyNull is JoinForeignKey with a foreign key that can be NULL: such
// a row joins nothing.
func JoinForeignKeyNull[K, F comparable, L, R, O any](
	name string, left topology.Table[K, L], right topology.Table[F, R],
	fk func(L) sql.Null[F], joiner func(L, R) O,
) topology.Table[K, O] {
	given(builderOf(left, right), named("JoinForeignKeyNull", name),
		function{"fk", fk}, function{"joiner", joiner})
	return addForeignKey(name, "join-foreign-key", left, right, nullable(fk), innerJoiner(joiner))
}

// LeftJoinForeignKey is JoinForeignKey that keeps left rows without a right row
// (LEFT JOIN); the joiner is told whether there is one.
func LeftJoinForeignKey[K, F comparable, L, R, O any](
	name string, left topology.Table[K, L], right topology.Table[F, R],
	fk func(L) F, joiner func(l L, r R, hasRight bool) O,
) topology.Table[K, O] {
	given(builderOf(left, right), named("LeftJoinForeignKey", name),
		function{"fk", fk}, function{"joiner", joiner})
	return addForeignKey(name, "left-join-foreign-key", left, right, notNull(fk), leftJoiner(joiner))
}

// LeftJoinForeignKeyNull is LeftJoinForeignKey with a foreign key that can be
// NULL: such a row is joined without a right row.
func LeftJoinForeignKeyNull[K, F comparable, L, R, O any](
	name string, left topology.Table[K, L], right topology.Table[F, R],
	fk func(L) sql.Null[F], joiner func(l L, r R, hasRight bool) O,
) topology.Table[K, O] {
	given(builderOf(left, right), named("LeftJoinForeignKeyNull", name),
		function{"fk", fk}, function{"joiner", joiner})
	return addForeignKey(name, "left-join-foreign-key", left, right, nullable(fk), leftJoiner(joiner))
}

func notNull[L any, F comparable](fk func(L) F) func(*L) (F, bool) {
	if fk == nil {
		return nil // which given reports
	}
	return func(l *L) (F, bool) { return fk(*l), true }
}

func nullable[L any, F comparable](fk func(L) sql.Null[F]) func(*L) (F, bool) {
	if fk == nil {
		return nil
	}
	return func(l *L) (F, bool) {
		f := fk(*l)
		return f.V, f.Valid
	}
}

// addForeignKey adds a node that is one foreign-key join.
func addForeignKey[K, F comparable, L, R, O any](
	name string, kind topology.Kind, left topology.Table[K, L], right topology.Table[F, R],
	fk func(*L) (F, bool), join joinFunc[L, R, O],
) topology.Table[K, O] {
	b := builderOf(left, right)
	codecs := foreignKeyCodecsOf[K, F, L, O](b, kind, name)
	return topology.AddTable[K, O](b, topology.Node{
		Name:      name,
		NeedsName: true,
		Kind:      kind,
		Inputs:    []*topology.Node{left.Node(), right.Node()},
		Stores:    []topology.StoreSpec{{Schema: foreignKeySchema}},
		Parts: func() []*topology.Node {
			p := &foreignKeyParts[K, F, L, R, O]{
				index: "", answers: "answers", codecs: codecs, fk: fk, join: join,
			}
			return p.add(left.Node(), right.Node())
		},

		TakesPolicy: true,
		HoldsRows:   true,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			in, err := gate(rt, topology.TableInput[K, L](rt, 0), func(_ K, l *L) { fk(l) })
			if err != nil {
				return nil, err
			}
			j := newForeignKeyJoin(rt, "", codecs, in, topology.TableInput[F, R](rt, 1), fk, join)
			out, err := orGuarded[K, O](rt, j)
			return behindGate(topology.TableInput[K, L](rt, 0), in, out), err
		},
	})
}

// foreignKeySchema is the fingerprint of an index of foreign keys.
const foreignKeySchema = "foreign-key-index-1"

// foreignKeyCodecs are what a foreign-key join encodes and compares with.
type foreignKeyCodecs[K, F comparable, L, O any] struct {
	key       state.KeyCodec[K]
	fk        state.KeyCodec[F]
	equalLeft func(a, b *L) bool
	equalOut  func(a, b *O) bool
}

// foreignKeyCodecsOf makes the codecs; what is wrong with the types goes to b.
func foreignKeyCodecsOf[K, F comparable, L, O any](
	b *topology.Builder, kind topology.Kind, name string,
) foreignKeyCodecs[K, F, L, O] {
	keyCodec, errK := state.KeyCodecOf[K]()
	fkCodec, errF := state.KeyCodecOf[F]()
	leftCodec, errL := state.CodecOf[L]()
	outCodec, errO := state.CodecOf[O]()
	for _, err := range []error{errK, errF, errL, errO} {
		if err != nil {
			b.Errorf("topology: %s %q: %w", kind, name, err)
		}
	}
	return foreignKeyCodecs[K, F, L, O]{keyCodec, fkCodec, leftCodec.Equal, outCodec.Equal}
}

// newForeignKeyJoin makes the running form of a join, with its index in the given
// store of the node that is being made.
func newForeignKeyJoin[K, F comparable, L, R, O any](
	rt *topology.Runtime, store string, codecs foreignKeyCodecs[K, F, L, O],
	left topology.TableOutput[K, L], right topology.TableOutput[F, R],
	fk func(*L) (F, bool), join joinFunc[L, R, O],
) *foreignKeyJoin[K, F, L, R, O] {
	return &foreignKeyJoin[K, F, L, R, O]{
		cursor: newCursor[K](rt), left: left, right: right, fk: fk, join: join,
		equalLeft: codecs.equalLeft, equalOut: codecs.equalOut,
		foreignKeys: newForeignKeys(rt, store, codecs.key, codecs.fk),
	}
}

// foreignKeyJoin keeps an index from foreign key to left key, so that a change of
// a right row finds its left rows. Everything else it asks of its inputs.
type foreignKeyJoin[K, F comparable, L, R, O any] struct {
	changes[K, O]
	cursor[K]
	*foreignKeys[K, F]
	left      topology.TableOutput[K, L]
	right     topology.TableOutput[F, R]
	fk        func(*L) (F, bool)
	join      joinFunc[L, R, O]
	equalLeft func(a, b *L) bool
	equalOut  func(a, b *O) bool

	// The values at work; see tableJoin.
	l      record.Versions[L]
	r      record.Versions[R]
	result record.Versions[O]
}

// Step brings the index up to date with the left side's changes.
func (j *foreignKeyJoin[K, F, L, R, O]) Step(*topology.Step) error {
	return eachOf(j.left.Changes, func(c *record.Change[K, L]) error {
		j.at(c.Key)
		return reindex(j.foreignKeys, c, j.fk)
	})
}

// Changes yields the result's changes: first of the left rows that changed, then
// of those whose right row did.
func (j *foreignKeyJoin[K, F, L, R, O]) Changes(yield func([]record.Change[K, O]) bool) error {
	return j.walk(j.compute, yield)
}

func (j *foreignKeyJoin[K, F, L, R, O]) compute(yield func([]record.Change[K, O]) bool) error {
	return j.each(j, j.equalOut, yield)
}

// touched visits the left rows that changed, or whose right row did, with both at hand.
func (j *foreignKeyJoin[K, F, L, R, O]) touched(visit func(key K) error) error {
	err := eachOf(j.left.Changes, func(c *record.Change[K, L]) (err error) {
		j.l = versionsOf(c)
		if j.r, err = j.rightOf(c.Key); err != nil {
			return err
		}
		j.at(c.Key)
		return visit(c.Key)
	})
	if err != nil {
		return err
	}
	return eachOf(j.right.Changes, func(c *record.Change[F, R]) error {
		r := versionsOf(c)
		return j.touchedChildren(c.Key, &r, visit)
	})
}

// rightOf returns the right row of the left row at hand: before the step under the
// old foreign key, and now under the new one.
func (j *foreignKeyJoin[K, F, L, R, O]) rightOf(key K) (record.Versions[R], error) {
	var out record.Versions[R]
	l := &j.l
	j.at(key)
	var oldFK, newFK F
	var hadFK, hasFK bool
	if l.HasOld() {
		oldFK, hadFK = j.fk(&l.Old)
	}
	if l.HasNew() {
		newFK, hasFK = j.fk(&l.New)
	}
	if hadFK {
		r, err := j.right.At(oldFK)
		if err != nil {
			return out, err
		}
		if hasFK && newFK == oldFK {
			return r, nil
		}
		out = r
		out.Narrow(record.HasOld)
		out.Time = l.Time // the row that was left behind says nothing of the result
	}
	if hasFK {
		r, err := j.right.At(newFK)
		if err != nil {
			return out, err
		}
		if r.HasNew() {
			out.New, out.Time = r.New, r.Time
			out.Sides |= record.HasNew
		}
	}
	return out, nil
}

// combine joins the rows at hand.
func (j *foreignKeyJoin[K, F, L, R, O]) combine(c *record.Change[K, O]) error {
	c.Time = lastTime(&j.l, &j.r)
	c.Sides = joinSides(j.join, &j.l, &j.r, &c.Old, &c.New)
	return nil
}

// touchedChildren visits the left rows under a right row that changed, but for those
// that changed themselves.
func (j *foreignKeyJoin[K, F, L, R, O]) touchedChildren(
	f F, r *record.Versions[R], visit func(key K) error,
) error {
	j.find(f)
	for {
		found, err := j.nextChildren()
		if err != nil || !found {
			return err
		}
		for _, key := range j.children {
			if j.l, err = j.left.At(key); err != nil {
				return err
			}
			if changed(&j.l, j.equalLeft) {
				continue
			}
			j.r = *r // again for each row: who visits may look rows up here
			j.at(key)
			if err := visit(key); err != nil {
				return err
			}
		}
	}
}

// At joins the left row with the right rows its foreign keys name.
func (j *foreignKeyJoin[K, F, L, R, O]) At(key K) (record.Versions[O], error) {
	var err error
	if j.l, err = j.left.At(key); err != nil {
		return record.Versions[O]{}, err
	}
	if j.r, err = j.rightOf(key); err != nil {
		return record.Versions[O]{}, err
	}
	j.at(key)
	return joinVersions(j.join, &j.l, &j.r, &j.result), nil
}
