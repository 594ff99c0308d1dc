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
func JoinForeignKey[K, F comparable, L, R, O any](
	name string, left topology.Table[K, L], right topology.Table[F, R],
	fk func(L) F, joiner func(L, R) O,
) topology.Table[K, O] {
	return addForeignKey(name, "join-foreign-key", left, right, notNull(fk), innerJoiner(joiner))
}

// JoinForeignKeyNull is JoinForeignKey with a foreign key that can be NULL: such
// a row joins nothing.
func JoinForeignKeyNull[K, F comparable, L, R, O any](
	name string, left topology.Table[K, L], right topology.Table[F, R],
	fk func(L) sql.Null[F], joiner func(L, R) O,
) topology.Table[K, O] {
	return addForeignKey(name, "join-foreign-key", left, right, nullable(fk), innerJoiner(joiner))
}

// LeftJoinForeignKey is JoinForeignKey that keeps left rows without a right row
// (LEFT JOIN); the joiner is told whether there is one.
func LeftJoinForeignKey[K, F comparable, L, R, O any](
	name string, left topology.Table[K, L], right topology.Table[F, R],
	fk func(L) F, joiner func(l L, r R, hasRight bool) O,
) topology.Table[K, O] {
	return addForeignKey(name, "left-join-foreign-key", left, right, notNull(fk), leftJoiner(joiner))
}

// LeftJoinForeignKeyNull is LeftJoinForeignKey with a foreign key that can be
// NULL: such a row is joined without a right row.
func LeftJoinForeignKeyNull[K, F comparable, L, R, O any](
	name string, left topology.Table[K, L], right topology.Table[F, R],
	fk func(L) sql.Null[F], joiner func(l L, r R, hasRight bool) O,
) topology.Table[K, O] {
	return addForeignKey(name, "left-join-foreign-key", left, right, nullable(fk), leftJoiner(joiner))
}

func notNull[L any, F comparable](fk func(L) F) func(*L) (F, bool) {
	return func(l *L) (F, bool) { return fk(*l), true }
}

func nullable[L any, F comparable](fk func(L) sql.Null[F]) func(*L) (F, bool) {
	return func(l *L) (F, bool) {
		f := fk(*l)
		return f.V, f.Valid
	}
}

func addForeignKey[K, F comparable, L, R, O any](
	name string, kind topology.Kind, left topology.Table[K, L], right topology.Table[F, R],
	fk func(*L) (F, bool), join joinFunc[L, R, O],
) topology.Table[K, O] {
	b := left.Builder()
	keyCodec, errK := state.KeyCodecOf[K]()
	fkCodec, errF := state.KeyCodecOf[F]()
	leftCodec, errL := state.CodecOf[L]()
	outCodec, errO := state.CodecOf[O]()
	for _, err := range []error{errK, errF, errL, errO} {
		if err != nil {
			b.Errorf("topology: %s %q: %w", kind, name, err)
		}
	}
	return topology.AddTable[K, O](b, topology.Node{
		Name:      name,
		NeedsName: true,
		Kind:      kind,
		Inputs:    []*topology.Node{left.Node(), right.Node()},
		Stores:    []topology.StoreSpec{{Schema: "foreign-key-index-1"}},
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			j := &foreignKeyJoin[K, F, L, R, O]{
				cursor: newCursor[K](rt),
				left:   topology.TableInput[K, L](rt, 0), right: topology.TableInput[F, R](rt, 1),
				fk: fk, join: join, equalLeft: leftCodec.Equal, equalOut: outCodec.Equal,
				keyCodec: keyCodec, fkCodec: fkCodec,
				index: state.NewOrdered(rt.Env, rt.StoreIDFor("")),
			}
			j.keep = fanOut(rt)
			rt.Register(j.index)
			return j, nil
		},
	})
}

// foreignKeyJoin keeps an index from foreign key to left key, so that a change of
// a right row finds its left rows. Everything else it asks of its inputs.
type foreignKeyJoin[K, F comparable, L, R, O any] struct {
	changes[K, O]
	cursor[K]
	left      topology.TableOutput[K, L]
	right     topology.TableOutput[F, R]
	fk        func(*L) (F, bool)
	join      joinFunc[L, R, O]
	equalLeft func(a, b *L) bool
	equalOut  func(a, b *O) bool
	keyCodec  state.KeyCodec[K]
	fkCodec   state.KeyCodec[F]
	index     *state.Ordered // fk bytes, left key bytes -> nothing

	buf      []byte
	prefix   []byte
	children []K

	// The values at work; see tableJoin.
	l      record.Versions[L]
	r      record.Versions[R]
	result record.Versions[O]
}

// Step brings the index up to date with the left side's changes.
func (j *foreignKeyJoin[K, F, L, R, O]) Step(*topology.Step) error {
	var failed error
	err := j.left.Changes(func(chunk []record.Change[K, L]) bool {
		for i := range chunk {
			if failed = j.reindex(&chunk[i]); failed != nil {
				return false
			}
		}
		return true
	})
	return firstError(err, failed)
}

