package operators

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// AsOfOption changes one EnrichAsOf.
type AsOfOption func(*asOfOptions)

type asOfOptions struct{ grace time.Duration }

// WaitForRows holds each record back until the stream time of the events is grace past
// the record's own time, so that rows of the table that come late are met. Records go
// out in order of their times and keys then, as part of the transaction that let time
// pass, or of a heartbeat. A record that is itself that late, or later, is joined at once. The
// grace must not be negative, nor larger than the table's retention. Defaults to 0: no
// record waits.
func WaitForRows(grace time.Duration) AsOfOption {
	return func(o *asOfOptions) { o.grace = grace }
}

// EnrichAsOf joins each record of a stream to the row that a table had at the record's
// event time, under a key taken from the record (INNER JOIN). A record is dropped, and
// counted as no-row, if there was no row, or if its time is further back than the table's
// retention; LeftEnrichAsOf keeps it. The newest version of a row, however old, is known for good.
//
// Rows that come after a record has gone out do not touch it, whatever their time; see
// WaitForRows. Each transaction becomes a step of its own.
//
// Records that have gone out are never retracted. Without WaitForRows they stay in
// commit order, and none is too late but for the table's retention. EnrichAsOfContext
// knows keys that are NULL, which join nothing.
func EnrichAsOf[K comparable, V any, F comparable, R, O any](
	name string, events topology.Stream[K, V], table VersionedTable[F, R],
	key func(V) F, joiner func(V, R) O, opts ...AsOfOption,
) topology.Stream[K, O] {
	given(builderOf(events, table), named("EnrichAsOf", name),
		function{"key", key}, function{"joiner", joiner})
	return addEnrichAsOf(name, events, table,
		func(_ record.Context, _ K, v V) (F, bool, error) { return key(v), true, nil },
		onlyWithRow[K](joiner), true, opts)
}

// LeftEnrichAsOf is EnrichAsOf that keeps records without a row (LEFT JOIN), also those
// further back than the table's retention; the joiner is told whether there is one.
func LeftEnrichAsOf[K comparable, V any, F comparable, R, O any](
	name string, events topology.Stream[K, V], table VersionedTable[F, R],
	key func(V) F, joiner func(v V, r R, hasRow bool) O, opts ...AsOfOption,
) topology.Stream[K, O] {
	given(builderOf(events, table), named("LeftEnrichAsOf", name),
		function{"key", key}, function{"joiner", joiner})
	return EnrichAsOfContext(name, events, table,
		func(_ record.Context, _ K, v V) (F, bool, error) { return key(v), true, nil },
		func(_ record.Context, _ K, v V, r R, has bool) (O, bool, error) {
			return joiner(v, r, has), true, nil
		}, opts...)
}

// EnrichAsOfContext is the general form of EnrichAsOf: the key may be missing (NULL joins nothing),
// the joiner decides whether the record goes on, and both are told the record's context
// and may fail. The context of a record that has waited tells the transaction that let
// it go.
func EnrichAsOfContext[K comparable, V any, F comparable, R, O any](
	name string, events topology.Stream[K, V], table VersionedTable[F, R],
	key func(ctx record.Context, k K, v V) (f F, ok bool, err error),
	joiner func(ctx record.Context, k K, v V, r R, hasRow bool) (o O, emit bool, err error),
	opts ...AsOfOption,
) topology.Stream[K, O] {
	given(builderOf(events, table), named("EnrichAsOfContext", name),
		function{"key", key}, function{"joiner", joiner})
	return addEnrichAsOf(name, events, table, key, joiner, false, opts)
}

