package operators

import (
	"errors"
	"fmt"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

// Window divides the groups of a stream further, by event time, into tumbling, hopping,
// calendar, sliding or session windows.
//
// A record is judged by stream time before its transaction, so nothing within a
// transaction, such as a snapshot, is late. It is added to those of its windows that
// are open then, out of order or not; a record that a closed window of it has to do
// without is counted as late, once. Windows close when stream time reaches the
// definition's Closes, also by heartbeats. Records are facts, so nothing is retracted,
// but for sessions: when a record extends one or joins two, the rows of the old
// sessions are deleted and one of the new session comes in the same step. A value of a
// pointer type or sql.Null that is NULL is a record as any other: Count counts it, the
// ...Null aggregators skip it.
//
// Sliding windows keep each record until its last window has closed. Sessions demand
// an aggregator that can merge; a session that has closed is final: a record close to
// it that is not late itself begins a session of its own.
//
// The rows of closed windows stay; the option Retention or the operator TTL ends them.
func Window[G comparable, V any](
	in Grouped[G, V], def windows.Definition,
) Grouped[windows.Windowed[G], V] {
	out := windowed(in, def)
	if n := in.table(); n != nil {
		out.problems = append(out.problems, fmt.Errorf("operators: %q is a table, whose rows have no one time; "+
			"use WindowBy, which takes the time from the row, or window a stream", n.Name))
	}
	if def == nil {
		return out
	}
	out.closes = func(k windows.Windowed[G]) int64 { return def.Closes(k.Window) }
	switch d := def.(type) {
	case windows.Assigner:
		out.open = func(rt *topology.Runtime, first int) groupInput[windows.Windowed[G], V] {
			return &windowGroups[G, V]{groupInput: in.open(rt, first), window: d, lates: newLates(rt), closes: true}
		}
	case windows.SlidingWindow:
		openSliding(&out, in, d)
	case windows.SessionWindow:
		openSessions(&out, in, d)
	default:
		out.problems = append(out.problems, fmt.Errorf("operators: %s is no kind of window that records can be "+
			"assigned to; implement windows.Assigner", def))
	}
	return out
}

// WindowBy divides the groups of a table further, by a time that is in the row, into
// tumbling, hopping or calendar windows. Old and new times are known, so a row that is
// corrected or deleted corrects its windows, and one whose time changes moves from
// window to window, in the same step. A row whose time is the zero time is in no
// window.
//
// Without a grace windows never close. With one they close by stream time, which is
// the event time of the sources, not the time in the row: a closed window is final, and
// each change that it would have taken is counted as late. Aggregators must be able to
// take values out, as over all tables. Sliding and session windows, which depend on
// all rows at once, are refused.
//
// A row that is deleted leaves its window. Rows may come in any order. A group key that
// is NULL is a group like any other.
func WindowBy[G comparable, V any](
	in Grouped[G, V], def windows.Definition, at func(V) time.Time,
) Grouped[windows.Windowed[G], V] {
	out := windowed(in, def)
	if len(in.inputs) > 0 && in.table() == nil {
		out.problems = append(
			out.problems,
			fmt.Errorf("operators: %q is a stream; use Window, and EventTime of the "+
				"source to take the time from the row", inputNames(in.inputs)),
		)
	}
	if at == nil {
		out.problems = append(out.problems, errors.New("operators: WindowBy was given nil as the function that "+
			"takes the time from the row; give it one"))
	}
	d, ok := def.(windows.Assigner)
	if !ok {
		if def != nil {
			out.problems = append(out.problems, fmt.Errorf("operators: %s windows over a table are not supported: "+
				"one row that goes may split them; use tumbling or hopping windows, or window a stream", def))
		}
		return out
	}
	if d.HasGrace() {
		out.closes = func(k windows.Windowed[G]) int64 { return def.Closes(k.Window) }
	}
	out.open = func(rt *topology.Runtime, first int) groupInput[windows.Windowed[G], V] {
		return &windowGroups[G, V]{
			groupInput: in.open(rt, first), window: d, lates: newLates(rt), closes: d.HasGrace(), at: at,
		}
	}
	return out
}

// windowed is what all windowed groups have in common.
func windowed[G comparable, V any](
	in Grouped[G, V], def windows.Definition,
) Grouped[windows.Windowed[G], V] {
	out := Grouped[windows.Windowed[G], V]{
		b: in.b, inputs: in.inputs, needs: in.needs, windowed: true, stores: in.stores,
		problems: in.problems[:len(in.problems):len(in.problems)],
	}
	if def == nil {
		out.problems = append(out.problems, fmt.Errorf("operators: no windows were given; use windows.Tumbling, "+
			"Hopping, Sliding or Session"))
		return out
	}
	out.detail = def.String()
	out.windows = def
	if in.detail != "" {
		out.detail = in.detail + " " + out.detail
	}
	out.problems = append(out.problems, def.Validate())
	if in.windowed {
		out.problems = append(out.problems, fmt.Errorf("operators: the groups are windowed already (%s); window "+
			"them once", in.detail))
	}
	return out
}

func inputNames(nodes []*topology.Node) string {
	var names string
	for i, n := range nodes {
		if i > 0 {
			names += ", "
		}
		if n != nil {
			names += n.Name
		}
	}
	return names
}

// windowGroups puts contributions into the windows that their time says.
type windowGroups[G comparable, V any] struct {
	groupInput[G, V]
	window windows.Assigner
	lates  lates
	closes bool
	at     func(V) time.Time // of a table's rows; nil: the contribution's own time
	in     []windows.Window
}

// each judges every contribution against stream time before its transaction, so that
// nothing inside one transaction, such as a snapshot, is late.
func (w *windowGroups[G, V]) each(
	s *topology.Step, visit visitGroup[windows.Windowed[G], V],
) error {
	streamTime := s.Before[w.lates.node.ID]
	err := w.groupInput.each(s, func(g G, c *contribution[V]) error {
		time := c.time
		if w.at != nil {
			at := w.at(*c.value)
			if at.IsZero() {
				return nil
			}
			time = record.Micros(at)
		}
		late := false
		w.in = w.window.Assign(w.in[:0], time)
		for _, win := range w.in {
			if w.closes && windows.Closed(w.window, win, streamTime) {
				late = true
				continue
			}
			if err := visit(windows.Windowed[G]{Key: g, Window: win}, c); err != nil {
				return err
			}
		}
		if late {
			w.lates.n++
		}
		return nil
	})
	w.lates.report()
	return err
}
