package sources

import (
	"fmt"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// Table reads a table of a database: its rows as of the start, then every change,
// transaction by transaction. K is the table's primary key: a scalar, or a struct
// whose fields are the key's columns; with REPLICA IDENTITY USING INDEX it is the
// index's columns. V is a struct with a field for each column that is used (tag
// `db:"column"`, else the name in snake_case); other columns are never decoded.
//
// The node keeps every row's last value. Old values are taken from there and never
// from the log, so REPLICA IDENTITY DEFAULT is enough, and a large value that an
// update left alone keeps its value.
func Table[K comparable, V any](
	b *topology.Builder, db *Database, table string, opts ...Option[V],
) topology.Table[K, V] {
	return topology.AddTable[K, V](b, tableNode[K](b, db, table, opts))
}

// GlobalTable reads a table as Table does, for joins of streams under any key
// (operators.EnrichGlobal): every member of a scaled-out app holds all of it, so it
// should be small. In direct mode there is one member.
func GlobalTable[K comparable, V any](
	b *topology.Builder, db *Database, table string, opts ...Option[V],
) topology.GlobalTable[K, V] {
	n := tableNode[K](b, db, table, opts)
	n.Detail = "global"
	return topology.AddGlobalTable[K, V](b, n)
}

// tableNode is the node of a source table.
func tableNode[K comparable, V any](
	b *topology.Builder, db *Database, table string, opts []Option[V],
) topology.Node {
	spec, types, o := newSpec[K](b, db, table, topology.KindSourceTable, opts)
	spec.Table.Changes, spec.Table.Snapshot = true, true
	keyCodec, errK := state.KeyCodecOf[K]()
	codec, errV := state.CodecOf[V]()
	for _, err := range []error{errK, errV} {
		if err != nil {
			b.Errorf("topology: source-table %q: %w", o.name, err)
		}
	}
	return topology.Node{
		Name:   o.name,
		Kind:   topology.KindSourceTable,
		Source: spec,
		Stores: []topology.StoreSpec{{Schema: codec.Fingerprint}},

		TakesPolicy: true,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			t := &tableSource[K, V]{
				rows:  newRows(rt, spec, types, o),
				Table: state.NewTable(rt.Env, rt.StoreIDFor(""), keyCodec, codec),
			}
			t.Own(topology.OwnerOf[K](rt))
			rt.Register(t.Table)
			return t, t.park(rt, keyCodec, codec)
		},
	}
}

// rows decodes what a source node is fed.
type rows[K comparable, V any] struct {
	types     *rowType[K, V]
	request   TableRequest
	bound     *boundRow[K, V]
	eventTime func(V) time.Time
	maxTime   int64
	key       K
	divider   topology.Divider[K] // where the topology is cut
	from, to  []byte
}

func newRows[K comparable, V any](
	rt *topology.Runtime, spec *Spec, types *rowType[K, V], o options[V],
) rows[K, V] {
	r := rows[K, V]{types: types, request: spec.Table, eventTime: o.eventTime, maxTime: topology.NoTime}
	if rt.Partition().Cut() {
		// Keys without an encoding, as NoKey, are in one partition.
		r.divider, _ = topology.DividerOf[K]()
	}
	return r
}

// CurrentKey returns the key of the row at work.
func (r *rows[K, V]) CurrentKey() any { return r.key }

// MaxTime is the largest event time fed in this step.
func (r *rows[K, V]) MaxTime() int64 { return r.maxTime }

// use prepares for rows of a relation that go with those that are kept.
func (r *rows[K, V]) use(rel *record.Relation) error {
	if r.bound != nil && r.bound.rel == rel {
		return nil
	}
	if err := stillAs(rel, r.request); err != nil {
		return err
	}
	return r.bind(rel)
}

// bind prepares for rows of a relation.
func (r *rows[K, V]) bind(rel *record.Relation) (err error) {
	if r.bound == nil || r.bound.rel != rel {
		if r.bound, err = r.types.bind(rel); err != nil {
			err = fmt.Errorf("%w; change the Go type and restart, or change the table back; once a row was "+
				"written in this shape the log holds it, so raise the topology's Version too", err)
		}
	}
	return err
}

// time returns the event time of a row and keeps the largest.
func (r *rows[K, V]) time(tx *record.Tx, v *V) int64 {
	at := tx.CommitTime
	if r.eventTime != nil && v != nil {
		if t := r.eventTime(*v); !t.IsZero() {
			at = record.Micros(t)
		}
	}
	r.maxTime = max(r.maxTime, at)
	return at
}

func (r *rows[K, V]) decodeKey(tuple record.Tuple) (K, error) {
	var k K
	if r.bound.key == nil {
		return k, nil
	}
	if err := r.bound.key.Decode(&k, tuple); err != nil {
		return k, decodeError(r.bound.rel, err)
	}
	r.key = k
	return k, nil
}

