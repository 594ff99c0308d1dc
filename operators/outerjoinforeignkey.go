package operators

import (
	"database/sql"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// EitherKey is the key of a row of an outer foreign-key join, which stands for a left
// row or, where no left row refers to it, for a right row. Exactly one of the two is
// valid: Left is the left row's key, Right is the right row's.
type EitherKey[K, F comparable] struct {
	Left  sql.Null[K]
	Right sql.Null[F]
}

// LeftKey is the EitherKey of a left row.
func LeftKey[K, F comparable](k K) EitherKey[K, F] {
	return EitherKey[K, F]{Left: sql.Null[K]{V: k, Valid: true}}
}

// RightKey is the EitherKey of a right row that no left row refers to.
func RightKey[K, F comparable](f F) EitherKey[K, F] {
	return EitherKey[K, F]{Right: sql.Null[F]{V: f, Valid: true}}
}

// OuterJoinForeignKey joins each row of left to the row of right that its foreign key
// names, and keeps the rows of both sides that have no partner (FULL OUTER JOIN ON
// right.key = fk(left)). The joiner is told which sides there are; a missing one is the
// zero value.
//
// A left row has one result, under LeftKey of its key, whether its right row is there
// or not. A right row that no left row refers to has one under RightKey of its key;
// when the first left row comes to refer to it that result ends, and it returns when
// the last one has left, all in the step in which that happens. Each key changes at
// most once in a step, also where foreign keys move and either table is truncated.
//
// As for all tables the last written row counts, also if its event time is older. The
// event time of a result is the later one of its sides'; that of a right row without
// references is its own or, where they have ended, the largest of theirs, if that is later.
//
// A row that is deleted ends its results. A foreign key that is NULL needs
// OuterJoinForeignKeyNull. Nothing is late, in whatever order rows come.
func OuterJoinForeignKey[K, F comparable, L, R, O any](
	name string, left topology.Table[K, L], right topology.Table[F, R],
	fk func(L) F, joiner func(l L, hasLeft bool, r R, hasRight bool) O,
) topology.Table[EitherKey[K, F], O] {
	given(builderOf(left, right), named("OuterJoinForeignKey", name),
		function{"fk", fk}, function{"joiner", joiner})
	return addOuterForeignKey(name, left, right, notNull(fk), joiner)
}

// OuterJoinForeignKeyNull is OuterJoinForeignKey with a foreign key that can be NULL:
// such a row refers to nothing and is joined without a right row.
func OuterJoinForeignKeyNull[K, F comparable, L, R, O any](
	name string, left topology.Table[K, L], right topology.Table[F, R],
	fk func(L) sql.Null[F], joiner func(l L, hasLeft bool, r R, hasRight bool) O,
) topology.Table[EitherKey[K, F], O] {
	given(builderOf(left, right), named("OuterJoinForeignKeyNull", name),
		function{"fk", fk}, function{"joiner", joiner})
	return addOuterForeignKey(name, left, right, nullable(fk), joiner)
}

// referencesStore counts who refers to each right row.
const referencesStore = "references"

func addOuterForeignKey[K, F comparable, L, R, O any](
	name string, left topology.Table[K, L], right topology.Table[F, R],
	fk func(*L) (F, bool), joiner func(l L, hasLeft bool, r R, hasRight bool) O,
) topology.Table[EitherKey[K, F], O] {
	const kind = "outer-join-foreign-key"
	b := builderOf(left, right)
	codecs := foreignKeyCodecsOf[K, F, L, O](b, kind, name)
	rightCodec, errR := state.CodecOf[R]()
	counts, errC := countCodec()
	for _, err := range []error{errR, errC} {
		if err != nil {
			b.Errorf("topology: %s %q: %w", kind, name, err)
		}
	}
	return topology.AddTable[EitherKey[K, F], O](b, topology.Node{
		Name:      name,
		NeedsName: true,
		Kind:      kind,
		Inputs:    []*topology.Node{left.Node(), right.Node()},
		Stores: []topology.StoreSpec{
			{Schema: foreignKeySchema}, {Name: referencesStore, Schema: counts.Fingerprint},
		},
		Parts: func() []*topology.Node {
			p := &foreignKeyParts[K, F, L, R, O]{
				answers: "answers", codecs: codecs, fk: fk, join: withLeft[L, R](joiner),
				references: func(rt *topology.Runtime) *state.Table[F, int64] {
					return newReferences(rt, codecs.fk, counts)
				},
			}
			return outerParts(p, left.Node(), right.Node(), unreferenced[L, R](joiner), rightCodec.Equal)
		},
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			rightIn := topology.TableInput[F, R](rt, 1)
			rows := newForeignKeyJoin(rt, "", codecs, topology.TableInput[K, L](rt, 0), rightIn, fk,
				withLeft[L, R](joiner))
			rows.references = newReferences(rt, codecs.fk, counts)
			j := &outerForeignKeyJoin[K, F, L, R, O]{rows: rows, references: rows.references}
			j.orphans = newOrphans(rt, rightIn, j.references, unreferenced[L, R](joiner), rightCodec.Equal,
				codecs.equalOut)
			j.keep = fanOut(rt)
			return j, nil
		},
	})
}

