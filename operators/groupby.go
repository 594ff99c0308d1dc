package operators

import (
	"encoding/binary"
	"fmt"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

// Grouped is a stream or a table divided into groups under keys of type G, ready
// to be aggregated.
type Grouped[G comparable, V any] struct {
	b     *topology.Builder
	input *topology.Node
	// open makes the running form, which feeds an aggregate.
	open   func(rt *topology.Runtime) groupInput[G, V]
	detail string
	// problems are reported by the aggregate, which has a name.
	problems []error
}

// groupInput yields what a step adds to groups and takes from them.
type groupInput[G comparable, V any] interface {
	each(s *topology.Step, visit visitGroup[G, V]) error
	CurrentKey() any
}

// visitGroup takes one contribution to a group. id is the contribution's identity
// within the input: the encoded key of a row, or the place of a record. It is valid
// during the call.
type visitGroup[G comparable, V any] func(g G, id []byte, v *V, add bool, time int64) error

// GroupBy divides the rows of a table or the records of a stream into groups. A
// table's row that moves to another group is taken from the old one and added to
// the new one in the same step. A group key of type sql.Null keeps a group of its
// own for NULL, as SQL's GROUP BY does.
func GroupBy[K comparable, V any, G comparable, H Handle[K, V]](
	in H, group func(K, V) G,
) Grouped[G, V] {
	switch h := any(in).(type) {
	case topology.Table[K, V]:
		return groupTable(h, group)
	case topology.Stream[K, V]:
		return groupStream(h, group)
	}
	panic("operators: unreachable: Handle is a Stream or a Table")
}

// GroupByKey groups the records of a stream by their keys. (The rows of a table have
// a key each, so such groups would hold one row.)
func GroupByKey[K comparable, V any](in topology.Stream[K, V]) Grouped[K, V] {
	return groupStream(in, func(k K, _ V) K { return k })
}

func groupTable[K comparable, V any, G comparable](
	in topology.Table[K, V], group func(K, V) G,
) Grouped[G, V] {
	keyCodec, err := state.KeyCodecOf[K]()
	return Grouped[G, V]{
		b: in.Builder(), input: in.Node(), problems: []error{err},
		open: func(rt *topology.Runtime) groupInput[G, V] {
			return &tableGroups[K, V, G]{
				cursor: newCursor[K](rt), in: topology.TableInput[K, V](rt, 0), group: group, keyCodec: keyCodec,
			}
		},
	}
}

type tableGroups[K comparable, V any, G comparable] struct {
	cursor[K]
	in       topology.TableOutput[K, V]
	group    func(K, V) G
	keyCodec state.KeyCodec[K]
	id       []byte
}

// each takes the old rows from their groups before it adds the new ones, so that
// a row that stays in its group never counts twice.
func (t *tableGroups[K, V, G]) each(_ *topology.Step, visit visitGroup[G, V]) error {
	var failed error
	err := t.in.Changes(func(chunk []record.Change[K, V]) bool {
		for i := range chunk {
			c := &chunk[i]
			t.at(c.Key)
			t.id = t.keyCodec.Append(t.id[:0], c.Key)
			if c.HasOld() {
				if failed = visit(t.group(c.Key, c.Old), t.id, &c.Old, false, c.Time); failed != nil {
					return false
				}
			}
			if c.HasNew() {
				if failed = visit(t.group(c.Key, c.New), t.id, &c.New, true, c.Time); failed != nil {
					return false
				}
			}
		}
		return true
	})
	return firstError(err, failed)
}

func groupStream[K comparable, V any, G comparable](
	in topology.Stream[K, V], group func(K, V) G,
) Grouped[G, V] {
	return Grouped[G, V]{
		b: in.Builder(), input: in.Node(),
		open: func(rt *topology.Runtime) groupInput[G, V] {
			return &streamGroups[K, V, G]{
				cursor: newCursor[K](rt), in: topology.StreamInput[K, V](rt, 0), group: group,
			}
		},
	}
}

type streamGroups[K comparable, V any, G comparable] struct {
	cursor[K]
	in    topology.StreamOutput[K, V]
	group func(K, V) G
	id    []byte
}

func (t *streamGroups[K, V, G]) each(_ *topology.Step, visit visitGroup[G, V]) error {
	var failed error
	err := t.in.Records(func(chunk []record.Record[K, V]) bool {
		for i := range chunk {
			r := &chunk[i]
			t.at(r.Key)
			t.id = appendTag(t.id[:0], r.Tag)
			failed = visit(t.group(r.Key, r.Value), t.id, &r.Value, true, r.Time)
			if failed != nil {
				return false
			}
		}
		return true
	})
	return firstError(err, failed)
}

// appendTag encodes a record's identity so that ids order as records do.
func appendTag(dst []byte, t record.Tag) []byte {
	var pos uint64
	var source string
	if t.Tx != nil {
		pos, source = t.Tx.Position, t.Tx.Source
	}
	dst = binary.BigEndian.AppendUint64(dst, pos)
	dst = binary.BigEndian.AppendUint32(dst, t.Ordinal)
	dst = append(dst, t.Path...)
	return append(append(dst, 0), source...)
}

// Window divides the groups of a stream further, by event time. Records that come
// after their window has closed are dropped and counted as late.
func Window[G comparable, V any](
	in Grouped[G, V], w windows.TumblingWindow,
) Grouped[windows.Windowed[G], V] {
	problems := append(in.problems[:len(in.problems):len(in.problems)], w.Validate())
	if in.input != nil && in.input.Shape == topology.ShapeTable {
		problems = append(problems, fmt.Errorf("operators: %q is a table, whose rows have no one time; "+
			"window a stream, or group the table by the start of a period", in.input.Name))
	}
	return Grouped[windows.Windowed[G], V]{
		b: in.b, input: in.input, detail: w.String(), problems: problems,
		open: func(rt *topology.Runtime) groupInput[windows.Windowed[G], V] {
			return &windowGroups[G, V]{groupInput: in.open(rt), window: w, node: rt.Node(), drop: rt.Drop}
		},
	}
}

type windowGroups[G comparable, V any] struct {
	groupInput[G, V]
	window windows.TumblingWindow
	node   *topology.Node
	drop   func(n *topology.Node, reason string, count int)
}

// each judges every record against stream time before its transaction, so that
// nothing inside one transaction, such as a snapshot, is late.
func (w *windowGroups[G, V]) each(
	s *topology.Step, visit visitGroup[windows.Windowed[G], V],
) error {
	streamTime := s.Before[w.node.ID]
	late := 0
	err := w.groupInput.each(s, func(g G, id []byte, v *V, add bool, time int64) error {
		win := w.window.Of(time)
		if w.window.Closed(win, streamTime) {
			late++
			return nil
		}
		return visit(windows.Windowed[G]{Key: g, Window: win}, id, v, add, time)
	})
	if late > 0 && w.drop != nil {
		w.drop(w.node, "late", late)
	}
	return err
}
