package operators

import (
	"encoding/binary"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// ToTable makes a table of the latest value of each key of a stream.
//
// The last record in commit order wins, also if it is out of order by event time:
// nothing is late. Nothing is deleted, since a record always has a value; TTL ends rows.
// A key or a value of type sql.Null that is NULL is one like any other.
func ToTable[K comparable, V any](name string, in topology.Stream[K, V]) topology.Table[K, V] {
	b := in.Builder()
	keyCodec, errK := state.KeyCodecOf[K]()
	codec, errV := state.CodecOf[V]()
	for _, err := range []error{errK, errV} {
		if err != nil {
			b.Errorf("topology: to-table %q: %w", name, err)
		}
	}
	return topology.AddTable[K, V](b, topology.Node{
		Name:   name,
		Kind:   "to-table",
		Inputs: []*topology.Node{in.Node()},
		Needs:  topology.Needs(1, topology.ByKey()),
		Stores: []topology.StoreSpec{{Schema: codec.Fingerprint}},
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			t := &toTable[K, V]{
				in:    topology.StreamInput[K, V](rt, 0),
				Table: state.NewTable(rt.Env, rt.StoreIDFor(""), keyCodec, codec),
			}
			rt.Register(t.Table)
			return t, nil
		},
	})
}

type toTable[K comparable, V any] struct {
	*state.Table[K, V]
	in topology.StreamOutput[K, V]
}

// Step puts the records.
func (t *toTable[K, V]) Step(*topology.Step) error {
	return eachOf(t.in.Records, func(r *record.Record[K, V]) error { return t.Put(r.Key, r.Value, r.Time) })
}

// ToStream makes a stream of a table's net changes, one record a changed key and
// transaction. Since every version counts, each transaction becomes a step of its
// own; Describe says so.
//
// Keys of one transaction come in ascending order of their encoded form, so the
// order does not depend on how the table was computed.
//
// Of a Versioned table it also passes on the rows that came out of order, each with what
// its key had as of then as its old value.
//
// A row that is deleted is a record, too, without a new value; records are facts and are
// not retracted. NULL is a value like any other. Nothing is late.
func ToStream[K comparable, V any](
	name string, in topology.Table[K, V],
) topology.Stream[K, record.Change[K, V]] {
	b := in.Builder()
	keyCodec, err := state.KeyCodecOf[K]()
	if err != nil {
		b.Errorf("topology: to-stream %q: %w", name, err)
	}
	return topology.AddStream[K, record.Change[K, V]](b, topology.Node{
		Name:           name,
		NeedsName:      true,
		Kind:           "to-stream",
		PerTransaction: true,
		Inputs:         []*topology.Node{in.Node()},
		Needs:          topology.Needs(1, topology.ByKey()),
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			t := &toStream[K, V]{in: topology.TableInput[K, V](rt, 0), keyCodec: keyCodec}
			if late, ok := t.in.(lateRows[K, V]); ok {
				late.wantLate()
				t.late = late
			}
			return t, nil
		},
	})
}

type toStream[K comparable, V any] struct {
	records[K, record.Change[K, V]]
	in       topology.TableOutput[K, V]
	late     lateRows[K, V] // nil where rows have no order but the log's
	keyCodec state.KeyCodec[K]
	sorter   keySorter
	paths    paths
	permuted []record.Record[K, record.Change[K, V]]
}

// EndStep forgets the step's records.
func (t *toStream[K, V]) EndStep() {
	t.records.EndStep()
	t.permuted = forget(t.permuted)
}

// Step turns the changes of the step's one transaction into records.
func (t *toStream[K, V]) Step(s *topology.Step) error {
	if len(s.Txs) == 0 {
		return nil
	}
	t.sorter.reset()
	err := t.in.Changes(func(chunk []record.Change[K, V]) bool {
		for _, c := range chunk {
			t.sorter.add(func(dst []byte) []byte { return t.keyCodec.Append(dst, c.Key) })
			t.out = append(t.out, record.Record[K, record.Change[K, V]]{Key: c.Key, Value: c, Time: c.Time})
		}
		return true
	})
	if err != nil {
		return err
	}
	t.addLate()
	t.permuted = t.permuted[:0]
	for _, i := range t.sorter.order() {
		r := t.out[i]
		// Changes of a table come after all rows of their transaction.
		r.Tag = lateTag(s, t.paths.join("", t.sorter.at(i)))
		t.permuted = append(t.permuted, r)
	}
	t.out, t.permuted = t.permuted, t.out
	return nil
}

// addLate adds the rows that came out of order, in the order in which they came; of a
// key, after its change.
func (t *toStream[K, V]) addLate() {
	if t.late == nil {
		return
	}
	count := map[K]uint32{} // by key, so that places do not depend on other keys
	for _, c := range t.late.lateRows() {
		t.sorter.add(func(dst []byte) []byte {
			return binary.BigEndian.AppendUint32(t.keyCodec.Append(dst, c.Key), count[c.Key])
		})
		count[c.Key]++
		t.out = append(t.out, record.Record[K, record.Change[K, V]]{Key: c.Key, Value: c, Time: c.Time})
	}
}

// lateTag is the tag of a record made from a table's change, or because time has
// passed: it comes after all rows of the step's last transaction. path tells such
// records of a node apart.
func lateTag(s *topology.Step, path string) record.Tag {
	tag := record.Tag{Ordinal: record.LateOrdinal, Path: path}
	if n := len(s.Txs); n > 0 {
		tag.Tx = s.Txs[n-1]
		tag.Seq = s.Seq(tag.Tx)
	}
	return tag
}
