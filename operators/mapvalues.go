package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// MapValues computes a new value for every row of a table. A change that leaves
// the computed value as it is emits nothing.
//
// A row that is deleted is deleted from the result. NULL is for f to judge. Order and
// event times stay as they are, and nothing is late.
func MapValues[K comparable, V, R any](
	in topology.Table[K, V], f func(K, V) R,
) topology.Table[K, R] {
	given(in.Builder(), reading("MapValues", in), function{"f", f})
	b := in.Builder()
	codec, err := state.CodecOf[R]()
	if err != nil {
		b.Errorf("topology: map-values%s: %w", inputName(in.Node()), err)
	}
	return topology.AddTable[K, R](b, topology.Node{
		Kind:   "map-values",
		Inputs: []*topology.Node{in.Node()},
		Needs:  topology.Needs(1, topology.ByKey()),

		TakesPolicy: true,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			g, err := guardedRows(rt, "", topology.TableInput[K, V](rt, 0), func(k K, v *V, r *R) bool {
				*r = f(k, *v)
				return true
			})
			if g != nil || err != nil {
				return kept(rt, g), err
			}
			m := &tableMap[K, V, R]{
				cursor: newCursor[K](rt), in: topology.TableInput[K, V](rt, 0), f: f, equal: codec.Equal,
			}
			m.keep = fanOut(rt)
			return m, nil
		},
	})
}

type tableMap[K comparable, V, R any] struct {
	changes[K, R]
	cursor[K]
	in    topology.TableOutput[K, V]
	f     func(K, V) R
	equal func(a, b *R) bool
}

// Step does nothing: a map works when its output is walked.
func (m *tableMap[K, V, R]) Step(*topology.Step) error { return nil }

// Changes yields the input's changes as mapped.
func (m *tableMap[K, V, R]) Changes(yield func([]record.Change[K, R]) bool) error {
	return m.walk(m.compute, yield)
}

func (m *tableMap[K, V, R]) compute(yield func([]record.Change[K, R]) bool) error {
	return m.in.Changes(func(chunk []record.Change[K, V]) bool {
		m.out = m.out[:0]
		for i := range chunk {
			c := &chunk[i]
			m.out = append(m.out, record.Change[K, R]{Key: c.Key, Sides: c.Sides, Time: c.Time})
			o := &m.out[len(m.out)-1]
			m.apply(c.Key, c.Sides, &c.Old, &c.New, &o.Old, &o.New)
			m.out = dropEqual(m.out, m.equal)
		}
		return len(m.out) == 0 || yield(m.out)
	})
}

func (m *tableMap[K, V, R]) apply(key K, has record.Sides, older, newer *V, outOld, outNew *R) {
	m.at(key)
	if has&record.HasOld != 0 {
		*outOld = m.f(key, *older)
	}
	if has&record.HasNew != 0 {
		*outNew = m.f(key, *newer)
	}
}

// At maps the input's values.
func (m *tableMap[K, V, R]) At(key K) (record.Versions[R], error) {
	v, err := m.in.At(key)
	out := record.Versions[R]{Sides: v.Sides, Time: v.Time}
	if err == nil {
		m.apply(key, v.Sides, &v.Old, &v.New, &out.Old, &out.New)
	}
	return out, err
}
