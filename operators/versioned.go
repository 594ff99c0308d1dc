package operators

import (
	"fmt"
	"math"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// VersionedTable is a table that also knows what its rows were: see Versioned. Its
// Table is the rows as of now, for all operators on tables.
type VersionedTable[K comparable, V any] struct {
	topology.Table[K, V]
	retention time.Duration
}

// Versioned keeps the history of a table's rows by event time, so that a record can be
// joined to the row as of its own time (EnrichAsOf). A row is valid from its event time
// up to that of the next version of its key; a deletion is a version, too.
//
// As a table it is the version of each key with the largest event time, the last
// written of those that tie. A row that comes out of order, older than the newest
// version of its key, goes into the history: joins and aggregates of the table do not
// see it, and ToStream passes it on. (Other tables let the last written row win.)
//
// The history reaches back retention, which must not be negative, before stream time.
// A row that is older when it comes is dropped and counted as "expired", as are
// versions that were replaced that long ago; the newest version of a key stays for good.
// Rows are judged by stream time before their transaction, so that nothing in one
// transaction is too old for another row of it. Event times are those of the source
// (sources.EventTime); a deletion has that of the row that it deletes, if the source
// takes it from a column, else its commit's.
//
// Over a source table every row event is a version, also if a later one of the same
// transaction covers it; over other tables the net changes of each transaction are.
// Each transaction becomes a step of its own.
//
// NULL in keys and values is a value like any other. What is too late for the history is
// what is counted as expired.
func Versioned[K comparable, V any](
	name string, in topology.Table[K, V], retention time.Duration,
) VersionedTable[K, V] {
	b := in.Builder()
	keyCodec, errK := state.KeyCodecOf[K]()
	codec, errV := state.CodecOf[V]()
	latest, errL := state.CodecOf[version[V]]()
	for _, err := range []error{errK, errV, errL, checkSpan("retention", retention, 0)} {
		if err != nil {
			b.Errorf("topology: versioned %q: %w", name, err)
		}
	}
	table := topology.AddTable[K, V](b, topology.Node{
		Name:   name,
		Kind:   "versioned",
		Inputs: []*topology.Node{in.Node()},
		Needs:  topology.Needs(1, topology.ByKey()),
		Stores: []topology.StoreSpec{
			{Schema: latest.Fingerprint}, {Name: "history", Schema: "history-1:" + codec.Fingerprint},
			{Name: "timers", Schema: timerSchema},
		},
		PerTransaction: true,
		Detail:         retention.String(),
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			return newVersioned(rt, retention, keyCodec, codec, latest)
		},
	})
	return VersionedTable[K, V]{Table: table, retention: retention}
}

// version is what a key had from some time on: a value, or nothing.
type version[V any] struct {
	Value V
	Has   bool
}

// versioned keeps the newest version of each key in one store, and what it replaced in
// another, with the time up to which it has to be kept.
type versioned[K comparable, V any] struct {
	node      *topology.Node
	in        topology.TableOutput[K, V]
	direct    bool // row events come while the source is fed
	now       func(n *topology.Node) int64
	drop      func(n *topology.Node, reason string, count int)
	retention int64
	keyCodec  state.KeyCodec[K]
	codec     state.Codec[V]
	latest    *state.Table[K, version[V]]
	history   *state.Ordered // key, time -> keep until, whether there is a value, value
	timers    *timers

	before int64 // stream time before the step, if known
	known  bool
	out    []record.Change[K, V]
	// late are the step's rows that came out of order, kept if somebody asked for them.
	late     []record.Change[K, V]
	keepLate bool

	// work is the version at work: a local one that is handed to a codec would be an
	// allocation.
	work     version[V]
	key, val []byte
	scan     keyRange
}

