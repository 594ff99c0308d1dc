package sources

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// Stream reads a table as a stream of facts: one record for each row inserted.
// Updates, deletes and truncates are counted and skipped; use Events to see them.
// Rows that the table held before the first start are no events unless
// WithSnapshot is given. A table without a key is read with the key type NoKey.
//
// An update that moves a row of a partitioned table to another partition is a delete and an
// insert in the log: the row is an event once more. Partition tables of events by columns that
// never change.
func Stream[K comparable, V any](
	b *topology.Builder, db *Database, table string, opts ...Option[V],
) topology.Stream[K, V] {
	spec, types, o := newSpec[K](b, db, table, topology.KindSourceStream, opts)
	return addStream(b, spec, types, o)
}

// Outbox reads an outbox table: a Stream that begins with the rows that are there
// when the app starts for the first time, and never emits them again when state is
// rebuilt. (After tailrace drop, which makes the next start the first one again, it does.)
// A row inserted and deleted in one transaction is an event all the same, and one that an update
// moves to another partition is a second one: see Stream.
//
// Rows come in the order of their commits. Those that are there at the first start come in the
// order in which the table stores them, since who has committed first is not known of them any
// more; that is the order of insertion unless space of deleted rows was used again. Consumers
// that need another one of these go by a column of the event, such as a rising id.
func Outbox[K comparable, V any](
	b *topology.Builder, db *Database, table string, opts ...Option[V],
) topology.Stream[K, V] {
	outbox := func(o *options[V]) { o.snapshot, o.outbox = true, true }
	return Stream[K](b, db, table, append(opts[:len(opts):len(opts)], outbox)...)
}

func addStream[K comparable, V any](
	b *topology.Builder, spec *Spec, types *rowType[K, V], o options[V],
) topology.Stream[K, V] {
	return topology.AddStream[K, V](b, topology.Node{
		Name:   o.name,
		Kind:   topology.KindSourceStream,
		Source: spec,
		// An outbox does not emit again at a rebuild what its table still holds.
		Once: !o.snapshot || o.outbox,
		// A record that is left out is missing, and makes nothing else wrong.
		TakesPolicy: true,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			return &streamSource[K, V]{
				rows: newRows(rt, spec, types, o),
				node: rt.Node(), drop: rt.Drop, snapshot: o.snapshot, outbox: o.outbox, guard: topology.NewGuard(rt),
			}, nil
		},
	})
}

type streamSource[K comparable, V any] struct {
	rows[K, V]
	guard topology.Guard
	node  *topology.Node
	drop  func(n *topology.Node, reason string, count int)
	// snapshot says that rows of a snapshot are records, outbox that they are at the
	// first start only.
	snapshot, outbox bool
	out              []record.Record[K, V]
	again            []replayedRow
}

// SnapshotOnce says that rows of a snapshot are records at the first start only.
func (s *streamSource[K, V]) SnapshotOnce() bool { return s.outbox }

// FeedReplayed turns inserts into records, unless the snapshot did.
func (s *streamSource[K, V]) FeedReplayed(tx *record.Tx, seq uint32, rows []record.Row) error {
	if s.snapshot && !s.outbox {
		return nil
	}
	return s.Feed(tx, seq, rows)
}

// Step has nothing to do, since the records were made by Feed, but for rows that are taken
// again.
func (s *streamSource[K, V]) Step(*topology.Step) error {
	for _, r := range s.again {
		if err := s.Feed(r.tag.Tx, r.tag.Seq, []record.Row{*r.row}); err != nil {
			return err
		}
	}
	return nil
}

// EndStep forgets the step's records.
func (s *streamSource[K, V]) EndStep() {
	s.maxTime = topology.NoTime
	clear(s.out)
	s.out, s.again = s.out[:0], nil
}

// Records yields the step's records.
func (s *streamSource[K, V]) Records(yield func([]record.Record[K, V]) bool) error {
	if len(s.out) > 0 {
		yield(s.out)
	}
	return nil
}

