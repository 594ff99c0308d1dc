package operators

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

// openSliding completes out, the sliding windows of in.
func openSliding[G comparable, V any](
	out *Grouped[windows.Windowed[G], V], in Grouped[G, V], def windows.SlidingWindow,
) {
	keyCodec, errK := state.KeyCodecOf[G]()
	codec, errV := state.CodecOf[V]()
	if errV != nil {
		errV = fmt.Errorf("operators: sliding windows keep the records for a while, but they cannot be stored: %w",
			errV)
	}
	out.problems = append(out.problems, errK, errV)
	out.stores = append(out.stores,
		topology.StoreSpec{Name: "records", Schema: "sliding-1," + codec.Fingerprint},
		topology.StoreSpec{Name: "expiry", Schema: timerSchema})
	out.open = func(rt *topology.Runtime, first int) groupInput[windows.Windowed[G], V] {
		w := &slidingGroups[G, V]{
			groupInput: in.open(rt, first), def: def, lates: newLates(rt), keyCodec: keyCodec, codec: codec,
			records: state.NewOrdered(rt.Env, rt.StoreIDFor("records")), expiry: newTimers(rt, "expiry", byKey[G](8)),
		}
		w.collect = w.collectNear
		rt.Register(w.records)
		return w
	}
}

// expiringInput is a groupInput that forgets when stream time passes.
type expiringInput interface {
	// NextTimer is when it next has something to forget.
	NextTimer() (at int64, ok bool)
	expire(now int64) error
}

// slidingGroups puts records into sliding windows. It keeps the records themselves, by
// group and time: they say which windows there are, and what a new one begins with.
//
// The windows of a group are, for each time t of a record, EndingAt(t), and After(t)
// where records are in it. Windows are visited only while they are open, and a record
// is kept until the last window that holds it or begins behind it has closed. So an
// open window is always found to exist exactly if it does, and with all its records.
type slidingGroups[G comparable, V any] struct {
	groupInput[G, V]
	def      windows.SlidingWindow
	lates    lates
	keyCodec state.KeyCodec[G]
	codec    state.Codec[V]
	records  *state.Ordered // group, time, sequence -> id, value
	expiry   *timers        // group, time

	visit      visitGroup[windows.Windowed[G], V]
	group      G
	streamTime int64
	late       bool

	prefix, key, buf []byte
	scan             keyRange
	collect          func(key, value []byte) bool
	// near are the records of the group that share windows with the one at work.
	near  []nearRecord
	arena []byte
	known []windows.Window // the windows that there are and that hold the record at work
	value V
	again contribution[V]
}

// nearRecord is a stored record; from and to are where it is in the arena.
type nearRecord struct {
	time     int64
	seq      uint64 // order of arrival
	from, to int
}

// each judges every record against stream time before its transaction.
func (w *slidingGroups[G, V]) each(
	s *topology.Step, visit visitGroup[windows.Windowed[G], V],
) error {
	w.streamTime, w.visit = s.Before[w.lates.node.ID], visit
	err := w.groupInput.each(s, w.add)
	w.lates.report()
	return err
}

// add puts one record into its windows.
func (w *slidingGroups[G, V]) add(g G, c *contribution[V]) error {
	t := c.time
	last := windows.Window{Start: t, End: w.def.After(t).End - 1}
	if windows.Closed(w.def, last, w.streamTime) {
		w.lates.n++
		return nil
	}
	w.group, w.late = g, false
	if err := w.gather(t); err != nil {
		return err
	}
	fresh := w.freshWindows(t)
	for _, win := range w.known {
		if w.closed(win, c) {
			continue
		}
		if err := w.visit(windows.Windowed[G]{Key: g, Window: win}, c); err != nil {
			return err
		}
	}
	slices.SortFunc(w.near, func(a, b nearRecord) int { return cmp.Compare(a.seq, b.seq) })
	for _, win := range fresh {
		if w.closed(win, c) {
			continue
		}
		if err := w.begin(win, c); err != nil {
			return err
		}
	}
	if w.late {
		w.lates.n++
	}
	return w.keep(c)
}

// gather reads the records that lie so close that windows of theirs hold t, or that
// windows of t hold them.
func (w *slidingGroups[G, V]) gather(t int64) error {
	w.prefix = w.keyCodec.Append(w.prefix[:0], w.group)
	after := w.def.After(t)
	before := w.def.EndingAt(t).Start
	if d := w.def.Difference(); t >= math.MinInt64+d+1 {
		before = t - d - 1
	}
	w.scan.set(w.prefix, before, after.End)
	w.near, w.arena = w.near[:0], w.arena[:0]
	return w.records.ScanRange(w.scan.lower, w.scan.upper, false, w.collect)
}

func (w *slidingGroups[G, V]) collectNear(key, value []byte) bool {
	n, from := len(w.prefix), len(w.arena)
	w.arena = append(w.arena, value...)
	w.near = append(w.near, nearRecord{
		time: decodeTime(key[n:]), seq: binary.BigEndian.Uint64(key[n+8:]), from: from, to: len(w.arena),
	})
	return true
}

