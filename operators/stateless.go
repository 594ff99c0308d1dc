package operators

import (
	"slices"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// addStateless adds a stream operator without state: f is called once a record in
// order and emits its results. split says that it may emit several, which then
// carry their index in the tag's path; divided whether keys stay.
func addStateless[K comparable, V any, K2 comparable, V2 any](
	in topology.Stream[K, V], kind topology.Kind,
	f func(ctx record.Context, k K, v V, emit func(K2, V2)) error, split bool,
	divided topology.Division,
) topology.Stream[K2, V2] {
	return topology.AddStream[K2, V2](in.Builder(), topology.Node{
		Kind:        kind,
		Inputs:      []*topology.Node{in.Node()},
		Needs:       topology.Needs(1, topology.Any()),
		Divided:     divided,
		TakesPolicy: true,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			o := &stateless[K, V, K2, V2]{
				cursor: newCursor[K](rt), node: rt.Node(), in: topology.StreamInput[K, V](rt, 0),
				f: f, split: split, guard: topology.NewGuard(rt),
			}
			o.emitFunc = o.emit
			return o, nil
		},
	})
}

// stateless runs its function in Step, so that it is called exactly once a record
// however many nodes read the result.
type stateless[K comparable, V any, K2 comparable, V2 any] struct {
	records[K2, V2]
	cursor[K]
	node     *topology.Node
	in       topology.StreamOutput[K, V]
	f        func(ctx record.Context, k K, v V, emit func(K2, V2)) error
	split    bool
	emitFunc func(K2, V2)
	guard    topology.Guard

	current *record.Record[K, V]
	index   uint32
	paths   paths
	again   []record.Record[K, V] // set aside before
}

// EndStep forgets the step's output.
func (o *stateless[K, V, K2, V2]) EndStep() {
	o.records.EndStep()
	o.again = nil
}

// ReplayLetter implements topology.LetterReplayer.
func (o *stateless[K, V, K2, V2]) ReplayLetter(l *topology.Letter) error {
	r, err := fromLetter[K, V](l)
	if err == nil {
		o.again = append(o.again, r)
	}
	return err
}

// DivideLetter implements topology.LetterReplayer.
func (o *stateless[K, V, K2, V2]) DivideLetter(l *topology.Letter) ([]byte, error) {
	return letterKey[K, V](l)
}

// Step calls the function for each record.
func (o *stateless[K, V, K2, V2]) Step(*topology.Step) error {
	err := eachOf(again(o.again, o.in.Records), func(r *record.Record[K, V]) error {
		o.current, o.index = r, 0
		o.at(r.Key)
		return o.one()
	})
	o.current = nil
	if o.split {
		inOrder(o.out)
	}
	return err
}

// one calls the function for the current record. What it emitted before it failed is
// taken back.
func (o *stateless[K, V, K2, V2]) one() error {
	r, before := o.current, len(o.out)
	ctx := recordContext(o.node, r)
	var err error
	if o.guard.On() {
		err = o.guard.Call(func() error { return o.f(ctx, r.Key, r.Value, o.emitFunc) })
	} else {
		err = o.f(ctx, r.Key, r.Value, o.emitFunc)
	}
	if err == nil {
		return nil
	}
	clear(o.out[before:])
	o.out = o.out[:before]
	return failed(&o.guard, o.node, r, ctx, err)
}

func (o *stateless[K, V, K2, V2]) emit(k K2, v V2) {
	tag := o.current.Tag
	if o.split {
		tag.Path = o.paths.index(tag.Path, o.index)
		o.index++
	}
	o.out = append(o.out, record.Record[K2, V2]{Key: k, Value: v, Time: o.current.Time, Tag: tag})
}

// records is the output of a stream node for one step.
type records[K comparable, V any] struct{ out []record.Record[K, V] }

// Records yields the step's records.
func (r *records[K, V]) Records(yield func([]record.Record[K, V]) bool) error {
	if len(r.out) > 0 {
		yield(r.out)
	}
	return nil
}

// inOrder puts a step's output in the order of its tags, which it mostly has: what time
// has brought about here may come before what time has brought about further up, and
// what one row has made may have come by ways of different length. Who makes the paths of
// tags longer calls it, since two of which one is the beginning of the other may change
// their order by that.
func inOrder[K comparable, V any](out []record.Record[K, V]) {
	compare := func(a, b record.Record[K, V]) int { return a.Tag.Compare(b.Tag) }
	if !slices.IsSortedFunc(out, compare) {
		slices.SortStableFunc(out, compare)
	}
}

// EndStep forgets the step's records.
func (r *records[K, V]) EndStep() {
	if cap(r.out) > 4*chunkSize {
		r.out = nil
		return
	}
	clear(r.out)
	r.out = r.out[:0]
}
