package sources

import "github.com/tailrace/tailrace/record"

// Probe implements topology.Prober. With an error policy of the node that decides about
// the row, and only a key that cannot be read is wrong.
func (t *tableSource[K, V]) Probe(tx *record.Tx, rows []record.Row) error {
	at := t.maxTime
	defer func() { t.maxTime = at }()
	for i := range rows {
		row := &rows[i]
		if err := t.use(row.Rel); err != nil {
			return err
		}
		var err error
		switch {
		case row.Op == record.Truncate:
		case t.parking != nil:
			_, err = t.decodeKey(keyTuple(row))
		default:
			_, err = t.read(tx, row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Probe implements topology.Prober.
func (s *streamSource[K, V]) Probe(tx *record.Tx, rows []record.Row) error {
	if s.guard.On() {
		return nil
	}
	at := s.maxTime
	defer func() { s.maxTime = at }()
	for i := range rows {
		if rows[i].Op != record.Insert {
			continue
		}
		if err := s.use(rows[i].Rel); err != nil {
			return err
		}
		var r record.Record[K, V]
		if err := s.decode(tx, &rows[i], &r); err != nil {
			return err
		}
	}
	return nil
}
