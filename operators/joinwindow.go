package operators

import (
	"fmt"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

// JoinKind says which records a join of streams puts out without a partner.
type JoinKind uint8

// The kinds of joins of streams.
const (
	Inner JoinKind = iota // none
	Left                  // left ones
	Outer                 // those of both sides
)

// String names the operator of the kind, as describe shows it.
func (k JoinKind) String() string {
	switch k {
	case Inner:
		return "join-window"
	case Left:
		return "left-join-window"
	case Outer:
		return "outer-join-window"
	}
	return fmt.Sprintf("join-window of kind %d", uint8(k))
}

// WindowJoiner computes the result of a pair of records, or of one without a partner,
// which is told by has. It may fail, and it may leave the result out.
type WindowJoiner[K comparable, L, R, O any] func(
	ctx record.Context, key K, l L, hasLeft bool, r R, hasRight bool,
) (o O, emit bool, err error)

// JoinWindow joins the records of two streams that have the same key and lie close
// enough in event time (INNER JOIN): every pair once, duplicates included, at the later
// of both times. A record's pairs come in order of the other record's time, then
// arrival. Records of one transaction meet in its order, the left one first where
// one row has made both.
//
// Records may come out of order as long as stream time has not passed the end of their
// window and grace; later ones are dropped and counted as late. They are judged by stream
// time before their transaction, so nothing in one transaction is late. Where the streams
// are of two databases, the grace has to cover by how much longer a transaction of one may
// take to arrive than of the other: stream time is the larger of theirs. A record is kept
// until nothing that is in time can join it. NULL keys (a key of type sql.Null) join
// nothing; a value that is NULL joins as any other.
//
// Facts are never retracted: there is no update and no delete. Each transaction
// becomes a step of its own.
func JoinWindow[K comparable, L, R, O any](
	name string, left topology.Stream[K, L], right topology.Stream[K, R],
	within windows.JoinWindow, joiner func(L, R) O,
) topology.Stream[K, O] {
	given(builderOf(left, right), named("JoinWindow", name), function{"joiner", joiner})
	return JoinWindowContext(name, Inner, left, right, within,
		func(_ record.Context, _ K, l L, _ bool, r R, _ bool) (O, bool, error) {
			return joiner(l, r), true, nil
		})
}

// LeftJoinWindow is JoinWindow that also puts out left records without a partner (LEFT
// JOIN), at their own time: once stream time has passed the end of their window and
// grace, be it by a heartbeat on an idle database. A left record with a NULL key goes
// out at once. What is due together comes in order of time.
//
// The record without a partner is a statement about what came in time for it: a right
// record that is later than grace for the left one, but not for its own window, joins
// it nevertheless, as in Kafka Streams. Choose grace to cover disorder.
func LeftJoinWindow[K comparable, L, R, O any](
	name string, left topology.Stream[K, L], right topology.Stream[K, R],
	within windows.JoinWindow, joiner func(l L, r R, hasRight bool) O,
) topology.Stream[K, O] {
	given(builderOf(left, right), named("LeftJoinWindow", name), function{"joiner", joiner})
	return JoinWindowContext(name, Left, left, right, within,
		func(_ record.Context, _ K, l L, _ bool, r R, hasRight bool) (O, bool, error) {
			return joiner(l, r, hasRight), true, nil
		})
}

// OuterJoinWindow is LeftJoinWindow for both sides (FULL OUTER JOIN), NULL keys
// included. Of records that are due together and have the same time the right ones
// come first.
func OuterJoinWindow[K comparable, L, R, O any](
	name string, left topology.Stream[K, L], right topology.Stream[K, R],
	within windows.JoinWindow, joiner func(l L, hasLeft bool, r R, hasRight bool) O,
) topology.Stream[K, O] {
	given(builderOf(left, right), named("OuterJoinWindow", name), function{"joiner", joiner})
	return JoinWindowContext(name, Outer, left, right, within,
		func(_ record.Context, _ K, l L, hasLeft bool, r R, hasRight bool) (O, bool, error) {
			return joiner(l, hasLeft, r, hasRight), true, nil
		})
}

// JoinWindowContext is the general form: the joiner is told the context of the record
// that completes the pair, with the time of the result, and the key; it may fail, and
// it may leave a result out.
//
// For NULL keys, order and what is late see JoinWindow.
func JoinWindowContext[K comparable, L, R, O any](
	name string, kind JoinKind, left topology.Stream[K, L], right topology.Stream[K, R],
	within windows.JoinWindow, joiner WindowJoiner[K, L, R, O],
) topology.Stream[K, O] {
	b := builderOf(left, right)
	given(b, named("JoinWindowContext", name), function{"joiner", joiner})
	keyCodec, errK := state.KeyCodecOf[K]()
	leftCodec, errL := state.CodecOf[L]()
	rightCodec, errR := state.CodecOf[R]()
	for _, err := range []error{errK, errL, errR, within.Validate()} {
		if err != nil {
			b.Errorf("topology: %v %q: %w", kind, name, err)
		}
	}
	if kind > Outer {
		b.Errorf("topology: %v %q: there is no such kind; use Inner, Left or Outer", kind, name)
	}
	return topology.AddStream[K, O](b, topology.Node{
		Name:   name,
		Kind:   topology.Kind(kind.String()),
		Inputs: []*topology.Node{left.Node(), right.Node()},
		Needs:  topology.Needs(2, topology.ByKey()),
		Stores: []topology.StoreSpec{
			{Name: "left", Schema: leftCodec.Fingerprint}, {Name: "right", Schema: rightCodec.Fingerprint},
			{Name: "timers", Schema: timerSchema},
		},
		PerTransaction: true,
		UsesTime:       true,
		Detail:         within.String(),
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			j := &windowJoin[K, L, R, O]{
				windowPairs: newWindowPairs[K, O](rt, keyCodec), joiner: joiner,
				left:  newJoinSide[K](rt, 0, "left", leftCodec, within),
				right: newJoinSide[K](rt, 1, "right", rightCodec, within.Mirror()),
			}
			j.left.id, j.left.keeps, j.left.each = leftSide, kind != Inner, j.pairLeft
			j.right.id, j.right.keeps, j.right.each = rightSide, kind == Outer, j.pairRight
			j.fired = j.due
			return j, nil
		},
	})
}

