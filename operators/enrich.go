package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Enrich joins each record of a stream to the row of a table under a key taken
// from the record (INNER JOIN: a record without a row is dropped, and counted as no-row;
// LeftEnrich keeps it). The table is seen as of the record's own transaction, all of it:
// an event and the reference row written with it meet, whatever their order in the log.
//
// A later change of the row does not touch records that have gone out. Because of
// "as of", each transaction becomes a step of its own.
//
// Records are facts: nothing is retracted when the row changes or is deleted later.
// Event times do not matter, so nothing is late, and records come in their own order.
// EnrichContext knows keys that are NULL, which join nothing; in a key of type sql.Null,
// NULL finds the row whose key is NULL.
func Enrich[K comparable, V any, F comparable, R, O any](
	name string, events topology.Stream[K, V], table topology.Table[F, R],
	key func(V) F, joiner func(V, R) O,
) topology.Stream[K, O] {
	given(builderOf(events, table), named("Enrich", name),
		function{"key", key}, function{"joiner", joiner})
	return addEnrich(name, "enrich", events, table,
		func(_ record.Context, _ K, v V) (F, bool, error) { return key(v), true, nil },
		onlyWithRow[K](joiner), true)
}

// LeftEnrich is Enrich that keeps records without a row (LEFT JOIN); the joiner is
// told whether there is one.
func LeftEnrich[K comparable, V any, F comparable, R, O any](
	name string, events topology.Stream[K, V], table topology.Table[F, R],
	key func(V) F, joiner func(v V, r R, hasRow bool) O,
) topology.Stream[K, O] {
	given(builderOf(events, table), named("LeftEnrich", name),
		function{"key", key}, function{"joiner", joiner})
	return EnrichContext(name, events, table,
		func(_ record.Context, _ K, v V) (F, bool, error) { return key(v), true, nil },
		func(_ record.Context, _ K, v V, r R, has bool) (O, bool, error) {
			return joiner(v, r, has), true, nil
		})
}

// EnrichContext is the general form of Enrich: the key may be missing (NULL joins nothing),
// the joiner decides whether the record goes on, and both are told the record's
// context and may fail.
func EnrichContext[K comparable, V any, F comparable, R, O any](
	name string, events topology.Stream[K, V], table topology.Table[F, R],
	key func(ctx record.Context, k K, v V) (f F, ok bool, err error),
	joiner func(ctx record.Context, k K, v V, r R, hasRow bool) (o O, emit bool, err error),
) topology.Stream[K, O] {
	given(builderOf(events, table), named("EnrichContext", name),
		function{"key", key}, function{"joiner", joiner})
	return addEnrich(name, "enrich", events, table, key, joiner, false)
}

// onlyWithRow leaves records without a row out.
func onlyWithRow[K comparable, V, R, O any](
	joiner func(V, R) O,
) func(record.Context, K, V, R, bool) (O, bool, error) {
	return func(_ record.Context, _ K, v V, r R, has bool) (O, bool, error) {
		if !has {
			var none O
			return none, false, nil
		}
		return joiner(v, r), true, nil
	}
}

// noRows counts the records of a step that an inner join drops because there is no row.
type noRows struct {
	inner bool // else the joiner was told, and decides
	node  *topology.Node
	drop  func(n *topology.Node, reason string, count int)
	n     int
}

func newNoRows(rt *topology.Runtime, inner bool) noRows {
	return noRows{inner: inner, node: rt.Node(), drop: rt.Drop}
}

func (c *noRows) see(hasRow bool) {
	if c.inner && !hasRow {
		c.n++
	}
}

// report hands over the count, and begins anew.
func (c *noRows) report() {
	if c.n > 0 && c.drop != nil {
		c.drop(c.node, topology.DropNoRow, c.n)
	}
	c.n = 0
}

