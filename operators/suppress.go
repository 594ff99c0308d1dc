package operators

import (
	"fmt"
	"math"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

// SuppressOption changes one SuppressUntilTimeLimit.
type SuppressOption func(*suppressOptions)

type suppressOptions struct{ maxRecords int }

// MaxRecords bounds how many changed keys are held back: beyond it those that have
// waited longest go out early. 0, the default, is no bound.
func MaxRecords(n int) SuppressOption { return func(o *suppressOptions) { o.maxRecords = n } }

// SuppressUntilTimeLimit holds each change of a table back until stream time is limit
// past its event time, and lets out only the value that the row has then. Further
// changes of a row that waits take the place of the first and do not make it wait
// longer; one that is back to what has gone out by then does not show. Deletes wait
// like other changes. Values of changes that come out of order are let out according
// to their own event time, so they wait shorter.
//
// What follows, a join for example, sees the value that went out last. What time does
// is part of the transaction that let it pass, a heartbeat on an idle database; each
// transaction becomes a step of its own.
//
// NULL in keys and values is a value like any other. Nothing is late: a change that
// comes late waits shorter.
func SuppressUntilTimeLimit[K comparable, V any](
	name string, in topology.Table[K, V], limit time.Duration, opts ...SuppressOption,
) topology.Table[K, V] {
	var o suppressOptions
	for _, opt := range opts {
		opt(&o)
	}
	b := in.Builder()
	if err := checkSpan("time limit", limit, 0); err != nil {
		b.Errorf("topology: suppress %q: %w", name, err)
	}
	if o.maxRecords < 0 {
		b.Errorf("topology: suppress %q: MaxRecords is %d; it must not be negative", name, o.maxRecords)
	}
	detail := "until time limit " + limit.String()
	waitCodec, err := state.CodecOf[waiting]()
	if err != nil {
		b.Errorf("topology: suppress %q: %w", name, err)
	}
	pending := topology.StoreSpec{Name: "pending", Schema: waitCodec.Fingerprint}
	unpartitioned := ""
	if o.maxRecords > 0 {
		unpartitioned = "MaxRecords bounds what is held back of all keys together; " +
			"leave it out, or " + topology.RunWhole
	}
	return addSuppress(name, in, detail, unpartitioned, []topology.StoreSpec{pending},
		func(rt *topology.Runtime, s suppression[K, V]) topology.Operator {
			t := &suppressTime[K, V]{suppression: s, limit: limit.Microseconds(), maxRecords: o.maxRecords}
			t.pending = state.NewTable(rt.Env, rt.StoreIDFor("pending"), s.keyCodec, waitCodec)
			rt.Register(t.pending)
			return t
		})
}

// SuppressUntilWindowCloses lets out one final value for each window of a windowed
// table: when the window closes, at its end plus grace. Changes of a window that has
// closed are dropped and counted as late, so that what went out stays. A window that
// is gone when it closes, as a session that was merged into another, does not go out.
// Give the definition that the table was windowed with. Its grace may be another one:
// where that closes windows earlier, what comes later is dropped.
//
// Any number of windows may close together: none is lost. What went out is kept for
// good; TTL bounds it.
//
// What has gone out is never retracted or deleted. NULL in keys and values is a value
// like any other. Results that are due together are changes of one step, which
// ToStream puts out in order of their keys.
func SuppressUntilWindowCloses[K comparable, V any](
	name string, in topology.Table[windows.Windowed[K], V], definition windows.Definition,
) topology.Table[windows.Windowed[K], V] {
	if definition == nil {
		in.Builder().Errorf("topology: suppress %q: the definition of the windows is nil; "+
			"give the one that the table was windowed with", name)
		return in
	}
	if err := definition.Validate(); err != nil {
		in.Builder().Errorf("topology: suppress %q: %w", name, err)
	}
	if other := otherWindows(in.Node(), definition); other != nil {
		in.Builder().Errorf("topology: suppress %q: the definition is %s, and the table's windows are %s; "+
			"give the one that the table was windowed with", name, definition, other)
	}
	return addSuppress(name, in, "until window closes, "+definition.String(), "", nil,
		func(rt *topology.Runtime, s suppression[windows.Windowed[K], V]) topology.Operator {
			return &suppressWindows[K, V]{
				suppression: s, definition: definition, lates: newLates(rt),
			}
		})
}

// otherWindows returns the definition of the windows in a table's keys if that is known and
// is one of other windows than the given one.
func otherWindows(n *topology.Node, definition windows.Definition) windows.Definition {
	if n == nil || n.Shape != topology.ShapeTable {
		return nil
	}
	if d, ok := n.Windows.(windows.Definition); ok {
		if windows.Same(d, definition) {
			return nil
		}
		return d
	}
	for _, in := range n.Inputs {
		if in == nil || in.Key != n.Key {
			continue
		}
		if other := otherWindows(in, definition); other != nil {
			return other
		}
	}
	return nil
}

func addSuppress[K comparable, V any](
	name string, in topology.Table[K, V], detail, unpartitioned string, stores []topology.StoreSpec,
	open func(rt *topology.Runtime, s suppression[K, V]) topology.Operator,
) topology.Table[K, V] {
	b := in.Builder()
	keyCodec, errK := state.KeyCodecOf[K]()
	codec, errV := state.CodecOf[V]()
	for _, err := range []error{errK, errV} {
		if err != nil {
			b.Errorf("topology: suppress %q: %w", name, err)
		}
	}
	return topology.AddTable[K, V](b, topology.Node{
		Name:   name,
		Kind:   "suppress",
		Inputs: []*topology.Node{in.Node()},
		Needs:  topology.Needs(1, topology.ByKey()),
		Stores: append([]topology.StoreSpec{
			{Schema: codec.Fingerprint}, {Name: "timers", Schema: timerSchema},
		}, stores...),
		PerTransaction: true,
		UsesTime:       true,
		Detail:         detail,
		Unpartitioned:  unpartitioned,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			s := suppression[K, V]{
				timers: newTimers(rt, "timers", byKey[K](0)), id: rt.Node().ID, keyCodec: keyCodec,
				in:    topology.TableInput[K, V](rt, 0),
				Table: state.NewTable(rt.Env, rt.StoreIDFor(""), keyCodec, codec),
			}
			rt.Register(s.Table)
			return open(rt, s), nil
		},
	})
}

