package sinks

import (
	"encoding/binary"
	"fmt"
	"reflect"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/serde"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// KindTable is the kind of the nodes that Table makes.
const KindTable topology.Kind = "sink-table"

// Table writes a table to a table of a target: upserts and deletes, whole source
// transactions at a time, together with all other tables of the target. The
// target's columns are the key's and then the value's (tag `db:"column"`, else the
// field's name in snake_case); a scalar key is the column "key", a scalar value
// "value". A value column with a key column's name is the key's.
//
// option is the connector's own, such as a postgres.Output, at most one, and OnError.
func Table[K comparable, V any](in topology.Table[K, V], target *Target, table string, option ...Option) {
	b := in.Builder()
	if target == nil {
		b.Errorf("topology: sink-table %q: no target was given; make one with sinks.NewTarget", table)
		target = NewTarget("none", nil)
	} else if err := topology.CheckName(target.Name()); err != nil {
		b.Errorf("topology: target %q: %w", target.Name(), err)
	}
	enc, err := newRowEncoder[K, V]()
	if err != nil {
		b.Errorf("topology: sink-table %q: %w", table, err)
		return
	}
	own, policy := splitOptions(b, table, option)
	topology.Add(b, topology.Node{
		Name:    target.Name() + "/" + table,
		Kind:    KindTable,
		OnError: policy,
		Inputs:  []*topology.Node{in.Node()},
		Needs:   topology.Needs(1, topology.Any()),
		Sink: &Spec{
			Target: target,
			Output: Output{
				Name: table, Columns: enc.columns, KeyLen: enc.keyLen, Options: own,
			},
			Row: enc.decode,
		},
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			return &tableSink[K, V]{
				node: rt.Node(), in: topology.TableInput[K, V](rt, 0), out: rt.Outputs, enc: enc,
			}, nil
		},
	})
}

// tableSink encodes changes as rows in the target's text form.
type tableSink[K comparable, V any] struct {
	node     *topology.Node
	in       topology.TableOutput[K, V]
	out      topology.Outputs
	enc      *rowEncoder[K, V]
	key, row []byte
}

// EndStep does nothing: the outputs are kept for the epoch.
func (s *tableSink[K, V]) EndStep() {}

// Step puts out the step's changes.
func (s *tableSink[K, V]) Step(*topology.Step) error {
	var failed error
	err := s.in.Changes(func(chunk []record.Change[K, V]) bool {
		for i := range chunk {
			c := &chunk[i]
			s.key = s.enc.keyCodec.Append(s.key[:0], c.Key)
			if s.row, failed = s.enc.append(s.row[:0], c); failed != nil {
				return false
			}
			if failed = s.out.Upsert(s.node, s.key, s.row); failed != nil {
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	return failed
}

// rowEncoder turns changes into rows and back. It is immutable.
type rowEncoder[K comparable, V any] struct {
	keyCodec state.KeyCodec[K]
	key      *serde.Plan[K]
	value    *serde.Plan[V]
	columns  []Column
	keyLen   int
	values   []int // the value's columns that are written: those that are not the key's
}

func newRowEncoder[K comparable, V any]() (*rowEncoder[K, V], error) {
	e := &rowEncoder[K, V]{}
	var err error
	if e.keyCodec, err = state.KeyCodecOf[K](); err != nil {
		return nil, err
	}
	if e.key, err = outPlan[K]("key"); err != nil {
		return nil, err
	}
	if e.value, err = outPlan[V]("value"); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, c := range e.key.OutColumns() {
		e.columns = append(e.columns, Column(c))
		names[c.Name] = true
	}
	e.keyLen = len(e.columns)
	for i, c := range e.value.OutColumns() {
		if names[c.Name] {
			continue
		}
		e.columns = append(e.columns, Column(c))
		e.values = append(e.values, i)
	}
	return e, nil
}

func outPlan[T any](scalarColumn string) (*serde.Plan[T], error) {
	if serde.IsScalar(reflect.TypeFor[T]()) {
		return serde.OutScalarPlan[T](scalarColumn)
	}
	return serde.OutPlanOf[T]()
}

// append encodes the row that a change leaves: a byte that says whether there is
// one, and each column's length plus one (0 is NULL) and text; of a deleted row the
// key columns.
func (e *rowEncoder[K, V]) append(dst []byte, c *record.Change[K, V]) ([]byte, error) {
	if c.HasNew() {
		dst = append(dst, 1)
	} else {
		dst = append(dst, 0)
	}
	for i := range e.keyLen {
		dst = appendColumn(dst, func(dst []byte) ([]byte, bool) { return e.key.AppendText(dst, i, &c.Key) })
	}
	if !c.HasNew() {
		return dst, nil
	}
	for _, i := range e.values {
		dst = appendColumn(dst, func(dst []byte) ([]byte, bool) { return e.value.AppendText(dst, i, &c.New) })
	}
	return dst, nil
}

func appendColumn(dst []byte, text func([]byte) ([]byte, bool)) []byte {
	at := len(dst)
	dst, null := text(append(dst, 0, 0, 0, 0))
	if null {
		return dst[:at+4]
	}
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4)+1)
	return dst
}

// decode is Spec.Row.
func (e *rowEncoder[K, V]) decode(payload []byte, columns [][]byte) (out [][]byte, deleted bool, err error) {
	if len(payload) == 0 {
		return nil, false, fmt.Errorf("%w: empty row in the queue", state.ErrCorrupt)
	}
	deleted = payload[0] == 0
	for payload = payload[1:]; len(payload) > 0; {
		if len(payload) < 4 {
			return nil, false, fmt.Errorf("%w: row in the queue is cut short", state.ErrCorrupt)
		}
		n := binary.BigEndian.Uint32(payload)
		payload = payload[4:]
		if n == 0 {
			columns = append(columns, nil)
			continue
		}
		if uint64(n-1) > uint64(len(payload)) {
			return nil, false, fmt.Errorf("%w: row in the queue is cut short", state.ErrCorrupt)
		}
		columns = append(columns, payload[:n-1:n-1])
		payload = payload[n-1:]
	}
	return columns, deleted, nil
}
