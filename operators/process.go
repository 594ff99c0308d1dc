package operators

import (
	"fmt"
	"math"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// Processor is an operator of your own: it is given the records of a stream one by one
// in commit order, keeps state in stores, waits for stream time with timers, and puts
// out any number of records. It must be deterministic: what it does may depend on its
// stores and its arguments only, not on clocks, chance or fields that it sets, since
// work is repeated after a crash.
//
// An error or a panic stops the topology, with the node and the key, before the
// transaction.
type Processor[K comparable, V any, K2 comparable, V2 any] interface {
	// Process takes a record.
	Process(ctx *ProcessContext[K, K2, V2], r record.Record[K, V]) error
	// Timer is called when stream time has reached a time that was set for a key:
	// after the records of the transaction that let it pass, in order of time and key.
	Timer(ctx *ProcessContext[K, K2, V2], key K, at time.Time) error
}

// Process runs a processor of your own over a stream. open makes it and the stores that
// it uses, with KeyValueStore and OrderedStore:
//
//	operators.Process("visits", clicks, func(s *operators.Stores) operators.Processor[...] {
//		return &visits{last: operators.KeyValueStore[string, int64](s, "last")}
//	})
//
// open is called at Build, to learn which stores there are, and whenever the topology
// starts; it must ask for the same stores every time and not use them yet. Stores and
// timers survive a restart, and a crash takes them back to the last commit.
//
// A record that is forwarded by Process has the event time of the input, one that is
// forwarded by Timer the timer's. Nothing is late: ctx.StreamTime tells how a record
// stands. Since stream time is seen, each transaction becomes a step of its own.
//
// What was forwarded is not retracted or deleted. Records come in commit order, whatever
// their event times, and NULL in key or value is for the processor to judge. What timers
// forward goes out behind what the rows of the transaction have made, and beside what
// came from timers of operators before this one in order of time.
func Process[K comparable, V any, K2 comparable, V2 any](
	name string, in topology.Stream[K, V], open func(s *Stores) Processor[K, V, K2, V2],
) topology.Stream[K2, V2] {
	b := in.Builder()
	keyCodec, err := state.KeyCodecOf[K]()
	plan := &Stores{}
	if given(b, named("Process", name), function{"open", open}) {
		open(plan)
	}
	for _, err := range append(plan.errs, err) {
		if err != nil {
			b.Errorf("topology: process %q: %w", name, err)
		}
	}
	return topology.AddStream[K2, V2](b, topology.Node{
		Name:      name,
		NeedsName: true,
		Kind:      "process",
		Inputs:    []*topology.Node{in.Node()},
		// Stores may be under any key, and records come in commit order.
		Needs:          topology.Needs(1, topology.One()),
		Divided:        topology.DividedOtherwise,
		Stores:         append(plan.specs, topology.StoreSpec{Name: "timers", Schema: timerSchema}),
		PerTransaction: true,
		UsesTime:       true,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			stores := &Stores{rt: rt}
			p := &process[K, V, K2, V2]{
				timers: newTimers(rt, "timers", byKey[K](0)), stores: stores, processor: open(stores),
				in: topology.StreamInput[K, V](rt, 0),
			}
			if len(stores.specs) != len(plan.specs) {
				return nil, fmt.Errorf("operators: process %q asks for %d stores now, and for %d at Build; "+
					"ask for the same ones every time", rt.Node().Name, len(stores.specs), len(plan.specs))
			}
			p.ctx = &ProcessContext[K, K2, V2]{
				cursor: newCursor[K](rt), node: rt.Node(), timers: p.timers, keyCodec: keyCodec, stores: stores,
			}
			return p, nil
		},
	})
}

// ProcessContext is what a processor may ask and do. It is valid during the call.
type ProcessContext[K comparable, K2 comparable, V2 any] struct {
	cursor[K]
	node     *topology.Node
	timers   *timers
	keyCodec state.KeyCodec[K]
	stores   *Stores
	out      []record.Record[K2, V2]
	before   int64
	time     int64
	tag      record.Tag
	index    uint32
	firing   bool
	buf      []byte
	paths    paths
}

// Context returns the context of the input: the event time of the record, or the time
// that was set for the timer, and the transaction.
func (c *ProcessContext[K, K2, V2]) Context() record.Context {
	return record.Context{Node: c.node.Name, Time: time.UnixMicro(c.time).UTC(), Tx: c.tag.Tx}
}

// StreamTime returns the largest event time seen before this transaction; ok is false
// if nothing had been seen. In Timer the transaction's own records count.
func (c *ProcessContext[K, K2, V2]) StreamTime() (at time.Time, ok bool) {
	if c.before == topology.NoTime {
		return time.Time{}, false
	}
	return time.UnixMicro(c.before).UTC(), true
}

