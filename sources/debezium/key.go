package debezium

import (
	"bytes"

	"github.com/tailrace/tailrace/record"
)

// The headers of the two halves of a key change.
const (
	newKeyHeader = "__debezium.newkey"
	oldKeyHeader = "__debezium.oldkey"
)

// moved reads the other key of a key change.
func (d *Decoder) moved(r *Record, sh *shape, ev *Event) error {
	for i := range r.Headers {
		h := &r.Headers[i]
		isNew := h.Key == newKeyHeader
		if !isNew && h.Key != oldKeyHeader {
			continue
		}
		if isNew != (ev.Row.Op == record.Delete) {
			continue
		}
		if isNew && d.cfg.SinglePartition {
			ev.Kind = Ignored
			return nil
		}
		other := d.v.tuple(len(sh.columns))
		var none schemas
		ok, err := d.key(&none, sh, h.Value, other)
		if err != nil || !ok {
			return &Error{
				Table: sh.table.Name,
				Err:   ErrMalformed,
				Reason: "the header " + h.Key + " holds no key in " +
					"JSON; set header.converter to SimpleHeaderConverter or JsonConverter",
			}
		}
		if isNew || !d.cfg.SinglePartition {
			ev.Moved = other
			return nil
		}
		ev.Row.Op = record.Update
		ev.Row.Old, ev.Row.OldKind = other, record.OldKey
	}
	return nil
}

// key reads a record's key. With a tuple it reads the values, else only whether there is
// a key, and of which columns.
func (d *Decoder) key(c *schemas, sh *shape, key []byte, tuple record.Tuple) (ok bool, err error) {
	if key == nil {
		return false, sh.noKey()
	}
	s, sch, err := unwrap(c, key)
	if err != nil {
		return false, err
	}
	switch s.peek() {
	case 'n':
		if !s.literal("null") {
			return false, errSyntax
		}
		return false, sh.noKey()
	case '{':
		err = d.keyObject(sh, &s, tuple)
	default:
		err = d.keyScalar(sh, &s, tuple)
	}
	if err == nil && (sch != nil && !s.take('}') || !s.end()) {
		err = errSyntax
	}
	return err == nil, err
}

// noKey notes that the records have no key.
func (sh *shape) noKey() error {
	if sh.known {
		return nil // One record without key does not make the table one without.
	}
	return sh.keyColumns(nil)
}

func (d *Decoder) keyObject(sh *shape, s *scanner, tuple record.Tuple) error {
	start := *s
	if !s.take('{') {
		return errSyntax
	}
	pos := 0
	for first := true; ; first = false {
		name, escaped, ok, err := s.member(first)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if bytes.HasPrefix(name, []byte("__dbz__")) {
			// Added by a router that puts several tables into one topic.
			if _, err := s.skip(); err != nil {
				return err
			}
			continue
		}
		if escaped || !sh.known || pos >= len(sh.keys) || sh.columns[sh.keys[pos]].Name != string(name) {
			if err := d.learnKey(sh, start); err != nil {
				return err
			}
			*s = start
			return d.keyValues(sh, s, tuple)
		}
		if err := d.keyValue(sh, sh.keys[pos], s, tuple); err != nil {
			return err
		}
		pos++
	}
	if pos < len(sh.keys) || !sh.known {
		if err := d.learnKey(sh, start); err != nil {
			return err
		}
	}
	return nil
}

// learnKey takes the key's columns from a key.
func (d *Decoder) learnKey(sh *shape, s scanner) error {
	names, err := memberNames(s)
	if err == nil {
		err = sh.keyColumns(names)
	}
	return err
}

func memberNames(s scanner) ([]string, error) {
	var names []string
	s.take('{')
	for first := true; ; first = false {
		name, escaped, ok, err := s.member(first)
		if err != nil {
			return nil, err
		}
		if !ok {
			return names, nil
		}
		if escaped {
			if name, err = unescape(nil, name); err != nil {
				return nil, err
			}
		}
		if !bytes.HasPrefix(name, []byte("__dbz__")) {
			names = append(names, string(name))
		}
		if _, err := s.skip(); err != nil {
			return nil, err
		}
	}
}

// keyValues reads a key whose columns have just been learned.
func (d *Decoder) keyValues(sh *shape, s *scanner, tuple record.Tuple) error {
	s.take('{')
	for first := true; ; first = false {
		name, escaped, ok, err := s.member(first)
		if err != nil || !ok {
			return err
		}
		if escaped {
			if name, err = unescape(nil, name); err != nil {
				return err
			}
		}
		i, ok := sh.index[string(name)]
		if !ok {
			_, err = s.skip()
		} else {
			err = d.keyValue(sh, i, s, tuple)
		}
		if err != nil {
			return err
		}
	}
}

func (d *Decoder) keyValue(sh *shape, column int, s *scanner, tuple record.Tuple) error {
	c := &sh.columns[column]
	if s.peek() == 'n' && !sh.table.InsertsOnly {
		return &Error{
			Table:  sh.table.Name,
			Column: c.Name,
			Err:    ErrNoKey,
			Reason: "the key is NULL: Debezium took a " +
				"unique index whose columns may be NULL for the key; add a primary key, or set message.key.columns",
		}
	}
	if tuple == nil {
		_, err := s.skip()
		return err
	}
	v, err := d.v.read(c.conv, s)
	tuple[column] = v
	return at(err, sh.table.Name, c.Name)
}

// keyScalar reads a key that is a value of its own, as ExtractField makes it.
func (d *Decoder) keyScalar(sh *shape, s *scanner, tuple record.Tuple) error {
	if !sh.known {
		var names []string
		for _, c := range sh.table.Columns {
			if c.Key {
				names = append(names, c.Name)
			}
		}
		if len(names) != 1 {
			return refuse(ErrKey, "the key is a single value; declare which column it is (Column.Key)")
		}
		if err := sh.keyColumns(names); err != nil {
			return err
		}
	}
	if len(sh.keys) != 1 {
		return refuse(ErrKey, "the key is a single value, that of earlier records was not")
	}
	return d.keyValue(sh, sh.keys[0], s, tuple)
}