// windowJoin joins each record, when it comes, to what is buffered of the other side.
type windowJoin[K comparable, L, R, O any] struct {
	windowPairs[K, O]
	joiner WindowJoiner[K, L, R, O]
	left   *joinSide[K, L]
	right  *joinSide[K, R]

	// The record at work, and the right ones of the step that wait for their turn.
	l       *record.Record[K, L]
	r       *record.Record[K, R]
	waiting []record.Record[K, R]
}

// Step joins the records of both sides in order of their tags.
func (j *windowJoin[K, L, R, O]) Step(s *topology.Step) error {
	j.begin(s)
	err := j.right.in.Records(func(chunk []record.Record[K, R]) bool {
		j.waiting = append(j.waiting, chunk...)
		return true
	})
	next := 0
	if err == nil {
		err = eachOf(j.left.in.Records, func(r *record.Record[K, L]) (err error) {
			if next, err = j.rightUpTo(next, &r.Tag); err == nil {
				err = j.arriveLeft(r)
			}
			return err
		})
	}
	if err == nil {
		_, err = j.rightUpTo(next, nil)
	}
	if err == nil {
		err = j.finish(s)
	}
	j.l, j.r = nil, nil
	return err
}

// rightUpTo joins the right records from the next one on that come before a tag.
func (j *windowJoin[K, L, R, O]) rightUpTo(next int, tag *record.Tag) (int, error) {
	for next < len(j.waiting) && (tag == nil || j.waiting[next].Tag.Compare(*tag) < 0) {
		if err := j.arriveRight(&j.waiting[next]); err != nil {
			return next, err
		}
		next++
	}
	return next, nil
}

func (j *windowJoin[K, L, R, O]) arriveLeft(r *record.Record[K, L]) error {
	j.l = r
	switch null := j.arrive(r.Key, r.Tag, leftSide); {
	case null && j.left.keeps:
		return j.aloneLeft(r.Time, &r.Value)
	case null:
		return nil
	case j.left.window.Late(r.Time, j.before):
		j.lates.n++
		return nil
	}
	first, last := j.left.window.Range(r.Time)
	found, err := j.right.match(j.key, first, last)
	if err != nil {
		return err
	}
	return j.left.add(j.timers, j.key, r, found)
}

func (j *windowJoin[K, L, R, O]) arriveRight(r *record.Record[K, R]) error {
	j.r = r
	switch null := j.arrive(r.Key, r.Tag, rightSide); {
	case null && j.right.keeps:
		return j.aloneRight(r.Time, &r.Value)
	case null:
		return nil
	case j.right.window.Late(r.Time, j.before):
		j.lates.n++
		return nil
	}
	first, last := j.right.window.Range(r.Time)
	found, err := j.left.match(j.key, first, last)
	if err != nil {
		return err
	}
	return j.right.add(j.timers, j.key, r, found)
}

// pairLeft joins a buffered left record to the right one at work.
func (j *windowJoin[K, L, R, O]) pairLeft(at int64, l *L) error {
	at = max(at, j.r.Time)
	o, emit, err := j.joiner(j.context(at), j.cursor.key, *l, true, j.r.Value, true)
	return j.put(at, o, emit, err)
}

// pairRight joins a buffered right record to the left one at work.
func (j *windowJoin[K, L, R, O]) pairRight(at int64, r *R) error {
	at = max(at, j.l.Time)
	o, emit, err := j.joiner(j.context(at), j.cursor.key, j.l.Value, true, *r, true)
	return j.put(at, o, emit, err)
}

func (j *windowJoin[K, L, R, O]) aloneLeft(at int64, l *L) error {
	var none R
	o, emit, err := j.joiner(j.context(at), j.cursor.key, *l, true, none, false)
	return j.put(at, o, emit, err)
}

func (j *windowJoin[K, L, R, O]) aloneRight(at int64, r *R) error {
	var none L
	o, emit, err := j.joiner(j.context(at), j.cursor.key, none, false, *r, true)
	return j.put(at, o, emit, err)
}

// due takes a timer of a buffered record. What it puts out is placed by the record's
// time, then side, key and arrival.
func (j *windowJoin[K, L, R, O]) due(_ int64, timer []byte) error {
	key, rest, err := j.keyCodec.Decode(timer[1:])
	if err != nil {
		return err
	}
	j.at(key)
	at, keyEnd := decodeTime(rest), len(timer)-len(rest)
	if timer[0] == leftSide {
		return j.left.due(j.timers, timer, at, j.now, func(v *L) error {
			j.tag.Path = j.duePath(at, timer, keyEnd)
			return j.aloneLeft(at, v)
		})
	}
	return j.right.due(j.timers, timer, at, j.now, func(v *R) error {
		j.tag.Path = j.duePath(at, timer, keyEnd)
		return j.aloneRight(at, v)
	})
}

// EndStep forgets the step's records.
func (j *windowJoin[K, L, R, O]) EndStep() {
	j.records.EndStep()
	j.waiting = forget(j.waiting)
}
