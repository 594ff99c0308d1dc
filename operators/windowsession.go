package operators

import (
	"math"

	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

// sessionSchema is the fingerprint of the index of open sessions.
const sessionSchema = "sessions-1"

// openSessions completes out, the session windows of in.
func openSessions[G comparable, V any](
	out *Grouped[windows.Windowed[G], V], in Grouped[G, V], def windows.SessionWindow,
) {
	keyCodec, err := state.KeyCodecOf[G]()
	out.problems = append(out.problems, err)
	out.merges = true
	out.stores = append(out.stores, topology.StoreSpec{Name: "sessions", Schema: sessionSchema})
	out.open = func(rt *topology.Runtime, first int) groupInput[windows.Windowed[G], V] {
		w := &sessionGroups[G, V]{
			groupInput: in.open(rt, first), def: def, lates: newLates(rt), keyCodec: keyCodec,
			open: state.NewOrdered(rt.Env, rt.StoreIDFor("sessions")),
		}
		w.collect = w.collectOpen
		rt.Register(w.open)
		return w
	}
}

// mergingInput is a groupInput whose groups can become one.
type mergingInput[G comparable] interface {
	// onMerge says what to call when a group becomes part of another one.
	onMerge(merge func(from, into G, ended, time int64) error)
	// closed says that a group takes no more contributions.
	closed(g G) error
}

// sessionGroups puts contributions into sessions. Open sessions of a group are entries
// of an index, by their end; they are more than a gap apart.
type sessionGroups[G comparable, V any] struct {
	groupInput[G, V]
	def      windows.SessionWindow
	lates    lates
	keyCodec state.KeyCodec[G]
	open     *state.Ordered
	merge    func(from, into windows.Windowed[G], ended, time int64) error
	c        contribution[V]

	prefix  []byte
	key     []byte
	scan    keyRange
	collect func(key, value []byte) bool
	// found are the open sessions that the record at work belongs to, in order.
	found      []windows.Window
	around     windows.Window
	streamTime int64
}

func (w *sessionGroups[G, V]) onMerge(
	merge func(from, into windows.Windowed[G], ended, time int64) error,
) {
	w.merge = merge
}

// each judges every record against stream time before its transaction.
func (w *sessionGroups[G, V]) each(
	s *topology.Step, visit visitGroup[windows.Windowed[G], V],
) error {
	w.streamTime = s.Before[w.lates.node.ID]
	err := w.groupInput.each(s, func(g G, c *contribution[V]) error {
		session := windows.Window{Start: c.time, End: c.time}
		if err := w.find(g, c.time); err != nil {
			return err
		}
		for _, f := range w.found {
			session.Start, session.End = min(session.Start, f.Start), max(session.End, f.End)
		}
		if windows.Closed(w.def, session, w.streamTime) {
			w.lates.n++
			return nil
		}
		key := windows.Windowed[G]{Key: g, Window: session}
		if len(w.found) != 1 || w.found[0] != session {
			if err := w.replace(key); err != nil {
				return err
			}
		}
		w.c = *c
		w.c.time = session.End // the time of a session's row, whichever record came last
		return visit(key, &w.c)
	})
	w.lates.report()
	return err
}

// find collects the open sessions that are at most a gap away.
func (w *sessionGroups[G, V]) find(g G, at int64) error {
	w.found, w.around = w.found[:0], w.def.Around(at)
	w.prefix = w.keyCodec.Append(w.prefix[:0], g)
	w.scan.set(w.prefix, w.around.Start, math.MaxInt64)
	return w.open.ScanRange(w.scan.lower, w.scan.upper, false, w.collect)
}

func (w *sessionGroups[G, V]) collectOpen(key, _ []byte) bool {
	n := len(w.prefix)
	f := windows.Window{Start: decodeTime(key[n+8:]), End: decodeTime(key[n:])}
	if f.Start > w.around.End {
		return false
	}
	if !windows.Closed(w.def, f, w.streamTime) {
		w.found = append(w.found, f)
	}
	return true
}

// replace puts a session in the place of those that were found.
func (w *sessionGroups[G, V]) replace(into windows.Windowed[G]) error {
	for _, f := range w.found {
		if err := w.open.Delete(w.entry(f)); err != nil {
			return err
		}
		from := windows.Windowed[G]{Key: into.Key, Window: f}
		if err := w.merge(from, into, f.End, into.Window.End); err != nil {
			return err
		}
	}
	return w.open.Set(w.entry(into.Window), nil)
}

// entry encodes the index entry of a session of the group at work.
func (w *sessionGroups[G, V]) entry(s windows.Window) []byte {
	w.key = appendTime(appendTime(append(w.key[:0], w.prefix...), s.End), s.Start)
	return w.key
}

// closed forgets a session that is final.
func (w *sessionGroups[G, V]) closed(k windows.Windowed[G]) error {
	w.prefix = w.keyCodec.Append(w.prefix[:0], k.Key)
	return w.open.Delete(w.entry(k.Window))
}