func newVersioned[K comparable, V any](
	rt *topology.Runtime, retention time.Duration, keyCodec state.KeyCodec[K],
	codec state.Codec[V], latest state.Codec[version[V]],
) (*versioned[K, V], error) {
	v := &versioned[K, V]{
		node: rt.Node(), in: topology.TableInput[K, V](rt, 0), now: rt.Time, drop: rt.Drop,
		retention: retention.Microseconds(), keyCodec: keyCodec, codec: codec,
		latest:  state.NewTable(rt.Env, rt.StoreIDFor(""), keyCodec, latest),
		history: state.NewOrdered(rt.Env, rt.StoreIDFor("history")), timers: newTimers(rt, "timers", byKey[K](9)),
	}
	rt.Register(v.latest)
	rt.Register(v.history)
	if events, ok := v.in.(topology.EventOutput[K, V]); ok {
		v.direct = true
		events.OnEvent(v.event)
	}
	return v, nil
}

// event takes a row event of the source, in the order of the log.
func (v *versioned[K, V]) event(c *record.Change[K, V]) error {
	if !v.known {
		v.before, v.known = v.now(v.node), true
	}
	return v.apply(c)
}

// Step takes the input's changes, where row events have not been taken already, and
// forgets what is older than the retention.
func (v *versioned[K, V]) Step(s *topology.Step) error {
	v.before = s.Before[v.node.ID]
	if !v.direct {
		if err := eachOf(v.in.Changes, v.apply); err != nil {
			return err
		}
	}
	if v.before == topology.NoTime {
		return nil
	}
	return v.timers.fire(v.before, v.expire)
}

// oldest is the oldest time that the history tells about at a stream time.
func (v *versioned[K, V]) oldest(before int64) int64 {
	if before < math.MinInt64+v.retention {
		return math.MinInt64
	}
	return before - v.retention
}

// The ends of timers' keys say what they are for.
const (
	timerHistory = iota
	timerTombstone
)

// apply makes the new side of a change the version of its key from the change's time on.
func (v *versioned[K, V]) apply(c *record.Change[K, V]) error {
	if c.Time < v.oldest(v.before) {
		v.drop(v.node, topology.DropExpired, 1)
		return nil
	}
	newest, err := v.latest.At(c.Key)
	if err != nil {
		return err
	}
	if newest.HasNew() && c.Time < newest.Time {
		return v.insertLate(c, newest.Time)
	}
	if newest.HasNew() && c.Time > newest.Time {
		v.work = newest.New
		if err := v.remember(c.Key, newest.Time, addSpan(c.Time, v.retention)); err != nil {
			return err
		}
	}
	if !c.HasNew() { // a deletion is forgotten with what it hides
		v.key = append(appendTime(v.keyCodec.Append(v.key[:0], c.Key), c.Time), timerTombstone)
		if err := v.timers.set(addSpan(c.Time, v.retention), v.key); err != nil {
			return err
		}
	}
	return v.latest.Put(c.Key, version[V]{Value: c.New, Has: c.HasNew()}, c.Time)
}

// insertLate puts a version between those of the history. It is valid up to the next
// one.
func (v *versioned[K, V]) insertLate(c *record.Change[K, V], until int64) error {
	if v.keepLate {
		old, has, err := v.asOf(c.Key, c.Time, v.before)
		if err != nil {
			return err
		}
		late := record.Change[K, V]{Key: c.Key, Old: old, New: c.New, Sides: c.Sides & record.HasNew, Time: c.Time}
		if has {
			late.Sides |= record.HasOld
		}
		v.late = append(v.late, late)
	}
	v.key = v.keyCodec.Append(v.key[:0], c.Key)
	v.scan.set(v.key, c.Time+1, until)
	err := v.history.ScanRange(v.scan.lower, v.scan.upper, false, func(key, _ []byte) bool {
		until = decodeTime(key[len(v.key):])
		return false
	})
	if err != nil {
		return err
	}
	v.work = version[V]{Value: c.New, Has: c.HasNew()}
	return v.remember(c.Key, c.Time, addSpan(until, v.retention))
}

// remember puts the version at work into the history, to be kept until some stream time.
func (v *versioned[K, V]) remember(key K, at int64, keep int64) error {
	v.key = appendTime(v.keyCodec.Append(v.key[:0], key), at)
	v.val = appendTime(v.val[:0], keep)
	if v.work.Has {
		v.val = v.codec.Append(append(v.val, 1), &v.work.Value)
	} else {
		v.val = append(v.val, 0)
	}
	if err := v.history.Set(v.key, v.val); err != nil {
		return err
	}
	v.key = append(v.key, timerHistory)
	return v.timers.set(keep, v.key)
}

