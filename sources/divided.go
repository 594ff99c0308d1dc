package sources

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Where the topology is cut each partition holds the rows of some keys. The methods in
// this file implement topology.DividedSource.

// Route says which partitions a row of the table is for.
func (t *tableSource[K, V]) Route(row *record.Row) (topology.RowRoute, error) {
	if row.Op == record.Truncate {
		return topology.RowRoute{Every: true}, nil
	}
	if err := t.use(row.Rel); err != nil {
		return topology.RowRoute{}, err
	}
	key, err := t.decodeKey(keyTuple(row))
	if err != nil {
		return topology.RowRoute{}, err
	}
	from := t.divide(&t.from, key)
	if row.Op != record.Update || row.OldKind == record.OldNone {
		return topology.RowRoute{From: from, To: from}, nil
	}
	key, err = t.decodeKey(row.New)
	return topology.RowRoute{From: from, To: t.divide(&t.to, key)}, err
}

// divide encodes what a key is divided by into a buffer.
func (r *rows[K, V]) divide(buf *[]byte, key K) []byte {
	if r.divider.Append == nil {
		return nil
	}
	*buf = r.divider.Append((*buf)[:0], key)
	return r.divider.Part(*buf)
}

// MoveOut deletes a row that goes to another partition, and returns its event.
func (t *tableSource[K, V]) MoveOut(tx *record.Tx, row *record.Row) (any, error) {
	if err := t.use(row.Rel); err != nil {
		return nil, err
	}
	m, err := t.read(tx, row)
	if err != nil {
		return nil, err
	}
	return m, t.remove(m.from, m.at)
}

// MoveIn takes a row from another partition.
func (t *tableSource[K, V]) MoveIn(_ *record.Tx, _ uint32, _ *record.Row, moved any) error {
	m := moved.(move[K, V])
	t.key = m.event.Key
	return t.put(m.event.Key, &m.event.New, m.at)
}

// MoveIn takes a row from another partition, and records the event.
func (e *eventSource[K, V]) MoveIn(tx *record.Tx, seq uint32, row *record.Row, moved any) error {
	if err := e.tableSource.MoveIn(tx, seq, row, moved); err != nil {
		return err
	}
	if !tx.Snapshot || e.snapshot {
		e.record(tx, seq, row.Ordinal, moved.(move[K, V]).event)
	}
	return nil
}

// ownsNoKey reports whether the partition has what is under the zero key.
func ownsNoKey[K comparable](rt *topology.Runtime) bool {
	d, err := topology.DividerOf[K]()
	if err != nil || rt.Partition().Count < 2 {
		return true
	}
	var none K
	return rt.Partition().Owns(d.Of(nil, none))
}

// Route says which partition a row of the stream is for. What cannot be decoded goes
// anywhere: decoding it there fails again, and asks the error policy.
func (s *streamSource[K, V]) Route(row *record.Row) (topology.RowRoute, error) {
	if row.Op != record.Insert {
		return topology.RowRoute{}, nil
	}
	if err := s.use(row.Rel); err != nil {
		return topology.RowRoute{}, err
	}
	key, err := s.decodeKey(row.New)
	if err != nil {
		return topology.RowRoute{}, nil
	}
	to := s.divide(&s.to, key)
	return topology.RowRoute{From: to, To: to}, nil
}

// MoveOut is not called: records do not move.
func (s *streamSource[K, V]) MoveOut(*record.Tx, *record.Row) (any, error) { return nil, nil }

// MoveIn is not called.
func (s *streamSource[K, V]) MoveIn(*record.Tx, uint32, *record.Row, any) error { return nil }
