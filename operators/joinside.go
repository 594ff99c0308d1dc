package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

// What the first byte of a buffered record says of it.
const (
	joinAlone  = iota // it has found no partner yet, and that matters
	joinPaired        // it has found one, or has gone out without one, or it does not matter
)

// joinSide is one side of a join of streams: its input and the records of it that
// others may still join. They are kept under (key, time, tag), so that those that a
// record joins are next to each other, in order of time and arrival.
type joinSide[K comparable, V any] struct {
	in     topology.StreamOutput[K, V]
	codec  state.Codec[V]
	buffer *state.Ordered
	window windows.JoinWindow // as this side sees it
	keeps  bool               // a record without partner goes out
	id     byte               // in keys of timers, and the order of what goes out at one time

	// each is called for every record that match finds.
	each  func(at int64, v *V) error
	visit func(key, value []byte) bool

	value       V
	key, stored []byte
	scan        keyRange
	keyLen      int // of the encoded key at work
	found       int
	firsts      []joinEntry // found for the first time
	arena       []byte
	err         error
}

// joinEntry is the place of a buffered record in an arena: its key, then its value.
type joinEntry struct{ from, mid, to int }

// The order of what goes out at one time: Kafka Streams has right before left.
const (
	rightSide byte = iota
	leftSide
)

func newJoinSide[K comparable, V any](
	rt *topology.Runtime, input int, store string, codec state.Codec[V], w windows.JoinWindow,
) *joinSide[K, V] {
	s := &joinSide[K, V]{
		in: topology.StreamInput[K, V](rt, input), codec: codec, window: w,
		buffer: state.NewOrdered(rt.Env, rt.StoreIDFor(store)),
	}
	rt.Register(s.buffer)
	s.visit = s.look
	return s
}

// match calls each for the buffered records of an encoded key whose times lie between
// first and last, and returns how many there are.
func (s *joinSide[K, V]) match(key []byte, first, last int64) (int, error) {
	s.keyLen, s.found, s.err = len(key), 0, nil
	s.firsts, s.arena = s.firsts[:0], s.arena[:0]
	s.scan.set(key, first, last)
	err := firstError(s.buffer.ScanRange(s.scan.lower, s.scan.upper, false, s.visit), s.err)
	if err != nil {
		return 0, err
	}
	for _, e := range s.firsts {
		s.arena[e.mid] = joinPaired
		if err := s.buffer.Set(s.arena[e.from:e.mid], s.arena[e.mid:e.to]); err != nil {
			return 0, err
		}
	}
	return s.found, nil
}

func (s *joinSide[K, V]) look(key, value []byte) bool {
	if s.err = s.codec.Decode(value[1:], &s.value); s.err != nil {
		return false
	}
	if s.keeps && value[0] == joinAlone {
		e := joinEntry{from: len(s.arena)}
		s.arena = append(s.arena, key...)
		e.mid = len(s.arena)
		s.arena = append(s.arena, value...)
		e.to = len(s.arena)
		s.firsts = append(s.firsts, e)
	}
	s.found++
	s.err = s.each(decodeTime(key[s.keyLen:]), &s.value)
	return s.err == nil
}

// add buffers a record under its encoded key and waits for the close of its window, if
// that matters, or for its expiry.
func (s *joinSide[K, V]) add(t *timers, key []byte, r *record.Record[K, V], found int) error {
	if s.keeps && found == 0 {
		return s.put(t, key, r, joinAlone, s.window.Closes(r.Time))
	}
	return s.put(t, key, r, joinPaired, s.window.Expires(r.Time))
}

// put buffers a record in the given state and waits for the given time.
func (s *joinSide[K, V]) put(t *timers, key []byte, r *record.Record[K, V], state byte, at int64) error {
	s.key = appendTag(appendTime(append(append(s.key[:0], s.id), key...), r.Time), r.Tag)
	s.stored = s.codec.Append(append(s.stored[:0], state), &r.Value)
	if err := s.buffer.Set(s.key[1:], s.stored); err != nil {
		return err
	}
	return t.set(at, s.key)
}

// due takes the timer of the buffered record under key, of the given time: if the
// record has stayed alone, it calls alone for it; if it can meet nothing any more, it
// forgets it.
func (s *joinSide[K, V]) due(
	t *timers, key []byte, at, now int64, alone func(v *V) error,
) (err error) {
	var ok bool
	if s.stored, ok, err = s.buffer.Get(s.stored[:0], key[1:]); err != nil || !ok {
		return err
	}
	lone := s.keeps && s.stored[0] == joinAlone
	if lone {
		if err = s.codec.Decode(s.stored[1:], &s.value); err == nil {
			err = alone(&s.value)
		}
		if err != nil {
			return err
		}
	}
	end := s.window.Expires(at)
	if end <= now {
		return s.buffer.Delete(key[1:])
	}
	if lone {
		s.stored[0] = joinPaired
		if err := s.buffer.Set(key[1:], s.stored); err != nil {
			return err
		}
	}
	return t.set(end, key)
}