// newReferences makes the store that counts who refers to each right row.
func newReferences[F comparable](
	rt *topology.Runtime, fk state.KeyCodec[F], counts state.Codec[int64],
) *state.Table[F, int64] {
	t := state.NewTable(rt.Env, rt.StoreIDFor(referencesStore), fk, counts)
	rt.Register(t)
	return t
}

// newOrphans joins the right rows that have no references with nothing.
func newOrphans[F comparable, R, O any](
	rt *topology.Runtime, right topology.TableOutput[F, R], references *state.Table[F, int64],
	join joinFunc[R, int64, O], equalRight func(a, b *R) bool, equalOut func(a, b *O) bool,
) *tableJoin[F, R, int64, O] {
	return &tableJoin[F, R, int64, O]{
		cursor: newCursor[F](rt), left: right, right: stored[F, int64]{references},
		join: join, equalLeft: equalRight, equalOut: equalOut,
	}
}

// countCodec stores the number of references to a right row. Nobody sees the number
// itself: only that there are none makes a difference.
func countCodec() (state.Codec[int64], error) {
	c, err := state.CodecOf[int64]()
	c.Equal = func(*int64, *int64) bool { return true }
	return c, err
}

// withLeft joins the rows of the left side.
func withLeft[L, R, O any](joiner func(L, bool, R, bool) O) joinFunc[L, R, O] {
	return func(l *L, hasL bool, r *R, hasR bool, o *O) bool {
		if hasL {
			*o = joiner(*l, true, *r, hasR)
		}
		return hasL
	}
}

// unreferenced joins a right row that has no references with nothing.
func unreferenced[L, R, O any](joiner func(L, bool, R, bool) O) joinFunc[R, int64, O] {
	return func(r *R, hasR bool, _ *int64, referenced bool, o *O) bool {
		if !hasR || referenced {
			return false
		}
		var none L
		*o = joiner(none, false, *r, true)
		return true
	}
}

// keyedOutput is a table that knows the key at work.
type keyedOutput[K comparable, O any] interface {
	topology.TableOutput[K, O]
	CurrentKey() any
}

// outerForeignKeyJoin is the left join, and beside it the right rows without
// references.
type outerForeignKeyJoin[K, F comparable, L, R, O any] struct {
	changes[EitherKey[K, F], O]
	rows       keyedOutput[K, O]
	orphans    *tableJoin[F, R, int64, O]
	references *state.Table[F, int64]
	orphaned   bool // the orphans are at work
}

// CurrentKey returns the key at work.
func (j *outerForeignKeyJoin[K, F, L, R, O]) CurrentKey() any {
	if j.orphaned {
		return j.orphans.CurrentKey()
	}
	return j.rows.CurrentKey()
}

// Step brings the index and the counts up to date with the left side's changes.
func (j *outerForeignKeyJoin[K, F, L, R, O]) Step(s *topology.Step) error {
	j.orphaned = false
	return j.rows.Step(s)
}

// Changes yields the changes of left rows' results, then those of right rows that lost
// their last reference, or got their first, or changed without any.
func (j *outerForeignKeyJoin[K, F, L, R, O]) Changes(
	yield func([]record.Change[EitherKey[K, F], O]) bool,
) error {
	return j.walk(j.compute, yield)
}

func (j *outerForeignKeyJoin[K, F, L, R, O]) compute(
	yield func([]record.Change[EitherKey[K, F], O]) bool,
) error {
	more := true
	j.orphaned = false
	err := j.rows.Changes(func(chunk []record.Change[K, O]) bool {
		j.out = rekeyed(j.out[:0], chunk, LeftKey[K, F])
		more = yield(j.out)
		j.orphaned = false
		return more
	})
	if err != nil || !more {
		return err
	}
	j.orphaned = true
	return j.orphans.Changes(func(chunk []record.Change[F, O]) bool {
		j.out = rekeyed(j.out[:0], chunk, RightKey[K, F])
		more = yield(j.out)
		j.orphaned = true
		return more
	})
}

// rekeyed appends changes under other keys.
func rekeyed[K, K2 comparable, V any](
	out []record.Change[K2, V], in []record.Change[K, V], key func(K) K2,
) []record.Change[K2, V] {
	for i := range in {
		c := &in[i]
		out = append(out, record.Change[K2, V]{
			Key: key(c.Key), Old: c.Old, New: c.New, Sides: c.Sides, Time: c.Time,
		})
	}
	return out
}

// At returns the result of a left row, or of a right row without references.
func (j *outerForeignKeyJoin[K, F, L, R, O]) At(key EitherKey[K, F]) (record.Versions[O], error) {
	switch {
	case key.Left.Valid && !key.Right.Valid:
		j.orphaned = false
		return j.rows.At(key.Left.V)
	case key.Right.Valid && !key.Left.Valid:
		j.orphaned = true
		return j.orphans.At(key.Right.V)
	}
	return record.Versions[O]{}, nil // no row has such a key
}

// EndStep forgets the step's output and the old counts.
func (j *outerForeignKeyJoin[K, F, L, R, O]) EndStep() {
	j.changes.EndStep()
	j.rows.EndStep()
	j.orphans.EndStep()
	j.references.EndStep()
}
