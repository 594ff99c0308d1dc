package operators

import (
	"errors"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// computed is a table operator whose result under a key is a function of what its inputs
// hold: what guarded needs of it.
type computed[K comparable, O any] interface {
	topology.Operator
	// touched visits each key once of which an input has changed in the step, with the
	// inputs at hand.
	touched(visit func(key K) error) error
	// load takes the inputs of a key at hand.
	load(key K) error
	// eval computes the result of the inputs at hand, as of after the step or before it,
	// and reports whether there is one.
	eval(newer bool, o *O) bool
	// changedAt is the event time of the inputs at hand.
	changedAt() int64
	// input is the newer side of the inputs at hand, for people.
	input() []byte
	CurrentKey() any
}

// guarded is a table operator with an error policy. It tries the user's function on each
// key that has changed when its inputs are complete, before anybody walks its output; a
// key that fails is parked with the output that it had. So Changes and At agree whatever
// fails (invariant T2): both take a parked key's output from the store.
type guarded[K comparable, O any] struct {
	changes[K, O]
	inner   computed[K, O]
	parking *topology.Parking
	keys    state.KeyCodec[K]
	codec   state.Codec[O]
	try     func() error
	tried   O
	// again are keys that are tried although no input of theirs has changed.
	again    []K
	key, buf []byte
}

// guard puts an operator under the error policy of the node that is being made; where it
// has none, nil is returned.
func guard[K comparable, O any](
	rt *topology.Runtime, part string, inner computed[K, O],
) (*guarded[K, O], error) {
	keys, errK := state.KeyCodecOf[K]()
	codec, errO := state.CodecOf[O]()
	if err := errors.Join(errK, errO); err != nil {
		return nil, err
	}
	p, err := topology.NewParking(rt, part)
	if p == nil || err != nil {
		return nil, err
	}
	g := &guarded[K, O]{inner: inner, parking: p, keys: keys, codec: codec}
	g.try = func() error {
		var zero O
		g.tried = zero
		g.inner.eval(true, &g.tried)
		return nil
	}
	return g, nil
}

// orGuarded returns the operator, under the policy of its node where that has one.
func orGuarded[K comparable, O any](
	rt *topology.Runtime, inner computedOutput[K, O],
) (topology.TableOutput[K, O], error) {
	g, err := guard(rt, "", inner)
	if err != nil {
		return nil, err
	}
	if g == nil {
		inner.keepOutput(fanOut(rt))
		return inner, nil
	}
	g.keep = fanOut(rt)
	return g, nil
}

// computedOutput is an operator with and without a policy.
type computedOutput[K comparable, O any] interface {
	computed[K, O]
	joinOutput[K, O]
}

// CurrentKey returns the key at work.
func (g *guarded[K, O]) CurrentKey() any { return g.inner.CurrentKey() }

// Step tries the keys that have changed, and those that are to be tried again.
func (g *guarded[K, O]) Step(s *topology.Step) error {
	if err := g.inner.Step(s); err != nil {
		return err
	}
	if n := len(s.Txs); n > 0 {
		g.parking.Begin(s.Txs[n-1])
	}
	if err := g.inner.touched(g.settle); err != nil {
		return err
	}
	for _, encoded := range g.parking.Retries() {
		key, _, err := g.keys.Decode([]byte(encoded))
		g.again = append(g.again, key)
		if err == nil {
			err = g.inner.load(key)
		}
		if err == nil {
			err = g.settle(key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settle tries a key whose inputs are at hand, and parks it if that fails.
func (g *guarded[K, O]) settle(key K) error {
	at := g.inner.changedAt()
	cause := g.parking.Call(g.try)
	g.key = g.keys.Append(g.key[:0], key)
	if cause == nil {
		return g.parking.Unpark(g.key, at)
	}
	was, err := g.parking.Get(g.key)
	if err != nil {
		return err
	}
	var has bool
	if was != nil {
		g.buf, has = append(g.buf[:0], was.Out...), was.Has
	} else {
		var out O
		if g.buf, has = g.buf[:0], g.inner.eval(false, &out); has {
			g.buf = g.codec.Append(g.buf, &out)
		}
	}
	return g.parking.Park(g.key, g.buf, has, topology.FailedInput{
		Key: key, Time: at, Cause: cause,
		JSON: func() (k, v []byte) { return inputJSON(&key), g.inner.input() },
	})
}

// Changes yields the changes of the keys that have changed and those tried again.
func (g *guarded[K, O]) Changes(yield func([]record.Change[K, O]) bool) error {
	return g.walk(g.compute, yield)
}

func (g *guarded[K, O]) compute(yield func([]record.Change[K, O]) bool) error {
	return g.each(g, g.codec.Equal, yield)
}

func (g *guarded[K, O]) touched(visit func(key K) error) error {
	err := g.inner.touched(visit)
	for i := 0; err == nil && i < len(g.again); i++ {
		if err = g.inner.load(g.again[i]); err == nil {
			err = visit(g.again[i])
		}
	}
	return err
}

func (g *guarded[K, O]) combine(c *record.Change[K, O]) error {
	var v record.Versions[O]
	err := g.versions(c.Key, &v)
	c.Old, c.New, c.Sides, c.Time = v.Old, v.New, v.Sides, v.Time
	return err
}

// versions finds a key's output before the step and now, with its inputs at hand.
func (g *guarded[K, O]) versions(key K, v *record.Versions[O]) error {
	g.key = g.keys.Append(g.key[:0], key)
	parked, err := g.parking.At(g.key)
	if err != nil {
		return err
	}
	v.Time = g.inner.changedAt()
	hasOld, hasNew := parked.Old.Has, parked.New.Has
	if !parked.HasOld() {
		hasOld = g.inner.eval(false, &v.Old)
	} else if hasOld {
		err = g.codec.Decode(parked.Old.Out, &v.Old)
	}
	if !parked.HasNew() {
		hasNew = g.inner.eval(true, &v.New)
	} else if v.Time = parked.Time; hasNew && err == nil {
		err = g.codec.Decode(parked.New.Out, &v.New)
	}
	v.Sides = with(with(0, record.HasOld, hasOld), record.HasNew, hasNew)
	return err
}

// At returns a key's output before the step and now.
func (g *guarded[K, O]) At(key K) (v record.Versions[O], err error) {
	if err = g.inner.load(key); err == nil {
		err = g.versions(key, &v)
	}
	return v, err
}

// EndStep forgets the step's output.
func (g *guarded[K, O]) EndStep() {
	g.changes.EndStep()
	g.inner.EndStep()
	g.parking.EndStep()
	g.again = nil
}

// rowFunc is the user's function of a table operator with one input: whether there is a
// result for a row, and which.
type rowFunc[K comparable, V, R any] func(k K, v *V, r *R) bool

// guardedRows is a Filter or MapValues under the policy of its node, nil where that has
// none. part names its store.
func guardedRows[K comparable, V, R any](
	rt *topology.Runtime, part string, in topology.TableOutput[K, V], f rowFunc[K, V, R],
) (*guarded[K, R], error) {
	return guard(rt, part, computed[K, R](&computedRows[K, V, R]{cursor: newCursor[K](rt), in: in, f: f}))
}

// gate lets rows through that check, which may panic, can take: a row that fails is held
// back, and what the table held under its key before stays. Without a policy it returns
// the table itself.
func gate[K comparable, V any](
	rt *topology.Runtime, in topology.TableOutput[K, V], check func(k K, v *V),
) (topology.TableOutput[K, V], error) {
	g, err := guardedRows(rt, topology.HeldRows, in, func(k K, v, out *V) bool {
		check(k, v)
		*out = *v
		return true
	})
	if g == nil || err != nil {
		return in, err
	}
	return g, nil
}

// computedRows computes each row of a table by itself.
type computedRows[K comparable, V, R any] struct {
	cursor[K]
	in topology.TableOutput[K, V]
	f  rowFunc[K, V, R]
	v  record.Versions[V]
}

func (*computedRows[K, V, R]) Step(*topology.Step) error { return nil }
func (*computedRows[K, V, R]) EndStep()                  {}

func (c *computedRows[K, V, R]) touched(visit func(key K) error) error {
	return eachOf(c.in.Changes, func(in *record.Change[K, V]) error {
		c.v = versionsOf(in)
		c.at(in.Key)
		return visit(in.Key)
	})
}

func (c *computedRows[K, V, R]) load(key K) (err error) {
	c.v, err = c.in.At(key)
	c.at(key)
	return err
}

func (c *computedRows[K, V, R]) eval(newer bool, o *R) bool {
	if newer {
		return c.v.HasNew() && c.f(c.key, &c.v.New, o)
	}
	return c.v.HasOld() && c.f(c.key, &c.v.Old, o)
}

func (c *computedRows[K, V, R]) changedAt() int64 { return c.v.Time }
func (c *computedRows[K, V, R]) input() []byte    { return inputJSON(&c.v.New) }

// kept keeps the output where several nodes read it.
func kept[K comparable, O any](rt *topology.Runtime, g *guarded[K, O]) topology.Operator {
	if g == nil {
		return nil
	}
	g.keep = fanOut(rt)
	return g
}

// behindGate is an operator that reads a table through a gate of its own: the gate works
// before it. Where there is none, it is the operator.
func behindGate[K comparable, V any, K2 comparable, O any](
	table, gate topology.TableOutput[K, V], op topology.TableOutput[K2, O],
) topology.TableOutput[K2, O] {
	if table == gate {
		return op
	}
	return &gated[K2, O]{TableOutput: op, gate: gate}
}

type gated[K comparable, O any] struct {
	topology.TableOutput[K, O]
	gate topology.Operator
}

// Step lets the step's rows through the gate first.
func (g *gated[K, O]) Step(s *topology.Step) error {
	if err := g.gate.Step(s); err != nil {
		return err
	}
	return g.TableOutput.Step(s)
}

// EndStep forgets the step.
func (g *gated[K, O]) EndStep() {
	g.gate.EndStep()
	g.TableOutput.EndStep()
}

// CurrentKey returns the key at work.
func (g *gated[K, O]) CurrentKey() any {
	if c, ok := g.TableOutput.(interface{ CurrentKey() any }); ok {
		return c.CurrentKey()
	}
	return nil
}