func addEnrichAsOf[K comparable, V any, F comparable, R, O any](
	name string, events topology.Stream[K, V], table VersionedTable[F, R],
	key func(ctx record.Context, k K, v V) (f F, ok bool, err error),
	joiner func(ctx record.Context, k K, v V, r R, hasRow bool) (o O, emit bool, err error),
	inner bool, opts []AsOfOption,
) topology.Stream[K, O] {
	var o asOfOptions
	for _, opt := range opts {
		opt(&o)
	}
	b := builderOf(events, table)
	n := topology.Node{
		Name: name, NeedsName: true, Kind: "enrich-as-of", PerTransaction: true,
		Inputs:  []*topology.Node{events.Node(), table.Node()},
		Needs:   []topology.Need{byLookUp[K, V, F]("enrich-as-of", key), topology.ByKey()},
		Divided: topology.DividedOtherwise,
	}
	if o.grace == 0 {
		n.New = func(rt *topology.Runtime) (topology.Operator, error) {
			return newEnrichAsOf(rt, key, joiner, inner), nil
		}
		return topology.AddStream[K, O](b, n)
	}
	keyCodec, errK := state.KeyCodecOf[K]()
	codec, errV := state.CodecOf[V]()
	divider, errF := topology.DividerOf[F]()
	for _, err := range []error{errK, errV, errF, checkGrace(o.grace, table.retention)} {
		if err != nil {
			b.Errorf("topology: enrich-as-of %q: %w", name, err)
		}
	}
	n.Stores = []topology.StoreSpec{
		{Schema: "waiting-2:" + codec.Fingerprint}, {Name: "timers", Schema: timerSchema},
	}
	n.UsesTime, n.Detail = true, "grace="+o.grace.String()
	n.New = func(rt *topology.Runtime) (topology.Operator, error) {
		w := &waitingEnrich[K, V, F, R, O]{
			enrichAsOf: newEnrichAsOf(rt, key, joiner, inner), timers: newTimers(rt, "timers", waitingDivision),
			grace: o.grace.Microseconds(), keyCodec: keyCodec, codec: codec, divider: divider,
			waiting: state.NewOrdered(rt.Env, rt.StoreIDFor("")),
		}
		rt.Register(w.waiting)
		return w, nil
	}
	return topology.AddStream[K, O](b, n)
}

func checkGrace(grace, retention time.Duration) error {
	if err := checkSpan("grace", grace, 0); err != nil {
		return err
	}
	if grace > retention {
		return fmt.Errorf("records wait for %v, but the table's history reaches back %v only; "+
			"make the retention of Versioned at least as long", grace, retention)
	}
	return nil
}

// asOfTable is the running form of a table with history.
type asOfTable[K comparable, V any] interface {
	asOf(key K, at, before int64) (value V, has bool, err error)
}

// enrichAsOf joins every record at once.
type enrichAsOf[K comparable, V any, F comparable, R, O any] struct {
	records[K, O]
	cursor[K]
	node   *topology.Node
	events topology.StreamOutput[K, V]
	table  asOfTable[F, R]
	before int64 // the table's stream time before the step
	keyOf  func(ctx record.Context, k K, v V) (f F, ok bool, err error)
	joiner func(ctx record.Context, k K, v V, r R, hasRow bool) (o O, emit bool, err error)
	// without counts what goes no further.
	without noRows
}

func newEnrichAsOf[K comparable, V any, F comparable, R, O any](
	rt *topology.Runtime,
	key func(ctx record.Context, k K, v V) (f F, ok bool, err error),
	joiner func(ctx record.Context, k K, v V, r R, hasRow bool) (o O, emit bool, err error),
	inner bool,
) *enrichAsOf[K, V, F, R, O] {
	return &enrichAsOf[K, V, F, R, O]{
		cursor: newCursor[K](rt), node: rt.Node(), events: topology.StreamInput[K, V](rt, 0),
		// A VersionedTable's node has no other running form.
		table: topology.TableInput[F, R](rt, 1).(asOfTable[F, R]), keyOf: key, joiner: joiner,
		without: newNoRows(rt, inner),
	}
}

// Step joins the step's records.
func (e *enrichAsOf[K, V, F, R, O]) Step(s *topology.Step) error {
	err := e.each(s, e.one)
	e.without.report()
	return err
}

// each calls fn for each record of the step.
func (e *enrichAsOf[K, V, F, R, O]) each(s *topology.Step, fn func(r *record.Record[K, V]) error) error {
	e.without.n = 0
	e.before = s.Before[e.node.Inputs[1].ID]
	return eachOf(e.events.Records, fn)
}

func (e *enrichAsOf[K, V, F, R, O]) one(r *record.Record[K, V]) error {
	e.at(r.Key)
	ctx := recordContext(e.node, r)
	f, ok, err := e.keyOf(ctx, r.Key, r.Value)
	if err != nil {
		return e.fail(r, err)
	}
	var row R
	if ok {
		if row, ok, err = e.table.asOf(f, r.Time, e.before); err != nil {
			return err
		}
	}
	o, emit, err := e.joiner(ctx, r.Key, r.Value, row, ok)
	if err != nil {
		return e.fail(r, err)
	}
	e.without.see(ok)
	if emit {
		e.out = append(e.out, record.Record[K, O]{Key: r.Key, Value: o, Time: r.Time, Tag: r.Tag})
	}
	return nil
}

