package debezium

import (
	"encoding/json"
	"slices"

	"github.com/tailrace/tailrace/record"
)

// What Config.Plain reads: records whose values are rows, of producers that know nothing
// of Debezium, with or without a schema of Kafka Connect in front.

// plainShape makes the columns of rows: those of the records' schema, and those that are
// asked for and not in it, which are taken as they come.
func (d *Decoder) plainShape(sh *shape, row *wire) error {
	if row != nil {
		for _, f := range row.fields {
			c := record.Column{Name: f.name, TypeMod: -1}
			if err := d.addColumn(sh, c, f.wire, nil); err != nil {
				return err
			}
		}
		for i := range sh.columns {
			sh.columns[i].conv.unavailable = nil
		}
	}
	place := func(name string) int {
		at := slices.IndexFunc(sh.columns, func(c column) bool { return c.Name == name })
		if at < 0 {
			at = len(sh.columns)
			sh.columns = append(sh.columns, column{
				Column: record.Column{Name: name, TypeMod: -1}, conv: &conv{code: asAny}, read: true,
			})
		}
		return at
	}
	for _, name := range sh.table.Read {
		place(name)
	}
	for _, name := range sh.table.KeyColumns {
		at := place(name)
		if err := sh.columns[at].err; err != nil {
			return err
		}
		sh.columns[at].read = true
		sh.keys = append(sh.keys, at)
	}
	sh.known = true
	return nil
}

// plain decodes a record under Config.Plain: a row, or the end of one.
func (d *Decoder) plain(t *topic, r *Record, ev *Event) error {
	if len(t.tables) == 0 {
		ev.Kind = Ignored
		return nil
	}
	ts := t.tables[0]
	s, sch, err := unwrap(&t.values, r.Value)
	if err != nil {
		return err
	}
	if r.Value == nil || s.peek() == 'n' && s.literal("null") {
		return d.plainTombstone(t, ts, r, ev)
	}
	if s.peek() != '{' {
		return refuse(ErrMalformed, "the value is no JSON object; say in the configuration how values are written")
	}
	var row *wire
	if sch != nil {
		if row = sch.wire; row.kind != kindStruct {
			return refuse(ErrMalformed, "the value's schema is not that of a row")
		}
	}
	sh, err := d.shapeOf(ts, sch, row)
	if err != nil {
		return err
	}
	ev.Kind, ev.Row.Op = Row, record.Update
	if ts.table.InsertsOnly {
		ev.Row.Op = record.Insert
	}
	ev.Row.New = d.v.tuple(len(sh.columns))
	if err := d.row(sh, &s, ev.Row.New, nil); err != nil {
		return err
	}
	if sch != nil && !s.take('}') || !s.end() {
		return errSyntax
	}
	ev.Row.Rel = sh.relation()
	return d.plainKey(t, ts, sh, r.Key, ev.Row.New)
}

func (d *Decoder) plainTombstone(t *topic, ts *tableState, r *Record, ev *Event) error {
	ev.Kind = Ignored
	if ts.table.InsertsOnly {
		return nil
	}
	sh := ts.current
	if sh == nil {
		var err error
		if sh, err = d.shapeOf(ts, nil, nil); err != nil {
			return err
		}
	}
	ev.Kind, ev.Row.Op, ev.Row.Rel = Tombstone, record.Delete, sh.relation()
	ev.Row.Old, ev.Row.OldKind = d.v.tuple(len(sh.columns)), record.OldKey
	return d.plainKey(t, ts, sh, r.Key, ev.Row.Old)
}