// expire forgets a version, unless it has become another one since the timer was set.
func (v *versioned[K, V]) expire(at int64, key []byte) error {
	if len(key) < 9 {
		return fmt.Errorf("%w: timer of %d bytes", state.ErrCorrupt, len(key))
	}
	kind, key := key[len(key)-1], key[:len(key)-1]
	if kind == timerHistory {
		val, ok, err := v.history.Get(v.val[:0], key)
		v.val = val
		if err != nil || !ok || decodeTime(val) > at {
			return err
		}
		return v.history.Delete(key)
	}
	k, rest, err := v.keyCodec.Decode(key)
	if err != nil {
		return err
	}
	newest, err := v.latest.At(k)
	if err != nil || !newest.HasNew() || newest.New.Has || newest.Time != decodeTime(rest) {
		return err
	}
	return v.latest.Delete(k, newest.Time)
}

// asOf returns the version of a key at a time, if the history still tells when stream
// time is before.
func (v *versioned[K, V]) asOf(key K, at, before int64) (value V, has bool, err error) {
	newest, err := v.latest.At(key)
	if err != nil {
		return value, false, err
	}
	if !newest.HasNew() || newest.Time <= at {
		return newest.New.Value, newest.New.Has, nil
	}
	if at < v.oldest(before) {
		return value, false, nil
	}
	v.key = v.keyCodec.Append(v.key[:0], key)
	v.scan.set(v.key, math.MinInt64, at)
	v.work = version[V]{}
	var failed error
	err = v.history.ScanRange(v.scan.lower, v.scan.upper, true, func(_, val []byte) bool {
		if len(val) < 9 {
			failed = fmt.Errorf("%w: version of %d bytes", state.ErrCorrupt, len(val))
		} else if v.work.Has = val[8] == 1; v.work.Has {
			failed = v.codec.Decode(val[9:], &v.work.Value)
		}
		return false
	})
	return v.work.Value, v.work.Has, firstError(err, failed)
}

// lateRows is a table that can tell the rows that came out of order.
type lateRows[K comparable, V any] interface {
	wantLate()
	lateRows() []record.Change[K, V]
}

func (v *versioned[K, V]) wantLate() { v.keepLate = true }

func (v *versioned[K, V]) lateRows() []record.Change[K, V] { return v.late }

// Changes yields the changes of the newest versions.
func (v *versioned[K, V]) Changes(yield func([]record.Change[K, V]) bool) error {
	return v.latest.Changes(func(chunk []record.Change[K, version[V]]) bool {
		v.out = v.out[:0]
		for i := range chunk {
			c := &chunk[i]
			if sides := presentSides(c.Sides, &c.Old, &c.New); sides != 0 {
				v.out = append(v.out, record.Change[K, V]{
					Key: c.Key, Old: c.Old.Value, New: c.New.Value, Sides: sides, Time: c.Time,
				})
			}
		}
		return len(v.out) == 0 || yield(v.out)
	})
}

// At returns the newest version of a key before the step and now.
func (v *versioned[K, V]) At(key K) (record.Versions[V], error) {
	n, err := v.latest.At(key)
	return record.Versions[V]{
		Old: n.Old.Value, New: n.New.Value, Sides: presentSides(n.Sides, &n.Old, &n.New), Time: n.Time,
	}, err
}

// presentSides are the sides that are values and not deletions.
func presentSides[V any](has record.Sides, older, newer *version[V]) record.Sides {
	if !older.Has {
		has &^= record.HasOld
	}
	if !newer.Has {
		has &^= record.HasNew
	}
	return has
}

// EndStep forgets the step's output and the old values.
func (v *versioned[K, V]) EndStep() {
	v.known = false
	clear(v.out)
	v.out = v.out[:0]
	clear(v.late)
	v.late = v.late[:0]
	v.latest.EndStep()
}