// Feed turns inserts into records.
func (s *streamSource[K, V]) Feed(tx *record.Tx, seq uint32, rows []record.Row) error {
	if tx.Snapshot && !s.snapshot {
		return nil
	}
	for i := range rows {
		row := &rows[i]
		if row.Op != record.Insert {
			s.drop(s.node, topology.DropNotAnInsert, 1)
			continue
		}
		if err := s.use(row.Rel); err != nil {
			return err
		}
		r := record.Record[K, V]{Tag: record.Tag{Tx: tx, Seq: seq, Ordinal: row.Ordinal}}
		if err := s.decode(tx, row, &r); err != nil {
			if err := rowFailure(&s.guard, s.node, tx, seq, row, s.key, err); err != nil {
				return err
			}
			continue
		}
		s.out = append(s.out, r)
	}
	return nil
}

// ReplayLetter implements topology.LetterReplayer.
func (s *streamSource[K, V]) ReplayLetter(l *topology.Letter) error {
	row, err := letterRow(l)
	if err != nil {
		return err
	}
	s.again = append(s.again, replayedRow{l.Tag, row})
	return nil
}

// DivideLetter implements topology.LetterReplayer.
func (s *streamSource[K, V]) DivideLetter(l *topology.Letter) ([]byte, error) {
	row, err := letterRow(l)
	if err != nil {
		return nil, err
	}
	to, err := s.Route(row)
	return to.To, err
}

// replayedRow is a row that was set aside, and is to be taken again.
type replayedRow struct {
	tag record.Tag
	row *record.Row
}

// decode makes a record of an inserted row.
func (s *streamSource[K, V]) decode(tx *record.Tx, row *record.Row, r *record.Record[K, V]) (err error) {
	if r.Key, err = s.decodeKey(row.New); err != nil {
		return err
	}
	if err := s.bound.value.Decode(&r.Value, row.New); err != nil {
		return decodeError(row.Rel, err)
	}
	if !s.guard.On() {
		r.Time = s.time(tx, &r.Value)
		return nil
	}
	return s.guard.Call(func() error { r.Time = s.time(tx, &r.Value); return nil })
}

// Events reads all row events of a table as facts: inserts, updates, deletes and
// truncates, each with the value that the table held before it. A key change is an
// event under the new key. Snapshot rows are events only with WithSnapshot.
func Events[K comparable, V any](
	b *topology.Builder, db *Database, table string, opts ...Option[V],
) topology.Stream[K, record.RowEvent[K, V]] {
	spec, types, o := newSpec[K](b, db, table, topology.KindSourceEvents, opts)
	// The table is read in full even where its rows are no events: the old values of
	// later events come from it.
	spec.Table.Changes, spec.Table.Snapshot = true, true
	keyCodec, errK := state.KeyCodecOf[K]()
	codec, errV := state.CodecOf[V]()
	for _, err := range []error{errK, errV} {
		if err != nil {
			b.Errorf("topology: source-events %q: %w", o.name, err)
		}
	}
	return topology.AddStream[K, record.RowEvent[K, V]](b, topology.Node{
		Name:   o.name,
		Kind:   topology.KindSourceEvents,
		Source: spec,
		Once:   !o.snapshot,
		Stores: []topology.StoreSpec{{Schema: codec.Fingerprint}},
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			e := &eventSource[K, V]{snapshot: o.snapshot, node: rt.Node(), drop: rt.Drop}
			e.rows = newRows(rt, spec, types, o)
			e.Table = state.NewTable(rt.Env, rt.StoreIDFor(""), keyCodec, codec)
			e.Own(topology.OwnerOf[K](rt))
			e.elsewhere = !ownsNoKey[K](rt)
			rt.Register(e.Table)
			return e, nil
		},
	})
}