// addEnrich adds an enrichment; inner says that its joiner emits records with a row and
// no others.
func addEnrich[K comparable, V any, F comparable, R, O any](
	name string, kind topology.Kind, events topology.Stream[K, V], table topology.Table[F, R],
	key func(ctx record.Context, k K, v V) (f F, ok bool, err error),
	joiner func(ctx record.Context, k K, v V, r R, hasRow bool) (o O, emit bool, err error),
	inner bool,
) topology.Stream[K, O] {
	return topology.AddStream[K, O](builderOf(events, table), topology.Node{
		Name:           name,
		NeedsName:      true,
		Kind:           kind,
		PerTransaction: true,
		TakesPolicy:    true,
		ReadsGlobal:    kind == enrichGlobalKind,
		Inputs:         []*topology.Node{events.Node(), table.Node()},
		Needs:          []topology.Need{byLookUp[K, V, F](kind, key), topology.ByKey()},
		Divided:        enrichDivision(kind),
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			return &enrich[K, V, F, R, O]{
				cursor: newCursor[K](rt), node: rt.Node(), events: topology.StreamInput[K, V](rt, 0),
				table: topology.TableInput[F, R](rt, 1), keyOf: key, joiner: joiner, guard: topology.NewGuard(rt),
				without: newNoRows(rt, inner),
			}, nil
		},
	})
}

type enrich[K comparable, V any, F comparable, R, O any] struct {
	records[K, O]
	cursor[K]
	node   *topology.Node
	events topology.StreamOutput[K, V]
	table  topology.TableOutput[F, R]
	keyOf  func(ctx record.Context, k K, v V) (f F, ok bool, err error)
	joiner func(ctx record.Context, k K, v V, r R, hasRow bool) (o O, emit bool, err error)
	guard  topology.Guard
	again  []record.Record[K, V] // set aside before
	// without counts what goes no further.
	without noRows
}

// EndStep forgets the step's output.
func (e *enrich[K, V, F, R, O]) EndStep() {
	e.records.EndStep()
	e.again = nil
}

// ReplayLetter implements topology.LetterReplayer.
func (e *enrich[K, V, F, R, O]) ReplayLetter(l *topology.Letter) error {
	r, err := fromLetter[K, V](l)
	if err == nil {
		e.again = append(e.again, r)
	}
	return err
}

// DivideLetter implements topology.LetterReplayer: the record goes where the row is.
func (e *enrich[K, V, F, R, O]) DivideLetter(l *topology.Letter) ([]byte, error) {
	if e.node.Kind == enrichGlobalKind {
		return letterKey[K, V](l)
	}
	r, err := fromLetter[K, V](l)
	if err != nil {
		return nil, err
	}
	d, err := topology.DividerOf[F]()
	if err != nil {
		return nil, nil //nolint:nilerr // All rows are in one partition.
	}
	return lookUpKey(nil, e.node, &r, e.keyOf, &d), nil
}

// Step joins the records. The step holds one transaction, so the table's value
// now is its value as of the record's transaction.
func (e *enrich[K, V, F, R, O]) Step(*topology.Step) error {
	e.without.n = 0
	err := eachOf(again(e.again, e.events.Records), e.one)
	e.without.report()
	return err
}

func (e *enrich[K, V, F, R, O]) one(r *record.Record[K, V]) error {
	e.at(r.Key)
	ctx := recordContext(e.node, r)
	var f F
	var ok bool
	err := e.call(func() (err error) { f, ok, err = e.keyOf(ctx, r.Key, r.Value); return err })
	if err != nil {
		return failed(&e.guard, e.node, r, ctx, err)
	}
	var row record.Versions[R]
	if ok {
		if row, err = e.table.At(f); err != nil {
			return err
		}
		e.at(r.Key)
	}
	var o O
	var emit bool
	err = e.call(func() (err error) {
		o, emit, err = e.joiner(ctx, r.Key, r.Value, row.New, row.HasNew())
		return err
	})
	if err != nil {
		return failed(&e.guard, e.node, r, ctx, err)
	}
	e.without.see(row.HasNew())
	if emit {
		e.out = append(e.out, record.Record[K, O]{Key: r.Key, Value: o, Time: r.Time, Tag: r.Tag})
	}
	return nil
}

// call calls a user function, and guards against its panic where the node has an error
// policy. Looking the row up is outside of it: that runs the functions of other nodes.
func (e *enrich[K, V, F, R, O]) call(f func() error) error {
	if e.guard.On() {
		return e.guard.Call(f)
	}
	return f()
}
