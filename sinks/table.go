package sinks

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/serde"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

// KindTable is the kind of the nodes that Table makes.
const KindTable topology.Kind = "sink-table"

// Table writes a table to a table of a target: upserts and deletes, whole source
// transactions at a time, together with all other tables of the target. The
// target's columns are the key's and then the value's (tag `db:"column"`, else the
// field's name in snake_case); a scalar key is the column "key", a scalar value
// "value". A value column with a key column's name is the key's.
//
// Of a key in a window (windows.Windowed) the columns are those of the key in it, and then, in
// PostgreSQL, window_start and window_end (timestamptz). The end is what the Window says: it
// belongs to the window only where that is a session or slides. Other targets have the
// column "window", JSON with start and end in Unix microseconds, beside the column "key".
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
		Sink:    enc.spec(target, table, own),
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
	value    *serde.Plan[V]
	values   []int // the value's columns that are written: those that no form has as the key's
	plain    rowForm[K]
	// windows is the form with windows as columns, nil where the key has no window. Then rows
	// in the queue have their key as its codec writes it, since it is not decided yet which
	// form they take.
	windows *rowForm[K]
}

// rowForm is how keys become columns.
type rowForm[K comparable] struct {
	key     *serde.Plan[K]
	columns []Column
	keyLen  int
	values  []int // of the values in the queue, those that are not the key's
}

func newRowEncoder[K comparable, V any]() (*rowEncoder[K, V], error) {
	e := &rowEncoder[K, V]{}
	var err error
	if e.keyCodec, err = state.KeyCodecOf[K](); err != nil {
		return nil, err
	}
	key, err := outPlan[K]("key")
	if err != nil {
		return nil, err
	}
	if e.value, err = outPlan[V]("value"); err != nil {
		return nil, err
	}
	keys := []*serde.Plan[K]{key}
	if hasWindow(reflect.TypeFor[K]()) {
		flat, err := serde.OutWindowedPlanOf[K]()
		if err != nil {
			return nil, err
		}
		keys = append(keys, flat)
	}
	forms := make([]rowForm[K], len(keys))
	for f := range forms {
		forms[f] = rowForm[K]{key: keys[f], keyLen: len(keys[f].OutColumns())}
		for _, c := range keys[f].OutColumns() {
			forms[f].columns = append(forms[f].columns, Column(c))
		}
	}
	for i, c := range e.value.OutColumns() {
		written := false
		for f := range forms {
			form := &forms[f]
			if slices.ContainsFunc(form.columns[:form.keyLen], func(k Column) bool { return k.Name == c.Name }) {
				continue
			}
			written = true
			form.columns = append(form.columns, Column(c))
			form.values = append(form.values, len(e.values))
		}
		if written {
			e.values = append(e.values, i)
		}
	}
	e.plain = forms[0]
	if len(forms) > 1 {
		e.windows = &forms[1]
	}
	return e, nil
}

// hasWindow reports whether a type is windows.Windowed of something.
func hasWindow(t reflect.Type) bool {
	window := reflect.TypeFor[windows.Window]()
	return t.Kind() == reflect.Struct && t.PkgPath() == window.PkgPath() && t.NumField() == 2 &&
		t.Field(1).Type == window
}

// spec describes an output of such rows.
func (e *rowEncoder[K, V]) spec(target *Target, table string, option Option) *Spec {
	of := func(f *rowForm[K]) *Spec {
		row := e.decode
		if e.windows != nil {
			row = func(payload []byte, columns [][]byte) ([][]byte, bool, error) {
				return e.decodeWindowed(f, payload, columns)
			}
		}
		return &Spec{Target: target, Row: row, Output: Output{
			Name: table, Columns: f.columns, KeyLen: f.keyLen, Options: option,
		}}
	}
	s := of(&e.plain)
	if e.windows != nil {
		s.windowed = of(e.windows)
	}
	return s
}

func outPlan[T any](scalarColumn string) (*serde.Plan[T], error) {
	if serde.IsScalar(reflect.TypeFor[T]()) {
		return serde.OutScalarPlan[T](scalarColumn)
	}
	return serde.OutPlanOf[T]()
}

// append encodes the row that a change leaves: a byte that says whether there is
// one, and each column's length plus one (0 is NULL) and text; of a deleted row the
// key columns. A key with a window is one column, in its codec's bytes.
func (e *rowEncoder[K, V]) append(dst []byte, c *record.Change[K, V]) ([]byte, error) {
	if c.HasNew() {
		dst = append(dst, 1)
	} else {
		dst = append(dst, 0)
	}
	if e.windows != nil {
		dst = appendColumn(dst, func(dst []byte) ([]byte, bool) { return e.keyCodec.Append(dst, c.Key), false })
	} else {
		for i := range e.plain.keyLen {
			dst = appendColumn(dst, func(dst []byte) ([]byte, bool) { return e.plain.key.AppendText(dst, i, &c.Key) })
		}
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

// decodeWindowed is Spec.Row where the key has a window, in one of its forms.
func (e *rowEncoder[K, V]) decodeWindowed(
	f *rowForm[K], payload []byte, columns [][]byte,
) (out [][]byte, deleted bool, err error) {
	raw, deleted, err := e.decode(payload, nil)
	if err != nil {
		return nil, false, err
	}
	if len(raw) == 0 || !deleted && len(raw) != 1+len(e.values) {
		return nil, false, fmt.Errorf("%w: row in the queue has %d columns", state.ErrCorrupt, len(raw))
	}
	key, _, err := e.keyCodec.Decode(raw[0])
	if err != nil {
		return nil, false, err
	}
	out = columns
	text := make([]byte, 0, 64) // a column that does not fit any more leaves what is there
	for i := range f.keyLen {
		at := len(text)
		var null bool
		if text, null = f.key.AppendText(text, i, &key); null {
			out = append(out, nil)
		} else {
			out = append(out, text[at:len(text):len(text)])
		}
	}
	if deleted {
		return out, true, nil
	}
	for _, i := range f.values {
		out = append(out, raw[1+i])
	}
	return out, false, nil
}
