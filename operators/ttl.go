package operators

import (
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// TTL removes the rows of a table that have not changed for the time to live, by event
// time: a row ends when stream time reaches its event time plus ttl, and comes back when
// it changes later. The event time of a row is that of its last change, also where that
// came out of order, so such a change lets the row end sooner. A row that is already
// older when it arrives does not show. What time does is part of the transaction that
// let it pass, a heartbeat on an idle database; each transaction becomes a step of its
// own.
//
// It bounds windowed tables, which otherwise keep their windows for good. The input
// keeps its rows: TTL hides them from what follows.
//
// NULL in keys and values is a value like any other. A row that is deleted is deleted at
// once, and nothing is late.
func TTL[K comparable, V any](
	name string, in topology.Table[K, V], ttl time.Duration,
) topology.Table[K, V] {
	b := in.Builder()
	keyCodec, errK := state.KeyCodecOf[K]()
	codec, errV := state.CodecOf[V]()
	markCodec, errM := state.CodecOf[int64]()
	for _, err := range []error{errK, errV, errM, checkSpan("time to live", ttl, time.Microsecond)} {
		if err != nil {
			b.Errorf("topology: ttl %q: %w", name, err)
		}
	}
	return topology.AddTable[K, V](b, topology.Node{
		Name:   name,
		Kind:   "ttl",
		Inputs: []*topology.Node{in.Node()},
		Needs:  topology.Needs(1, topology.ByKey()),
		Stores: []topology.StoreSpec{
			{Schema: markCodec.Fingerprint}, {Name: "timers", Schema: timerSchema},
		},
		PerTransaction: true,
		UsesTime:       true,
		Detail:         ttl.String(),
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			t := &ttlTable[K, V]{
				timers: newTimers(rt, "timers", byKey[K](0)),
				ttl:    ttl.Microseconds(), id: rt.Node().ID, keyCodec: keyCodec,
				marks: state.NewTable(rt.Env, rt.StoreIDFor(""), keyCodec, markCodec),
			}
			t.cursor, t.left = newCursor[K](rt), topology.TableInput[K, V](rt, 0)
			t.right, t.join = stored[K, int64]{t.marks}, innerJoiner(func(v V, _ int64) V { return v })
			t.equalLeft, t.equalOut = codec.Equal, codec.Equal
			t.keep = fanOut(rt)
			rt.Register(t.marks)
			return t, nil
		},
	})
}

// ttlTable is a join of the input with the marks of the rows that live.
type ttlTable[K comparable, V any] struct {
	tableJoin[K, V, int64, V]
	*timers
	ttl      int64
	id       int
	keyCodec state.KeyCodec[K]
	marks    *state.Table[K, int64] // the time at which a living row ends
	key      []byte
}

// Step marks the rows that changed, and ends those whose time has come.
func (t *ttlTable[K, V]) Step(s *topology.Step) error {
	if err := eachOf(t.left.Changes, t.mark); err != nil {
		return err
	}
	return t.fire(s.After[t.id], func(at int64, key []byte) error {
		k, _, err := t.keyCodec.Decode(key)
		if err != nil {
			return err
		}
		return t.marks.Delete(k, at)
	})
}

func (t *ttlTable[K, V]) mark(c *record.Change[K, V]) error {
	t.key = t.keyCodec.Append(t.key[:0], c.Key)
	old, err := t.marks.Get(c.Key)
	if err != nil {
		return err
	}
	if old != nil {
		if err := t.unset(*old, t.key); err != nil {
			return err
		}
	}
	if !c.HasNew() {
		return t.marks.Delete(c.Key, c.Time)
	}
	end := addSpan(c.Time, t.ttl)
	if err := t.set(end, t.key); err != nil {
		return err
	}
	return t.marks.Put(c.Key, end, c.Time)
}

// EndStep forgets the step's output and the marks' old values.
func (t *ttlTable[K, V]) EndStep() {
	t.tableJoin.EndStep()
	t.marks.EndStep()
}
