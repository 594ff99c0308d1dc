package operators

import (
	"database/sql"
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// Reference is a table that the rows of another table refer to, by a foreign key: see
// Refer. Rows without a partner in it drop out of the result, unless it is Optional.
type Reference[L any, F comparable, R any] struct {
	table    topology.Table[F, R]
	fk       func(*L) (F, bool)
	optional bool
}

// Refer says that rows of type L refer to rows of a table by fk.
//
// For what becomes of rows that change, are deleted or come out of order see
// JoinForeignKeys2.
func Refer[L any, F comparable, R any](table topology.Table[F, R], fk func(L) F) Reference[L, F, R] {
	return Reference[L, F, R]{table: table, fk: notNull(fk)}
}

// ReferNull is Refer with a foreign key that can be NULL: such a row has no partner.
func ReferNull[L any, F comparable, R any](
	table topology.Table[F, R], fk func(L) sql.Null[F],
) Reference[L, F, R] {
	return Reference[L, F, R]{table: table, fk: nullable(fk)}
}

// Optional keeps rows without a partner (LEFT JOIN): the joiner gets NULL for it.
func (r Reference[L, F, R]) Optional() Reference[L, F, R] {
	r.optional = true
	return r
}

// JoinForeignKeys2 joins each row of left to the rows of two tables that its foreign
// keys name, in one operator. The result has left's key. A change of a right row
// changes the result of every left row that refers to it; however many of the tables a
// transaction touches, and if both foreign keys move at once, each result row changes
// at most once, from its value before to its value after. The joiner's arguments are
// NULL where an Optional reference has no partner. The same table may be referred to
// twice, and left may refer to itself.
//
// A result ends when its left row is deleted or a partner of a reference that is not
// Optional is. As for all tables the last written row counts, also if its event time is
// older; the event time of a result is the latest of its rows'.
//
// Nothing is late, in whatever order rows come.
func JoinForeignKeys2[K, F1, F2 comparable, L, R1, R2, O any](
	name string, left topology.Table[K, L], first Reference[L, F1, R1], second Reference[L, F2, R2],
	joiner func(l L, r1 sql.Null[R1], r2 sql.Null[R2]) O,
) topology.Table[K, O] {
	given(builderOf(left, first.table, second.table), named("JoinForeignKeys2", name),
		function{"first reference's fk", first.fk}, function{"second reference's fk", second.fk},
		function{"joiner", joiner})
	b := builderOf(left, first.table, second.table)
	equal := bothOf[L, R1](b, joinForeignKeysKind, name)
	one := foreignKeyStage[K, F1](b, name, equal.equalA, equal.equal)
	two := foreignKeyStage[K, F2](b, name, equal.equal, equalOf[O](b, joinForeignKeysKind, name))
	fk2 := func(l *both[L, R1]) (F2, bool) { return second.fk(&l.a) }
	last := func(l *both[L, R1], hasL bool, r *R2, hasR bool, o *O) bool {
		if !hasL || !l.hasB && !first.optional || !hasR && !second.optional {
			return false
		}
		*o = joiner(l.a, sql.Null[R1]{V: l.b, Valid: l.hasB}, sql.Null[R2]{V: *r, Valid: hasR})
		return true
	}
	parts := func() []*topology.Node {
		p1 := partOf(1, one, first.fk, keepLeft[L, R1]).add(left.Node(), first.table.Node())
		return append(p1, partOf(2, two, fk2, last).add(p1[len(p1)-1], second.table.Node())...)
	}
	return addForeignKeys[K, L, O](b, name, left.Node(),
		[]referenceInfo{first.info(), second.info()}, parts,
		func(_ K, l *L) { first.fk(l); second.fk(l) },
		func(rt *topology.Runtime, in topology.TableOutput[K, L]) (computedOutput[K, O], []stage[K, L]) {
			s1 := newForeignKeyJoin(rt, "1", one, in, topology.TableInput[F1, R1](rt, 1), first.fk, keepLeft[L, R1])
			s2 := newForeignKeyJoin(rt, "2", two, s1, topology.TableInput[F2, R2](rt, 2), fk2, last)
			return s2, []stage[K, L]{stageOf(s1, s1.foreignKeys, first.fk), stageOf(s2, s2.foreignKeys, second.fk)}
		})
}

// JoinForeignKeys3 is JoinForeignKeys2 with three references.
func JoinForeignKeys3[K, F1, F2, F3 comparable, L, R1, R2, R3, O any](
	name string, left topology.Table[K, L], first Reference[L, F1, R1], second Reference[L, F2, R2],
	third Reference[L, F3, R3], joiner func(l L, r1 sql.Null[R1], r2 sql.Null[R2], r3 sql.Null[R3]) O,
) topology.Table[K, O] {
	given(builderOf(left, first.table, second.table, third.table), named("JoinForeignKeys3", name),
		function{"first reference's fk", first.fk}, function{"second reference's fk", second.fk},
		function{"third reference's fk", third.fk}, function{"joiner", joiner})
	type two = both[L, R1]
	type three = both[two, R2]
	b := builderOf(left, first.table, second.table, third.table)
	equalTwo := bothOf[L, R1](b, joinForeignKeysKind, name)
	equalThree := bothCodec[two, R2]{equalTwo.equal, equalOf[R2](b, joinForeignKeysKind, name)}
	one := foreignKeyStage[K, F1](b, name, equalTwo.equalA, equalTwo.equal)
	mid := foreignKeyStage[K, F2](b, name, equalTwo.equal, equalThree.equal)
	last := foreignKeyStage[K, F3](b, name, equalThree.equal, equalOf[O](b, joinForeignKeysKind, name))
	fk2 := func(l *two) (F2, bool) { return second.fk(&l.a) }
	fk3 := func(l *three) (F3, bool) { return third.fk(&l.a.a) }
	result := func(l *three, hasL bool, r *R3, hasR bool, o *O) bool {
		if !hasL || !l.a.hasB && !first.optional || !l.hasB && !second.optional || !hasR && !third.optional {
			return false
		}
		*o = joiner(l.a.a, sql.Null[R1]{V: l.a.b, Valid: l.a.hasB},
			sql.Null[R2]{V: l.b, Valid: l.hasB}, sql.Null[R3]{V: *r, Valid: hasR})
		return true
	}
	parts := func() []*topology.Node {
		p1 := partOf(1, one, first.fk, keepLeft[L, R1]).add(left.Node(), first.table.Node())
		p2 := partOf(2, mid, fk2, keepLeft[two, R2]).add(p1[len(p1)-1], second.table.Node())
		p3 := partOf(3, last, fk3, result).add(p2[len(p2)-1], third.table.Node())
		return append(append(p1, p2...), p3...)
	}
	return addForeignKeys[K, L, O](b, name, left.Node(),
		[]referenceInfo{first.info(), second.info(), third.info()}, parts,
		func(_ K, l *L) { first.fk(l); second.fk(l); third.fk(l) },
		func(rt *topology.Runtime, in topology.TableOutput[K, L]) (computedOutput[K, O], []stage[K, L]) {
			s1 := newForeignKeyJoin(rt, "1", one, in, topology.TableInput[F1, R1](rt, 1), first.fk, keepLeft[L, R1])
			s2 := newForeignKeyJoin(rt, "2", mid, s1, topology.TableInput[F2, R2](rt, 2), fk2, keepLeft[two, R2])
			s3 := newForeignKeyJoin(rt, "3", last, s2, topology.TableInput[F3, R3](rt, 3), fk3, result)
			return s3, []stage[K, L]{
				stageOf(s1, s1.foreignKeys, first.fk), stageOf(s2, s2.foreignKeys, second.fk),
				stageOf(s3, s3.foreignKeys, third.fk),
			}
		})
}

// keepLeft pairs a row with its partner, if there is one: whether there has to be one is
// for the last join to say.
func keepLeft[L, R any](l *L, hasL bool, r *R, hasR bool, o *both[L, R]) bool {
	if hasL {
		*o = both[L, R]{a: *l, b: *r, hasA: true, hasB: hasR}
	}
	return hasL
}

// partOf makes the parts of one of the joins of a node; see foreignKeyParts.
func partOf[K, F comparable, L, R, O any](
	number int, codecs foreignKeyCodecs[K, F, L, O], fk func(*L) (F, bool), join joinFunc[L, R, O],
) *foreignKeyParts[K, F, L, R, O] {
	store := strconv.Itoa(number)
	return &foreignKeyParts[K, F, L, R, O]{
		index: store, answers: "answers-" + store, codecs: codecs, fk: fk, join: join,
	}
}

const joinForeignKeysKind = "join-foreign-keys"

// foreignKeyStage makes the codecs of one of the joins. What is compared is set by the
// caller: pairs are never stored and have no codec of their own.
func foreignKeyStage[K, F comparable, L, O any](
	b *topology.Builder, name string, equalLeft func(x, y *L) bool, equalOut func(x, y *O) bool,
) foreignKeyCodecs[K, F, L, O] {
	keyCodec, errK := state.KeyCodecOf[K]()
	fkCodec, errF := state.KeyCodecOf[F]()
	for _, err := range []error{errK, errF} {
		if err != nil {
			b.Errorf("topology: %s %q: %w", joinForeignKeysKind, name, err)
		}
	}
	return foreignKeyCodecs[K, F, L, O]{keyCodec, fkCodec, equalLeft, equalOut}
}

// referenceInfo is what the node needs of a reference.
type referenceInfo struct {
	node     *topology.Node
	optional bool
}

func (r Reference[L, F, R]) info() referenceInfo { return referenceInfo{r.table.Node(), r.optional} }

// stage is one of the joins of a node: the result of the one before, joined to one more
// table.
type stage[K comparable, L any] struct {
	topology.Operator
	// reindex brings the index up to date with a change of the left table.
	reindex func(c *record.Change[K, L]) error
}

func stageOf[K, F comparable, L any](
	op topology.Operator, index *foreignKeys[K, F], fk func(*L) (F, bool),
) stage[K, L] {
	return stage[K, L]{op, func(c *record.Change[K, L]) error { return reindex(index, c, fk) }}
}

// addForeignKeys adds a node that is a chain of foreign-key joins.
func addForeignKeys[K comparable, L, O any](
	b *topology.Builder, name string, left *topology.Node, references []referenceInfo,
	parts func() []*topology.Node, keys func(K, *L),
	open func(rt *topology.Runtime, in topology.TableOutput[K, L]) (computedOutput[K, O], []stage[K, L]),
) topology.Table[K, O] {
	inputs := []*topology.Node{left}
	stores := make([]topology.StoreSpec, len(references))
	detail := make([]string, len(references))
	for i, r := range references {
		inputs = append(inputs, r.node)
		stores[i] = topology.StoreSpec{Name: strconv.Itoa(i + 1), Schema: foreignKeySchema}
		detail[i] = presence(r.optional)
	}
	return topology.AddTable[K, O](b, topology.Node{
		Name:   name,
		Kind:   joinForeignKeysKind,
		Inputs: inputs,
		Stores: stores,
		Detail: strings.Join(detail, ","),
		Parts:  parts,

		TakesPolicy: true,
		HoldsRows:   true,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			table := topology.TableInput[K, L](rt, 0)
			in, err := gate(rt, table, keys)
			if err != nil {
				return nil, err
			}
			last, stages := open(rt, in)
			out, err := orGuarded[K, O](rt, indexed[K, O]{last})
			return behindGate(table, in, topology.TableOutput[K, O](&foreignKeyChain[K, L, O]{
				TableOutput: out, left: in, stages: stages, cursor: newCursor[K](rt),
			})), err
		},
	})
}

