package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

// SelfJoinWindow is JoinWindow of a stream with itself, with one buffer instead of
// two: every pair of records of a key within the window, both ways round, and every
// record with itself. A record that comes puts out its pairs with it on the left, then
// those with it on the right, each by time; among the latter the pair with itself, as if it
// had come last of those of its time.
//
// For NULL keys, order and what is late see JoinWindow: a record counts as late when it
// is too late for both roles.
func SelfJoinWindow[K comparable, V, O any](
	name string, in topology.Stream[K, V], within windows.JoinWindow, joiner func(left, right V) O,
) topology.Stream[K, O] {
	given(in.Builder(), named("SelfJoinWindow", name), function{"joiner", joiner})
	b := in.Builder()
	keyCodec, errK := state.KeyCodecOf[K]()
	codec, errV := state.CodecOf[V]()
	for _, err := range []error{errK, errV, within.Validate()} {
		if err != nil {
			b.Errorf("topology: self-join-window %q: %w", name, err)
		}
	}
	return topology.AddStream[K, O](b, topology.Node{
		Name:   name,
		Kind:   "self-join-window",
		Inputs: []*topology.Node{in.Node()},
		Needs:  topology.Needs(1, topology.ByKey()),
		Stores: []topology.StoreSpec{
			{Schema: codec.Fingerprint}, {Name: "timers", Schema: timerSchema},
		},
		PerTransaction: true,
		UsesTime:       true,
		Detail:         within.String(),
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			j := &selfJoin[K, V, O]{
				windowPairs: newWindowPairs[K, O](rt, keyCodec), joiner: joiner,
				side: newJoinSide[K](rt, 0, "", codec, within), mirror: within.Mirror(),
			}
			j.side.each = j.pair
			j.fired = j.expire
			return j, nil
		},
	})
}

type selfJoin[K comparable, V, O any] struct {
	windowPairs[K, O]
	joiner func(left, right V) O
	side   *joinSide[K, V]
	mirror windows.JoinWindow
	r      *record.Record[K, V] // the record at work
	right  bool                 // it is the right one of the pairs
	alone  bool                 // the pair with itself has not gone out, and has to
}

// Step joins the records in order.
func (j *selfJoin[K, V, O]) Step(s *topology.Step) error {
	j.begin(s)
	err := eachOf(j.side.in.Records, j.one)
	j.r = nil
	if err != nil {
		return err
	}
	return j.finish(s)
}

func (j *selfJoin[K, V, O]) one(r *record.Record[K, V]) error {
	j.r = r
	if j.arrive(r.Key, r.Tag, leftSide) {
		return nil
	}
	asLeft, asRight := !j.side.window.Late(r.Time, j.before), !j.mirror.Late(r.Time, j.before)
	if !asLeft && !asRight {
		j.lates.n++
		return nil
	}
	if asLeft {
		if err := j.meet(j.side.window, false); err != nil {
			return err
		}
	}
	first, last := j.side.window.Range(r.Time)
	j.alone = first <= r.Time && r.Time <= last
	if asRight {
		if err := j.meet(j.mirror, true); err != nil {
			return err
		}
	}
	if err := j.itself(); err != nil {
		return err
	}
	end := max(j.side.window.Expires(r.Time), j.mirror.Expires(r.Time))
	return j.side.put(j.timers, j.key, r, joinPaired, end)
}

func (j *selfJoin[K, V, O]) meet(w windows.JoinWindow, right bool) error {
	j.right = right
	first, last := w.Range(j.r.Time)
	_, err := j.side.match(j.key, first, last)
	return err
}

func (j *selfJoin[K, V, O]) pair(at int64, v *V) error {
	l, r := &j.r.Value, v
	if j.right {
		if at > j.r.Time {
			if err := j.itself(); err != nil {
				return err
			}
		}
		l, r = r, l
	}
	return j.put(max(at, j.r.Time), j.joiner(*l, *r), true, nil)
}

// itself puts out the pair of the record at work with itself, if it is due.
func (j *selfJoin[K, V, O]) itself() error {
	if !j.alone {
		return nil
	}
	j.alone = false
	return j.put(j.r.Time, j.joiner(j.r.Value, j.r.Value), true, nil)
}

// expire forgets a record that can meet nothing any more in either role.
func (j *selfJoin[K, V, O]) expire(_ int64, timer []byte) error {
	return j.side.buffer.Delete(timer[1:])
}