// Forward puts out a record with the event time of the input.
func (c *ProcessContext[K, K2, V2]) Forward(key K2, value V2) {
	tag := c.tag
	tag.Path = c.paths.index(tag.Path, c.index)
	c.index++
	c.out = append(c.out, record.Record[K2, V2]{Key: key, Value: value, Time: c.time, Tag: tag})
}

// SetTimer has Timer called for the key when stream time reaches at, to the
// microsecond; a time that has been reached already is due at the end of the
// transaction. A key may wait for several times; setting one again changes nothing. In
// Timer it must be later than the time that has been reached.
func (c *ProcessContext[K, K2, V2]) SetTimer(key K, at time.Time) {
	due := at.UnixMicro()
	switch {
	case due == math.MaxInt64 || !time.UnixMicro(due).Equal(at.Truncate(time.Microsecond)):
		c.stores.fail(fmt.Errorf("operators: the time %v of a timer is out of range", at))
		return
	case c.firing && due <= c.time:
		c.stores.fail(fmt.Errorf("operators: a timer for %v sets one for %v; it must be later",
			time.UnixMicro(c.time).UTC(), at.UTC()))
		return
	}
	c.buf = c.keyCodec.Append(c.buf[:0], key)
	c.stores.fail(c.timers.set(due, c.buf))
}

// UnsetTimer takes SetTimer back.
func (c *ProcessContext[K, K2, V2]) UnsetTimer(key K, at time.Time) {
	c.buf = c.keyCodec.Append(c.buf[:0], key)
	c.stores.fail(c.timers.unset(at.UnixMicro(), c.buf))
}

// process runs a Processor.
type process[K comparable, V any, K2 comparable, V2 any] struct {
	*timers
	in        topology.StreamOutput[K, V]
	processor Processor[K, V, K2, V2]
	stores    *Stores
	ctx       *ProcessContext[K, K2, V2]
}

// Step gives the processor the step's records and then what is due.
func (p *process[K, V, K2, V2]) Step(s *topology.Step) error {
	c := p.ctx
	c.before, c.firing = s.Before[c.node.ID], false
	err := eachOf(p.in.Records, func(r *record.Record[K, V]) error {
		c.tag, c.time, c.index = r.Tag, r.Time, 0
		c.at(r.Key)
		return p.done(p.processor.Process(c, *r))
	})
	if err != nil {
		return err
	}
	c.before, c.firing = s.After[c.node.ID], true
	c.tag = lateTag(s, "")
	if err = p.wake(s.After[c.node.ID]); err == nil {
		inOrder(c.out)
	}
	return err
}

// ownTimer ends the path of a timer, so that it is none of an output of an input whose
// own path is that of a timer further up.
var ownTimer = []byte{0xff, 0xff, 0xff, 0xff}

// wake fires timers one by one, since each may set others that come before the next.
func (p *process[K, V, K2, V2]) wake(now int64) error {
	for {
		at, timer, ok, err := p.first(min(now, lastDue))
		if err != nil || !ok {
			return err
		}
		key, _, err := p.ctx.keyCodec.Decode(timer)
		if err != nil {
			return err
		}
		c := p.ctx
		c.buf = appendTime(c.buf[:0], at)
		c.time, c.index, c.tag.Path = at, 0, c.paths.join("", c.buf, timer, ownTimer)
		c.at(key)
		if err := p.done(p.processor.Timer(c, key, time.UnixMicro(at).UTC())); err != nil {
			return err
		}
	}
}

// done looks at what a call of the processor has come to. An error of a store comes
// first: the processor's may follow from it.
func (p *process[K, V, K2, V2]) done(err error) error {
	if p.stores.err != nil {
		err = p.stores.err
	} else if err != nil {
		err = userError(err)
	}
	if err == nil {
		return nil
	}
	return &topology.Failure{Node: p.ctx.node, Key: p.ctx.key, Tx: p.ctx.tag.Tx, Err: err}
}

// Records yields what was forwarded.
func (p *process[K, V, K2, V2]) Records(yield func([]record.Record[K2, V2]) bool) error {
	if len(p.ctx.out) > 0 {
		yield(p.ctx.out)
	}
	return nil
}

// CurrentKey returns the key at work.
func (p *process[K, V, K2, V2]) CurrentKey() any { return p.ctx.CurrentKey() }

// EndStep forgets the step's records and the old values of the stores.
func (p *process[K, V, K2, V2]) EndStep() {
	p.ctx.out = forget(p.ctx.out)
	p.stores.endStep()
}