// plainKey reads the record's key into the key's columns: it says which row it is, whatever
// the value says. A record of a stream may be without.
func (d *Decoder) plainKey(t *topic, ts *tableState, sh *shape, key []byte, tuple record.Tuple) error {
	if key == nil && ts.table.InsertsOnly {
		return nil
	}
	if key == nil {
		return refuse(ErrNoKey, "a record of a table needs a key that says which row it is")
	}
	s, sch, err := unwrap(&t.keys, key)
	if err != nil {
		return err
	}
	if s.peek() == '{' {
		err = d.plainKeyObject(sh, sch, &s, tuple)
	} else {
		err = d.plainKeyScalar(sh, sch, &s, tuple)
	}
	if err == nil && (sch != nil && !s.take('}') || !s.end()) {
		err = errSyntax
	}
	return err
}

func (d *Decoder) plainKeyScalar(sh *shape, sch *schema, s *scanner, tuple record.Tuple) error {
	if len(sh.keys) != 1 {
		return refuse(ErrNoKey, "the key is a single value, and the row's key has several columns")
	}
	c, err := d.keyConv(sch, "")
	if err != nil {
		return err
	}
	return d.plainKeyValue(sh, sh.keys[0], c, s, tuple)
}

// plainKeyObject reads a key with a member for each column. The only member of a key of
// one column may have another name.
func (d *Decoder) plainKeyObject(sh *shape, sch *schema, s *scanner, tuple record.Tuple) error {
	s.take('{')
	var found []bool
	for first := true; ; first = false {
		name, escaped, ok, err := s.member(first)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if escaped {
			if name, err = unescape(nil, name); err != nil {
				return err
			}
		}
		at := slices.IndexFunc(sh.keys, func(i int) bool { return sh.columns[i].Name == string(name) })
		if at < 0 && len(sh.keys) == 1 {
			at = 0
		}
		if found == nil {
			found = make([]bool, len(sh.keys))
		}
		if at < 0 || found[at] {
			return refuse(ErrNoKey, "the record's key has other members than the key type has columns")
		}
		found[at] = true
		c, err := d.keyConv(sch, string(name))
		if err != nil {
			return err
		}
		if err := d.plainKeyValue(sh, sh.keys[at], c, s, tuple); err != nil {
			return err
		}
	}
	if found == nil || slices.Contains(found, false) {
		return refuse(ErrNoKey, "the record's key lacks members that the key type has columns for")
	}
	return nil
}

func (d *Decoder) plainKeyValue(sh *shape, at int, c *conv, s *scanner, tuple record.Tuple) error {
	v, err := d.v.read(c, s)
	if err == nil && v.Kind == record.Null && !sh.table.InsertsOnly {
		return refuse(ErrNoKey, "the key is null")
	}
	tuple[at] = v
	return err
}

// anyConv takes values as they come.
var anyConv = &conv{code: asAny}

// keyConv is the way of a key, or of a member of it, under the key's own schema.
func (d *Decoder) keyConv(sch *schema, member string) (*conv, error) {
	if sch == nil {
		return anyConv, nil
	}
	if c := sch.convs[member]; c != nil {
		return c, nil
	}
	w := sch.wire
	if w.kind == kindStruct {
		w = w.field(member)
	}
	if w == nil {
		return nil, refuse(ErrMalformed, "the key has a member that its schema does not have")
	}
	c, err := convOf(w, nil, &d.modes)
	if err != nil {
		return nil, err
	}
	if sch.convs == nil {
		sch.convs = map[string]*conv{}
	}
	sch.convs[member] = c
	return c, nil
}

// plainText reads a value as it comes: a string's text, a number's digits, true and false, and
// of what nests the JSON.
func (v *values) plainText(s *scanner) ([]byte, error) {
	switch c := s.peek(); c {
	case '"':
		return v.str(s)
	case '{', '[':
		text, err := s.skip()
		if err == nil && !json.Valid(text) {
			err = errSyntax
		}
		return text, err
	case 't', 'f':
		if !s.literal(map[byte]string{'t': "true", 'f': "false"}[c]) {
			return nil, errSyntax
		}
		return words[c], nil
	}
	return s.number()
}

// words are the texts of booleans, so that they need no memory.
var words = map[byte][]byte{'t': []byte("true"), 'f': []byte("false")}