func (j *foreignKeyJoin[K, F, L, R, O]) reindex(c *record.Change[K, L]) error {
	j.at(c.Key)
	var oldFK, newFK F
	var hadFK, hasFK bool
	if c.HasOld() {
		oldFK, hadFK = j.fk(&c.Old)
	}
	if c.HasNew() {
		newFK, hasFK = j.fk(&c.New)
	}
	if hadFK == hasFK && oldFK == newFK {
		return nil
	}
	if hadFK {
		if err := j.index.Delete(j.indexKey(oldFK, c.Key)); err != nil {
			return err
		}
	}
	if hasFK {
		return j.index.Set(j.indexKey(newFK, c.Key), nil)
	}
	return nil
}

func (j *foreignKeyJoin[K, F, L, R, O]) indexKey(f F, k K) []byte {
	j.buf = j.keyCodec.Append(j.fkCodec.Append(j.buf[:0], f), k)
	return j.buf
}

// Changes yields the result's changes: first of the left rows that changed, then
// of those whose right row did.
func (j *foreignKeyJoin[K, F, L, R, O]) Changes(yield func([]record.Change[K, O]) bool) error {
	return j.walk(j.compute, yield)
}

func (j *foreignKeyJoin[K, F, L, R, O]) compute(yield func([]record.Change[K, O]) bool) error {
	var failed error
	more := true
	err := j.left.Changes(func(chunk []record.Change[K, L]) bool {
		j.out = j.out[:0]
		for i := range chunk {
			c := &chunk[i]
			j.l = record.Versions[L]{Old: c.Old, New: c.New, Sides: c.Sides, Time: c.Time}
			if j.r, failed = j.rightOf(c.Key); failed != nil {
				return false
			}
			j.append(c.Key)
		}
		more = len(j.out) == 0 || yield(j.out)
		return more
	})
	if err != nil || failed != nil || !more {
		return firstError(err, failed)
	}
	j.out = j.out[:0]
	err = j.right.Changes(func(chunk []record.Change[F, R]) bool {
		for i := range chunk {
			c := &chunk[i]
			r := record.Versions[R]{Old: c.Old, New: c.New, Sides: c.Sides, Time: c.Time}
			if more, failed = j.emitChildren(c.Key, &r, yield); !more || failed != nil {
				return false
			}
		}
		return true
	})
	if err == nil && failed == nil && more && len(j.out) > 0 {
		yield(j.out)
	}
	return firstError(err, failed)
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

// append appends the change of one left row, whose sides are at hand.
func (j *foreignKeyJoin[K, F, L, R, O]) append(key K) {
	j.at(key)
	j.out = append(j.out, record.Change[K, O]{Key: key, Time: lastTime(&j.l, &j.r)})
	c := &j.out[len(j.out)-1]
	c.Sides = joinSides(j.join, &j.l, &j.r, &c.Old, &c.New)
	j.out = dropEqual(j.out, j.equalOut)
}

// emitChildren appends the changes of the left rows under a right row that
// changed. Left rows that changed themselves have been emitted before.
func (j *foreignKeyJoin[K, F, L, R, O]) emitChildren(
	f F, r *record.Versions[R], yield func([]record.Change[K, O]) bool,
) (more bool, err error) {
	j.prefix = j.fkCodec.Append(j.prefix[:0], f)
	from := j.prefix
	for from != nil {
		if from, err = j.nextChildren(j.prefix, from); err != nil {
			return false, err
		}
		for _, key := range j.children {
			if j.l, err = j.left.At(key); err != nil {
				return false, err
			}
			if changed(&j.l, j.equalLeft) {
				continue
			}
			j.r = *r // again for each row: who is handed a chunk may look rows up here
			j.append(key)
			if len(j.out) < chunkSize {
				continue
			}
			if !yield(j.out) {
				return false, nil
			}
			j.out = j.out[:0]
		}
	}
	return true, nil
}

// nextChildren collects up to chunkSize left keys under prefix, beginning at from,
// and returns where to go on, nil at the end. Collecting them in pieces bounds
// memory whatever the number of children.
func (j *foreignKeyJoin[K, F, L, R, O]) nextChildren(prefix, from []byte) (next []byte, err error) {
	var failed error
	j.children = j.children[:0]
	err = j.index.ScanRange(from, state.PrefixEnd(prefix), false, func(key, _ []byte) bool {
		if len(j.children) == chunkSize {
			next = append([]byte(nil), key...)
			return false
		}
		k, _, err := j.keyCodec.Decode(key[len(prefix):])
		if err != nil {
			failed = err
			return false
		}
		j.children = append(j.children, k)
		return true
	})
	return next, firstError(err, failed)
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