func (e *enrichAsOf[K, V, F, R, O]) fail(r *record.Record[K, V], err error) error {
	return &topology.Failure{Node: e.node, Key: r.Key, Tx: r.Tag.Tx, Err: userError(err)}
}

// waitingEnrich holds records back until their time has come.
type waitingEnrich[K comparable, V any, F comparable, R, O any] struct {
	*enrichAsOf[K, V, F, R, O]
	*timers
	grace    int64
	keyCodec state.KeyCodec[K]
	codec    state.Codec[V]
	divider  topology.Divider[F]
	waiting  *state.Ordered      // key, place of the record -> value
	late     record.Record[K, V] // the one at work that has waited
	id, val  []byte
	by       []byte
	time     []byte
	paths    paths
}

// waitingDivision finds what the timer of a waiting record is divided by: that follows
// the key under which the record waits, and its length, two bytes, follows it.
func waitingDivision(timer []byte) []byte {
	if end := len(timer) - 2; end >= 0 {
		if size := int(binary.BigEndian.Uint16(timer[end:])); size <= end {
			return timer[end-size : end]
		}
	}
	return nil
}

// Step joins those of the step's records whose time has come, and then the ones that
// have waited, in order of their times and keys.
func (w *waitingEnrich[K, V, F, R, O]) Step(s *topology.Step) error {
	// Only the events' time counts: rows of the table may run ahead.
	due := s.After[w.node.Inputs[0].ID]
	if due >= math.MinInt64+w.grace {
		due -= w.grace
	}
	err := w.each(s, func(r *record.Record[K, V]) error {
		if r.Time <= due {
			return w.one(r)
		}
		return w.wait(r)
	})
	if err != nil {
		return err
	}
	err = w.fire(due, func(at int64, id []byte) error { return w.release(s, at, id) })
	inOrder(w.out)
	w.without.report()
	return err
}

func (w *waitingEnrich[K, V, F, R, O]) wait(r *record.Record[K, V]) error {
	w.id = appendTag(w.keyCodec.Append(w.id[:0], r.Key), r.Tag)
	w.val = w.codec.Append(w.val[:0], &r.Value)
	if err := w.waiting.Set(w.id, w.val); err != nil {
		return err
	}
	w.by = lookUpKey(w.by[:0], w.node, r, w.keyOf, &w.divider)
	if len(w.by) > math.MaxUint16 {
		return fmt.Errorf("operators: a key of %d bytes is looked up; at most %d can be", len(w.by), math.MaxUint16)
	}
	w.id = append(w.id, w.by...)
	w.id = binary.BigEndian.AppendUint16(w.id, uint16(len(w.by)))
	return w.set(r.Time, w.id)
}

// release joins a record that has waited.
func (w *waitingEnrich[K, V, F, R, O]) release(s *topology.Step, at int64, timer []byte) error {
	if len(timer) < 2 {
		return fmt.Errorf("%w: timer of %d bytes", state.ErrCorrupt, len(timer))
	}
	id := timer[:len(timer)-2-len(waitingDivision(timer))]
	val, ok, err := w.waiting.Get(w.val[:0], id)
	w.val = val
	if err == nil && !ok {
		err = fmt.Errorf("%w: a record that waits is not there", state.ErrCorrupt)
	}
	if err != nil {
		return err
	}
	r := &w.late
	*r = record.Record[K, V]{Time: at}
	if r.Key, _, err = w.keyCodec.Decode(id); err != nil {
		return err
	}
	if err = w.codec.Decode(val, &r.Value); err != nil {
		return err
	}
	w.time = appendTime(w.time[:0], at)
	r.Tag = lateTag(s, w.paths.join("", w.time, id))
	if err := w.waiting.Delete(id); err != nil {
		return err
	}
	return w.one(r)
}

// NextTimer is the stream time at which the next record goes out.
func (w *waitingEnrich[K, V, F, R, O]) NextTimer() (at int64, ok bool) {
	if at, ok = w.timers.NextTimer(); at > math.MaxInt64-w.grace {
		return math.MaxInt64, ok
	}
	return at + w.grace, ok
}