// suppression is a table of what has gone out, and the times at which more does.
type suppression[K comparable, V any] struct {
	*state.Table[K, V]
	*timers
	id       int
	keyCodec state.KeyCodec[K]
	in       topology.TableOutput[K, V]
	key      []byte
}

// each calls fn for the input's changes of the step.
func (s *suppression[K, V]) each(fn func(c *record.Change[K, V]) error) error {
	return eachOf(s.in.Changes, fn)
}

// release lets out the value that the input has now; at is the event time if that is a
// deletion.
func (s *suppression[K, V]) release(key K, at int64) error {
	v, err := s.in.At(key)
	if err != nil {
		return err
	}
	if v.HasNew() {
		return s.Put(key, v.New, v.Time)
	}
	return s.Delete(key, at)
}

// suppressTime is the running form of SuppressUntilTimeLimit.
type suppressTime[K comparable, V any] struct {
	suppression[K, V]
	limit      int64
	maxRecords int
	pending    *state.Table[K, waiting]
	// count is how many keys wait, as far as that is known: see counted.
	count     int
	counted   bool
	countedAt uint64
}

// waiting says of a row that is held back when it is let out, and when it changed last.
type waiting struct{ Due, Changed int64 }

// Step holds the input's changes back and lets out what is due.
func (t *suppressTime[K, V]) Step(s *topology.Step) error {
	if err := t.recount(); err != nil {
		return err
	}
	if err := t.each(t.hold); err != nil {
		return err
	}
	err := t.fire(s.After[t.id], func(_ int64, key []byte) error { return t.let(key) })
	if err != nil || t.maxRecords == 0 {
		return err
	}
	for t.count > t.maxRecords {
		if err := t.letFirst(); err != nil {
			return err
		}
	}
	return nil
}

// recount counts what waits, where that is needed, at the start and after a rollback.
func (t *suppressTime[K, V]) recount() error {
	if t.maxRecords == 0 || t.counted && t.countedAt == t.store.Rollbacks() {
		return nil
	}
	t.count = 0
	err := t.store.ScanRange(nil, nil, false, func(_, _ []byte) bool {
		t.count++
		return true
	})
	t.counted, t.countedAt = err == nil, t.store.Rollbacks()
	return err
}

func (t *suppressTime[K, V]) hold(c *record.Change[K, V]) error {
	w, waits, err := t.pending.Edit(c.Key, c.Time)
	if err != nil {
		return err
	}
	w.Changed = c.Time
	if waits {
		return nil
	}
	w.Due = addSpan(c.Time, t.limit)
	t.count++
	t.key = t.keyCodec.Append(t.key[:0], c.Key)
	return t.set(w.Due, t.key)
}

// let lets out a row whose timer has been taken.
func (t *suppressTime[K, V]) let(encoded []byte) error {
	key, _, err := t.keyCodec.Decode(encoded)
	if err != nil {
		return err
	}
	w, err := t.pending.Get(key)
	if err != nil || w == nil {
		return err
	}
	changed := w.Changed
	if err := t.pending.Delete(key, changed); err != nil {
		return err
	}
	t.count--
	return t.release(key, changed)
}

// letFirst lets out the row that would be due first.
func (t *suppressTime[K, V]) letFirst() error {
	_, key, ok, err := t.first(math.MaxInt64)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %d rows are held back, and none waits", state.ErrCorrupt, t.count)
	}
	if err != nil {
		return err
	}
	return t.let(key)
}

// EndStep forgets the step's output.
func (t *suppressTime[K, V]) EndStep() {
	t.Table.EndStep()
	t.pending.EndStep()
}

// suppressWindows is the running form of SuppressUntilWindowCloses.
type suppressWindows[K comparable, V any] struct {
	suppression[windows.Windowed[K], V]
	definition windows.Definition
	lates      lates
}

// Step waits for the close of new windows and lets out those that have closed.
func (t *suppressWindows[K, V]) Step(s *topology.Step) error {
	before := s.Before[t.id]
	err := t.each(func(c *record.Change[windows.Windowed[K], V]) error {
		switch {
		case windows.Closed(t.definition, c.Key.Window, before):
			if c.HasNew() { // a closed window that ends, by Retention or TTL, is no loss
				t.lates.n++
			}
			return nil
		case c.HasOld():
			return nil // its timer is set, or it is gone when that is due
		}
		closes := t.definition.Closes(c.Key.Window)
		if closes == math.MaxInt64 {
			return nil // never
		}
		t.key = t.keyCodec.Append(t.key[:0], c.Key)
		return t.set(closes, t.key)
	})
	t.lates.report()
	if err != nil {
		return err
	}
	return t.fire(s.After[t.id], func(at int64, encoded []byte) error {
		key, _, err := t.keyCodec.Decode(encoded)
		if err != nil {
			return err
		}
		return t.release(key, at)
	})
}