// freshWindows finds the windows that a record at t belongs to: those that there are
// go to w.known, in order; those that come with it are returned, and the one behind it.
func (w *slidingGroups[G, V]) freshWindows(t int64) []windows.Window {
	w.known = w.known[:0]
	there, before := false, -1 // whether there is a record at t; the last one before t
	for i, r := range w.near {
		there = there || r.time == t
		if r.time < t {
			before = i
			if a := w.def.After(r.time); holds(a, t) && i+1 < len(w.near) && w.holdsLater(a, i) {
				w.known = append(w.known, a)
			}
		}
		if e := w.def.EndingAt(r.time); holds(e, t) {
			w.known = append(w.known, e)
		}
	}
	slices.SortFunc(w.known, func(a, b windows.Window) int { return cmp.Compare(a.Start, b.Start) })
	w.known = slices.Compact(w.known)
	if there {
		return nil
	}
	n := len(w.known)
	add := func(win windows.Window) {
		if !slices.Contains(w.known, win) {
			w.known = append(w.known, win)
		}
	}
	add(w.def.EndingAt(t))
	if before >= 0 {
		if a := w.def.After(w.near[before].time); holds(a, t) {
			add(a)
		}
	}
	if a := w.def.After(t); w.behind(a, t) {
		add(a)
	}
	fresh := w.known[n:]
	w.known = w.known[:n]
	return fresh
}

func holds(w windows.Window, t int64) bool { return w.Start <= t && t <= w.End }

// holdsLater reports whether a window holds a record behind the i-th.
func (w *slidingGroups[G, V]) holdsLater(win windows.Window, i int) bool {
	for _, r := range w.near[i+1:] {
		if r.time > win.End {
			return false
		}
		if r.time >= win.Start {
			return true
		}
	}
	return false
}

// behind reports whether the window behind t has records and is not there yet as the
// one that ends with a record.
func (w *slidingGroups[G, V]) behind(win windows.Window, t int64) bool {
	some := false
	for _, r := range w.near {
		if r.time > t {
			if w.def.EndingAt(r.time) == win {
				return false
			}
			some = some || holds(win, r.time)
		}
	}
	return some
}

// closed reports whether a window is closed, and so has to do without the record at
// work if that belongs to it.
func (w *slidingGroups[G, V]) closed(win windows.Window, c *contribution[V]) bool {
	closed := windows.Closed(w.def, win, w.streamTime)
	w.late = w.late || closed && holds(win, c.time)
	return closed
}

// begin makes a window of the records that are in it, in order of arrival, the one at
// work last.
func (w *slidingGroups[G, V]) begin(win windows.Window, c *contribution[V]) error {
	key := windows.Windowed[G]{Key: w.group, Window: win}
	for _, r := range w.near {
		if !holds(win, r.time) {
			continue
		}
		stored := w.arena[r.from:r.to]
		n, size := binary.Uvarint(stored)
		if size <= 0 || uint64(len(stored)-size) < n {
			return fmt.Errorf("%w: a sliding window's record of %d bytes", state.ErrCorrupt, len(stored))
		}
		id, value := stored[size:size+int(n)], stored[size+int(n):]
		if err := w.codec.Decode(value, &w.value); err != nil {
			return err
		}
		w.again = contribution[V]{id: id, value: &w.value, add: true, time: r.time}
		if err := w.visit(key, &w.again); err != nil {
			return err
		}
	}
	if !holds(win, c.time) {
		return nil
	}
	return w.visit(key, c)
}

// keep stores the record until the last window that needs it closes.
func (w *slidingGroups[G, V]) keep(c *contribution[V]) error {
	seq := uint64(0)
	if n := len(w.near); n > 0 {
		seq = w.near[n-1].seq + 1
	}
	w.key = appendTime(append(w.key[:0], w.prefix...), c.time)
	if at := w.def.Closes(w.def.After(c.time)); at != math.MaxInt64 {
		if err := w.expiry.set(at, w.key); err != nil {
			return err
		}
	}
	w.key = binary.BigEndian.AppendUint64(w.key, seq)
	w.buf = append(binary.AppendUvarint(w.buf[:0], uint64(len(c.id))), c.id...)
	w.buf = w.codec.Append(w.buf, c.value)
	return w.records.Set(w.key, w.buf)
}

// NextTimer is when the next record can be forgotten.
func (w *slidingGroups[G, V]) NextTimer() (at int64, ok bool) { return w.expiry.NextTimer() }

// expire forgets the records whose windows have all closed.
func (w *slidingGroups[G, V]) expire(now int64) error {
	return w.expiry.fire(now, func(_ int64, key []byte) error {
		w.arena, w.near = w.arena[:0], w.near[:0]
		err := w.records.Scan(key, false, func(key, _ []byte) bool {
			from := len(w.arena)
			w.arena = append(w.arena, key...)
			w.near = append(w.near, nearRecord{from: from, to: len(w.arena)})
			return true
		})
		for _, r := range w.near {
			err = firstError(err, w.records.Delete(w.arena[r.from:r.to]))
		}
		return err
	})
}