type eventSource[K comparable, V any] struct {
	tableSource[K, V]
	node     *topology.Node
	drop     func(n *topology.Node, reason string, count int)
	snapshot bool
	// elsewhere says that an event without a key is another partition's.
	elsewhere bool
	out       []record.Record[K, record.RowEvent[K, V]]
}

// EndStep forgets the step's records and old values.
func (e *eventSource[K, V]) EndStep() {
	clear(e.out)
	e.out = e.out[:0]
	e.tableSource.EndStep()
}

// Records yields the step's records.
func (e *eventSource[K, V]) Records(
	yield func([]record.Record[K, record.RowEvent[K, V]]) bool,
) error {
	if len(e.out) > 0 {
		yield(e.out)
	}
	return nil
}

// SnapshotOnce is false: the table needs the rows of every snapshot.
func (e *eventSource[K, V]) SnapshotOnce() bool { return false }

// FeedReplayed records events that the snapshot covers. The table holds later values,
// so an old value is there only if the log has all of it, and a large value that an
// update left out is the snapshot's; where that has none, the event is counted and
// dropped. The log may be from before the table was altered.
func (e *eventSource[K, V]) FeedReplayed(tx *record.Tx, seq uint32, rows []record.Row) error {
	if e.snapshot {
		return nil
	}
	for i := range rows {
		if err := e.bind(rows[i].Rel); err != nil {
			return err
		}
		ev, known, err := e.replayed(&rows[i])
		if err != nil {
			return err
		}
		if !known {
			e.drop(e.node, topology.DropNoValue, 1)
			continue
		}
		e.record(tx, seq, rows[i].Ordinal, ev)
	}
	return nil
}

// replayed makes an event of a row without touching the table.
func (e *eventSource[K, V]) replayed(row *record.Row) (ev record.RowEvent[K, V], known bool, err error) {
	ev.Op = row.Op
	if row.Op == record.Truncate {
		return ev, true, nil
	}
	named := row.New
	if row.Op == record.Delete {
		named = row.Old
	}
	if ev.Key, err = e.decodeKey(named); err != nil {
		return ev, false, err
	}
	if row.OldKind == record.OldFull {
		if err := e.bound.value.Decode(&ev.Old, row.Old); err != nil {
			return ev, false, decodeError(row.Rel, err)
		}
		ev.Sides |= record.HasOld
	}
	if row.Op == record.Delete {
		return ev, true, nil
	}
	if e.bound.value.Unchanged(row.New) {
		now, err := e.Get(ev.Key)
		if err != nil || now == nil {
			return ev, false, err
		}
		ev.New = *now
	}
	if err := e.bound.value.Decode(&ev.New, row.New); err != nil {
		return ev, false, decodeError(row.Rel, err)
	}
	ev.Sides |= record.HasNew
	return ev, true, nil
}

// record appends an event to the step's records.
func (e *eventSource[K, V]) record(
	tx *record.Tx, seq, ordinal uint32, ev record.RowEvent[K, V],
) {
	if ev.Op == record.Truncate && e.elsewhere {
		return
	}
	last := &ev.New
	if ev.Sides&record.HasNew == 0 {
		last = &ev.Old
	}
	e.out = append(e.out, record.Record[K, record.RowEvent[K, V]]{
		Key: ev.Key, Value: ev, Time: e.time(tx, last),
		Tag: record.Tag{Tx: tx, Seq: seq, Ordinal: ordinal},
	})
}

// Feed applies rows to the table and records what each did.
func (e *eventSource[K, V]) Feed(tx *record.Tx, seq uint32, rows []record.Row) error {
	for i := range rows {
		if err := e.use(rows[i].Rel); err != nil {
			return err
		}
		ev, err := e.apply(tx, &rows[i])
		if err != nil {
			return err
		}
		if tx.Snapshot && !e.snapshot {
			continue
		}
		e.record(tx, seq, rows[i].Ordinal, ev)
	}
	return nil
}