// tableSource holds the rows of a source table.
type tableSource[K comparable, V any] struct {
	rows[K, V]
	*state.Table[K, V]
	// listeners are told each row event, by way of event.
	listeners []func(c *record.Change[K, V]) error
	event     record.Change[K, V]
	// parking holds the keys of rows that cannot be used, nil without an error policy.
	parking *topology.Parking
	keys    state.KeyCodec[K]
	codec   state.Codec[V]
	encoded []byte
}

// OnEvent implements topology.EventOutput.
func (t *tableSource[K, V]) OnEvent(fn func(c *record.Change[K, V]) error) {
	t.listeners = append(t.listeners, fn)
}

func (t *tableSource[K, V]) put(k K, v *V, at int64) error {
	if err := t.Put(k, *v, at); err != nil {
		return err
	}
	return t.tell(k, v, at)
}

func (t *tableSource[K, V]) remove(k K, at int64) error {
	if err := t.Delete(k, at); err != nil {
		return err
	}
	return t.tell(k, nil, at)
}

// truncate deletes every row.
func (t *tableSource[K, V]) truncate(at int64) error {
	if len(t.listeners) == 0 {
		return t.Clear(at, nil)
	}
	return t.Clear(at, func(k K) error { return t.tell(k, nil, at) })
}

// tell shows a row event to who listens: the row that is there now, nil if none is.
func (t *tableSource[K, V]) tell(k K, v *V, at int64) error {
	if len(t.listeners) == 0 {
		return nil
	}
	t.event = record.Change[K, V]{Key: k, Time: at}
	if v != nil {
		t.event.New, t.event.Sides = *v, record.HasNew
	}
	for _, fn := range t.listeners {
		if err := fn(&t.event); err != nil {
			return err
		}
	}
	return nil
}

// EndStep forgets the step's old values.
func (t *tableSource[K, V]) EndStep() {
	t.maxTime = topology.NoTime
	t.Table.EndStep()
	if t.parking != nil {
		t.parking.EndStep()
	}
}

// Step has nothing to do, since the table has been brought up to date by Feed, but for
// what is parked.
func (t *tableSource[K, V]) Step(s *topology.Step) error {
	if t.parking == nil {
		return nil
	}
	return t.settle(s)
}

// Feed applies rows to the table.
func (t *tableSource[K, V]) Feed(tx *record.Tx, _ uint32, rows []record.Row) error {
	for i := range rows {
		if err := t.use(rows[i].Rel); err != nil {
			return err
		}
		if t.parking != nil {
			if err := t.applyGuarded(tx, &rows[i]); err != nil {
				return err
			}
			continue
		}
		if _, err := t.apply(tx, &rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// apply applies one row event and returns what it did. A key change is a move: the
// old key is deleted, and the row's values go with it to the new one.
func (t *tableSource[K, V]) apply(tx *record.Tx, row *record.Row) (record.RowEvent[K, V], error) {
	if row.Op == record.Truncate {
		return record.RowEvent[K, V]{Op: row.Op}, t.truncate(t.time(tx, nil))
	}
	m, err := t.read(tx, row)
	if err != nil {
		return m.event, err
	}
	if row.Op == record.Delete || m.from != m.event.Key {
		if err := t.remove(m.from, m.at); err != nil || row.Op == record.Delete {
			return m.event, err
		}
	}
	return m.event, t.put(m.event.Key, &m.event.New, m.at)
}

// move is a row event with the key that the row had before it.
type move[K comparable, V any] struct {
	event record.RowEvent[K, V]
	from  K
	at    int64
}

// read makes a row event of a row and of what the table holds.
func (t *tableSource[K, V]) read(tx *record.Tx, row *record.Row) (m move[K, V], err error) {
	ev := &m.event
	ev.Op = row.Op
	if m.from, err = t.decodeKey(keyTuple(row)); err != nil {
		return m, err
	}
	ev.Key = m.from
	old, err := t.Get(m.from)
	if err != nil {
		return m, err
	}
	if old != nil {
		ev.Old, ev.Sides = *old, record.HasOld
	}
	if row.Op == record.Delete {
		m.at = t.time(tx, old) // of a row that a filter keeps from us there is none
		return m, nil
	}
	if old == nil && t.bound.value.Unchanged(row.New) {
		return m, errLeftOut(row.Rel)
	}
	// The new row starts as the old one, so that columns that the log leaves out as
	// unchanged keep their values.
	ev.New = ev.Old
	if err := t.bound.value.Decode(&ev.New, row.New); err != nil {
		return m, decodeError(row.Rel, err)
	}
	ev.Sides |= record.HasNew
	m.at = t.time(tx, &ev.New)
	if row.Op == record.Update && row.OldKind != record.OldNone {
		ev.Key, err = t.decodeKey(row.New)
	}
	return m, err
}

// keyTuple returns the tuple that names the row before the event.
func keyTuple(row *record.Row) record.Tuple {
	if row.Op == record.Insert || row.OldKind == record.OldNone {
		return row.New
	}
	return row.Old
}
