package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// Grouped is a stream, several streams or a table divided into groups under keys of
// type G, ready to be aggregated.
type Grouped[G comparable, V any] struct {
	b      *topology.Builder
	inputs []*topology.Node
	needs  []topology.Need // of the inputs
	// open makes the running form, which feeds an aggregate; first is the place of the
	// first of its inputs among those of the aggregate.
	open   func(rt *topology.Runtime, first int) groupInput[G, V]
	detail string
	// windowed says that G is a key in a window. closes is when a window takes no more
	// records; nil where none ever closes.
	windowed bool
	closes   func(G) int64
	windows  any // their windows.Definition
	// merges says that groups can become one, as sessions do.
	merges bool
	// stores are what the running form keeps.
	stores []topology.StoreSpec
	// problems are reported by the aggregate, which has a name.
	problems []error
}

// table returns the input that is a table, nil if none is.
func (g *Grouped[G, V]) table() *topology.Node {
	for _, n := range g.inputs {
		if n != nil && n.Shape == topology.ShapeTable {
			return n
		}
	}
	return nil
}

// groupInput yields what a step adds to groups and takes from them.
type groupInput[G comparable, V any] interface {
	each(s *topology.Step, visit visitGroup[G, V]) error
	CurrentKey() any
}

// visitGroup takes one contribution to a group, which is valid during the call.
type visitGroup[G comparable, V any] func(g G, c *contribution[V]) error

// contribution is a value that comes to a group or leaves it.
type contribution[V any] struct {
	// id is the contribution's identity within the input: the encoded key of a row, or
	// the place of a record.
	id    []byte
	value *V
	add   bool
	time  int64
	tag   *record.Tag // of a record
}

// GroupBy divides the rows of a table or the records of a stream into groups. A
// table's row that moves to another group is taken from the old one and added to
// the new one in the same step. A group key of type sql.Null keeps a group of its
// own for NULL, as SQL's GROUP BY does.
//
// Rows are added and taken out in no particular order, so aggregators over tables must
// not depend on it; records are added in commit order and never retracted. A row that is
// deleted leaves its group. Nothing is late, unless the groups are windowed (Window).
func GroupBy[K comparable, V any, G comparable, H Handle[K, V]](
	in H, group func(K, V) G,
) Grouped[G, V] {
	switch h := any(in).(type) {
	case topology.Table[K, V]:
		given(h.Builder(), reading("GroupBy", h), function{"group", group})
		return groupTable(h, group)
	case topology.Stream[K, V]:
		given(h.Builder(), reading("GroupBy", h), function{"group", group})
		return groupStream(h, group)
	}
	panic("operators: unreachable: Handle is a Stream or a Table")
}

// GroupByKey groups the records of a stream by their keys. (The rows of a table have
// a key each, so such groups would hold one row.)
//
// It is GroupBy with the key as it is.
func GroupByKey[K comparable, V any](in topology.Stream[K, V]) Grouped[K, V] {
	g := groupStream(in, func(k K, _ V) K { return k })
	g.needs = topology.Needs(1, topology.ByKey())
	return g
}

func groupTable[K comparable, V any, G comparable](
	in topology.Table[K, V], group func(K, V) G,
) Grouped[G, V] {
	keyCodec, err := state.KeyCodecOf[K]()
	return Grouped[G, V]{
		b: in.Builder(), inputs: []*topology.Node{in.Node()}, problems: []error{err},
		needs: []topology.Need{topology.TableBy(func(*topology.Runtime) func([]byte, K, *V) []byte {
			d, _ := topology.DividerOf[G]() // an error is reported by the aggregate
			return func(dst []byte, k K, v *V) []byte { return d.Of(dst, group(k, *v)) }
		})},
		open: func(rt *topology.Runtime, first int) groupInput[G, V] {
			return &tableGroups[K, V, G]{
				rt:       rt,
				cursor:   newCursor[K](rt),
				in:       topology.TableInput[K, V](rt, first),
				group:    group,
				keyCodec: keyCodec,
			}
		},
	}
}

type tableGroups[K comparable, V any, G comparable] struct {
	rt *topology.Runtime
	cursor[K]
	in       topology.TableOutput[K, V]
	gate     topology.TableOutput[K, V] // nil without an error policy
	group    func(K, V) G
	keyCodec state.KeyCodec[K]
	id       []byte
	c        contribution[V]
}

// each takes the old rows from their groups before it adds the new ones, so that
// a row that stays in its group never counts twice.
func (t *tableGroups[K, V, G]) each(s *topology.Step, visit visitGroup[G, V]) error {
	if t.gate != nil {
		if err := t.gate.Step(s); err != nil {
			return err
		}
	}
	return eachOf(t.in.Changes, func(c *record.Change[K, V]) error {
		t.at(c.Key)
		t.id = t.keyCodec.Append(t.id[:0], c.Key)
		if c.HasOld() {
			t.c = contribution[V]{id: t.id, value: &c.Old, time: c.Time}
			if err := visit(t.group(c.Key, c.Old), &t.c); err != nil {
				return err
			}
		}
		if !c.HasNew() {
			return nil
		}
		t.c = contribution[V]{id: t.id, value: &c.New, add: true, time: c.Time}
		return visit(t.group(c.Key, c.New), &t.c)
	})
}

func groupStream[K comparable, V any, G comparable](
	in topology.Stream[K, V], group func(K, V) G,
) Grouped[G, V] {
	return Grouped[G, V]{
		b: in.Builder(), inputs: []*topology.Node{in.Node()},
		needs: []topology.Need{topology.StreamBy(func(*topology.Runtime) func([]byte, *record.Record[K, V]) []byte {
			d, _ := topology.DividerOf[G]()
			return func(dst []byte, r *record.Record[K, V]) []byte { return d.Of(dst, group(r.Key, r.Value)) }
		})},
		open: func(rt *topology.Runtime, first int) groupInput[G, V] {
			return &streamGroups[K, V, G]{
				cursor: newCursor[K](rt), in: topology.StreamInput[K, V](rt, first), group: group,
			}
		},
	}
}

type streamGroups[K comparable, V any, G comparable] struct {
	cursor[K]
	in    topology.StreamOutput[K, V]
	group func(K, V) G
	id    []byte
	c     contribution[V]
}

func (t *streamGroups[K, V, G]) each(_ *topology.Step, visit visitGroup[G, V]) error {
	return eachOf(t.in.Records, func(r *record.Record[K, V]) error {
		t.at(r.Key)
		t.id = appendTag(t.id[:0], r.Tag)
		t.c = contribution[V]{id: t.id, value: &r.Value, add: true, time: r.Time, tag: &r.Tag}
		return visit(t.group(r.Key, r.Value), &t.c)
	})
}