// foreignKeyChain is a chain of foreign-key joins in one node. Foreign keys are the
// left row's, so that all indexes follow the left table, however many results a change
// of a right row has.
type foreignKeyChain[K comparable, L, O any] struct {
	topology.TableOutput[K, O]
	cursor   cursor[K]
	indexing bool
	left     topology.TableOutput[K, L]
	stages   []stage[K, L]
}

// CurrentKey returns the key at work.
func (j *foreignKeyChain[K, L, O]) CurrentKey() any {
	if j.indexing {
		return j.cursor.CurrentKey()
	}
	return j.TableOutput.(interface{ CurrentKey() any }).CurrentKey()
}

// Step brings the indexes up to date with the left table's changes.
func (j *foreignKeyChain[K, L, O]) Step(step *topology.Step) error {
	j.indexing = true
	err := eachOf(j.left.Changes, func(c *record.Change[K, L]) error {
		j.cursor.at(c.Key)
		for _, s := range j.stages {
			if err := s.reindex(c); err != nil {
				return err
			}
		}
		return nil
	})
	j.indexing = false
	if err != nil {
		return err
	}
	return j.TableOutput.Step(step)
}

// EndStep forgets the step's output.
func (j *foreignKeyChain[K, L, O]) EndStep() {
	for _, s := range j.stages {
		s.EndStep()
	}
	j.TableOutput.EndStep()
}

// indexed is the last stage, the index of which the chain keeps.
type indexed[K comparable, O any] struct{ computedOutput[K, O] }

// Step does nothing.
func (indexed[K, O]) Step(*topology.Step) error { return nil }
