package sources

import (
	"encoding/json"
	"fmt"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// parkedRow is what a source table keeps of a key whose row cannot be decoded: the row,
// to be decoded later or to fill what a later change leaves out. The table itself holds
// the last good row, of the columns that the log has left out as well, unless the row
// has come from another key.
type parkedRow[V any] struct {
	row     storedRow
	base    V
	hasBase bool
}

type storedRow struct {
	Rel    *record.Relation
	Values record.Tuple
	// CommitTime is that of the row's transaction.
	CommitTime int64
	// HasBase says that the base follows.
	HasBase bool
}

// encode stores the row in JSON with its length, and the base.
func (t *tableSource[K, V]) encode(v *parkedRow[V]) ([]byte, error) {
	v.row.HasBase = v.hasBase
	row, err := json.Marshal(&v.row)
	dst := state.AppendKeyString(nil, string(row))
	if v.hasBase {
		dst = t.codec.Append(dst, &v.base)
	}
	return dst, err
}

// parked returns what is parked under a key, encoded in t.encoded, nil if nothing is.
func (t *tableSource[K, V]) parked(key K) (*parkedRow[V], error) {
	t.encoded = t.keys.Append(t.encoded[:0], key)
	p, err := t.parking.Get(t.encoded)
	if p == nil || err != nil {
		return nil, err
	}
	row, rest, err := state.DecodeKeyString(p.Out)
	if err != nil {
		return nil, err
	}
	v := &parkedRow[V]{}
	if err := json.Unmarshal([]byte(row), &v.row); err != nil {
		return nil, fmt.Errorf("%w: parked row: %w", state.ErrCorrupt, err)
	}
	if v.hasBase = v.row.HasBase; v.hasBase {
		err = t.codec.Decode(rest, &v.base)
	}
	return v, err
}

func (t *tableSource[K, V]) unpark(key K, at int64) error {
	t.encoded = t.keys.Append(t.encoded[:0], key)
	return t.parking.Unpark(t.encoded, at)
}

// park puts the table under the error policy of its node, if that has one.
func (t *tableSource[K, V]) park(
	rt *topology.Runtime, keys state.KeyCodec[K], value state.Codec[V],
) (err error) {
	t.keys, t.codec = keys, value
	t.parking, err = topology.NewParking(rt, "")
	return err
}

// applyGuarded is apply with an error policy: a row that cannot be used parks its key. A
// row without a key that can be read always stops, since there is nothing to park.
func (t *tableSource[K, V]) applyGuarded(tx *record.Tx, row *record.Row) error {
	t.parking.Begin(tx)
	if row.Op == record.Truncate {
		at := t.time(tx, nil)
		if err := t.parking.Clear(at); err != nil {
			return err
		}
		return t.truncate(at)
	}
	key, err := t.decodeKey(keyTuple(row))
	if err != nil {
		return err
	}
	now, err := t.merged(tx, row, key)
	if err != nil {
		return err
	}
	if row.Op == record.Delete {
		if err := t.unpark(key, tx.CommitTime); err != nil {
			return err
		}
		var old V
		if v, err := t.Get(key); err != nil {
			return err
		} else if v != nil {
			old = *v
		}
		return t.remove(key, t.time(tx, &old))
	}
	newKey := key
	if row.Op == record.Update && row.OldKind != record.OldNone {
		if newKey, err = t.decodeKey(row.New); err != nil {
			return err
		}
		if newKey != key {
			if err := t.moveAway(tx, key, now); err != nil {
				return err
			}
		}
	}
	return t.admit(newKey, now)
}

// merged is a row event as it is to be decoded: over the row that is parked, if one is.
func (t *tableSource[K, V]) merged(tx *record.Tx, row *record.Row, key K) (*parkedRow[V], error) {
	now := &parkedRow[V]{row: storedRow{Rel: row.Rel, Values: cloneTuple(row.New), CommitTime: tx.CommitTime}}
	was, err := t.parked(key)
	if was == nil || err != nil || row.Op == record.Insert {
		return now, err
	}
	now.base, now.hasBase = was.base, was.hasBase
	for i := range now.row.Values {
		if now.row.Values[i].Kind != record.Unchanged {
			continue
		}
		for j, c := range was.row.Rel.Columns {
			if c.Name == row.Rel.Columns[i].Name && j < len(was.row.Values) {
				now.row.Values[i] = was.row.Values[j]
			}
		}
	}
	return now, nil
}

func cloneTuple(in record.Tuple) record.Tuple {
	out := make(record.Tuple, len(in))
	for i, v := range in {
		out[i] = record.Value{Kind: v.Kind, Data: append([]byte(nil), v.Data...)}
	}
	return out
}

// moveAway takes a row from its old key; what the log has left out of it goes with it.
func (t *tableSource[K, V]) moveAway(tx *record.Tx, key K, now *parkedRow[V]) error {
	old, err := t.Get(key)
	if err != nil {
		return err
	}
	if old != nil && !now.hasBase {
		now.base, now.hasBase = *old, true
	}
	if err := t.unpark(key, tx.CommitTime); err != nil {
		return err
	}
	return t.remove(key, tx.CommitTime)
}

// admit decodes a row and puts it, or parks its key.
func (t *tableSource[K, V]) admit(key K, now *parkedRow[V]) error {
	v := now.base
	known := now.hasBase
	if !known {
		old, err := t.Get(key)
		if err != nil {
			return err
		}
		if known = old != nil; known {
			v = *old
		}
	}
	if err := t.bind(now.row.Rel); err != nil {
		return err
	}
	at := now.row.CommitTime
	cause := t.parking.Call(func() error {
		if !known && t.bound.value.Unchanged(now.row.Values) {
			return errLeftOut(now.row.Rel)
		}
		if err := t.bound.value.Decode(&v, now.row.Values); err != nil {
			return decodeError(now.row.Rel, err)
		}
		at = t.time(&record.Tx{CommitTime: now.row.CommitTime}, &v)
		return nil
	})
	if cause == nil {
		if err := t.unpark(key, at); err != nil {
			return err
		}
		return t.put(key, &v, at)
	}
	out, err := t.encode(now)
	if err != nil {
		return err
	}
	t.encoded = t.keys.Append(t.encoded[:0], key)
	return t.parking.Park(t.encoded, out, true, topology.FailedInput{
		Key: key, Time: now.row.CommitTime, Cause: cause,
		JSON: func() (k, value []byte) {
			return tupleJSON(now.row.Rel, now.row.Values, true), tupleJSON(now.row.Rel, now.row.Values, false)
		},
	})
}

func errLeftOut(rel *record.Relation) error {
	return fmt.Errorf("%w: table %s: an update leaves out a large column's value and Tailrace has "+
		"no row under its key; this happens with a row filter in the publication: remove it or "+
		"include the row", ErrDecode, rel)
}

// settle dates what was parked, now that the transaction is complete, and tries rows
// again that are to be.
func (t *tableSource[K, V]) settle(s *topology.Step) error {
	if len(s.Txs) == 0 {
		return nil
	}
	tx := s.Txs[len(s.Txs)-1]
	if err := t.parking.Complete(tx); err != nil {
		return err
	}
	t.parking.Begin(tx)
	for _, encoded := range t.parking.Retries() {
		key, _, err := t.keys.Decode([]byte(encoded))
		if err != nil {
			return err
		}
		row, err := t.parked(key)
		if err != nil {
			return err
		}
		if row == nil {
			continue
		}
		if err := t.admit(key, row); err != nil {
			return err
		}
	}
	return nil
}
