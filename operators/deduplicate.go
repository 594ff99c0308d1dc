package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

// Deduplicate passes the first record of each id and drops those that follow within a
// window of event time: a record goes on unless one with the same id that went on lies
// at most Before before it or After after it, both ends included. First is in commit
// order: of records that come out of order the one that comes first goes on, even if it
// is the later one. So ids that repeat for good go on once in a while, every time that
// the last one that went on is too far away. Duplicates are counted as duplicate.
//
// A record that comes when stream time has passed its time plus After and Grace is
// dropped and counted as late: what it would be compared with may be forgotten. Records
// are judged by stream time before their transaction, so nothing in one transaction is
// late. An id of type sql.Null is an id like any other when it is NULL. Each
// transaction becomes a step of its own. Records that went on are never retracted.
func Deduplicate[K comparable, V any, I comparable](
	name string, in topology.Stream[K, V], id func(K, V) I, within windows.JoinWindow,
) topology.Stream[K, V] {
	given(in.Builder(), named("Deduplicate", name), function{"id", id})
	b := in.Builder()
	idCodec, err := state.KeyCodecOf[I]()
	for _, err := range []error{err, within.Validate()} {
		if err != nil {
			b.Errorf("topology: deduplicate %q: %w", name, err)
		}
	}
	by := func(*topology.Runtime) func([]byte, *record.Record[K, V]) []byte {
		d, _ := topology.DividerOf[I]() // an error is reported above
		return func(dst []byte, r *record.Record[K, V]) []byte { return d.Of(dst, id(r.Key, r.Value)) }
	}
	return topology.AddStream[K, V](b, topology.Node{
		Name:           name,
		Kind:           "deduplicate",
		Inputs:         []*topology.Node{in.Node()},
		Needs:          []topology.Need{topology.StreamBy(by)},
		Divided:        topology.DividedOtherwise,
		Stores:         []topology.StoreSpec{{Schema: "ids-1"}, {Name: "timers", Schema: timerSchema}},
		PerTransaction: true,
		UsesTime:       true,
		Detail:         within.String(),
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			d := &deduplicate[K, V, I]{
				timers: newTimers(rt, "timers", byKey[I](8)), cursor: newCursor[K](rt), node: rt.Node(), drop: rt.Drop,
				in: topology.StreamInput[K, V](rt, 0), id: id, idCodec: idCodec, window: within,
				passed: state.NewOrdered(rt.Env, rt.StoreIDFor("")),
			}
			d.see = func(_, _ []byte) bool { d.seen = true; return false }
			d.forget = func(_ int64, key []byte) error { return d.passed.Delete(key) }
			rt.Register(d.passed)
			return d, nil
		},
	})
}

// DeduplicateByKey is Deduplicate with the record's key as its id.
func DeduplicateByKey[K comparable, V any](
	name string, in topology.Stream[K, V], within windows.JoinWindow,
) topology.Stream[K, V] {
	return Deduplicate(name, in, func(k K, _ V) K { return k }, within)
}

type deduplicate[K comparable, V any, I comparable] struct {
	records[K, V]
	*timers
	cursor[K]
	node    *topology.Node
	drop    func(n *topology.Node, reason string, count int)
	in      topology.StreamOutput[K, V]
	id      func(K, V) I
	idCodec state.KeyCodec[I]
	window  windows.JoinWindow
	passed  *state.Ordered // what went on: (id, time)

	key              []byte
	scan             keyRange
	seen             bool
	see              func(key, value []byte) bool
	forget           func(at int64, key []byte) error
	late, duplicates int
}

// Step passes the first of each id, and forgets what no record in time can meet.
func (d *deduplicate[K, V, I]) Step(s *topology.Step) error {
	before := s.Before[d.node.ID]
	d.late, d.duplicates = 0, 0
	err := eachOf(d.in.Records, func(r *record.Record[K, V]) error { return d.one(r, before) })
	if err != nil {
		return err
	}
	if d.late > 0 {
		d.drop(d.node, topology.DropLate, d.late)
	}
	if d.duplicates > 0 {
		d.drop(d.node, topology.DropDuplicate, d.duplicates)
	}
	return d.fire(s.After[d.node.ID], d.forget)
}

func (d *deduplicate[K, V, I]) one(r *record.Record[K, V], before int64) error {
	if d.window.Late(r.Time, before) {
		d.late++
		return nil
	}
	d.at(r.Key)
	id := d.id(r.Key, r.Value)
	first, last := d.window.Range(r.Time)
	d.key = d.idCodec.Append(d.key[:0], id)
	d.scan.set(d.key, first, last)
	d.seen = false
	if err := d.passed.ScanRange(d.scan.lower, d.scan.upper, false, d.see); err != nil {
		return err
	}
	if d.seen {
		d.duplicates++
		return nil
	}
	d.key = appendTime(d.key, r.Time)
	if err := d.passed.Set(d.key, nil); err != nil {
		return err
	}
	d.out = append(d.out, *r)
	// It is what later ones are compared with: the other side of the window.
	return d.set(d.window.Mirror().Expires(r.Time), d.key)
}
