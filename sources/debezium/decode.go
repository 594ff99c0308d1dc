package debezium

import (
	"bytes"
	"errors"
	"strings"

	"github.com/tailrace/tailrace/record"
)

// format is what a value is.
type format uint8

const (
	unknownFormat format = iota
	envelope             // before, after, source, op
	flat                 // a row alone, made by ExtractNewRecordState
	transaction          // BEGIN or END
	heartbeat
	cloudEvent
	schemaChange
)

// Decode decodes a record. The error is an *Error; the event is then not to be used.
func (d *Decoder) Decode(r *Record, ev *Event) error {
	ev.reset()
	t := d.topicNamed(r.Topic)
	err := d.decode(t, r, ev)
	if err == nil && d.learned {
		// The row came before its key in the record: read it again, with the key's columns.
		ev.reset()
		err = d.decode(t, r, ev)
	}
	d.learned = false
	if e := (*Error)(nil); errors.As(err, &e) {
		out := *e
		out.Topic = r.Topic
		if out.Table == "" && len(t.tables) == 1 {
			out.Table = t.tables[0].table.Name
		}
		return &out
	}
	return err
}

func (d *Decoder) topicNamed(name string) *topic {
	if d.last != nil && d.last.name == name {
		return d.last
	}
	t := d.topics[name]
	if t == nil {
		t = &topic{name: name}
		d.topics[name] = t
	}
	d.last = t
	return t
}

func (d *Decoder) decode(t *topic, r *Record, ev *Event) error {
	d.v.early = false
	if d.cfg.Plain {
		return d.plain(t, r, ev)
	}
	if r.Value == nil {
		return d.tombstone(t, r, ev)
	}
	s, sch, err := unwrap(&t.values, r.Value)
	if err != nil {
		return err
	}
	if s.peek() == 'n' {
		if !s.literal("null") {
			return errSyntax
		}
		return d.tombstone(t, r, ev)
	}
	if s.peek() != '{' {
		return d.notAnObject(t, ev)
	}
	f := t.format
	if sch != nil {
		f = sch.format
	} else if f == unknownFormat {
		if f, err = classify(s); err != nil {
			return err
		}
		t.format = f
	}
	err = d.as(f, t, r, &s, sch, ev)
	if err != nil && sch == nil && f != unknownFormat {
		// The topic may have changed its dialect.
		again, _, _ := unwrap(&t.values, r.Value)
		if g, cerr := classify(again); cerr == nil && g != f {
			t.format = g
			ev.reset()
			s = again
			err = d.as(g, t, r, &s, sch, ev)
		}
	}
	if err != nil {
		return err
	}
	if sch != nil && !s.take('}') || !s.end() {
		return errSyntax
	}
	return nil
}

// notAnObject takes values that no change has: those of other applications' topics, and
// of an outbox.
func (d *Decoder) notAnObject(t *topic, ev *Event) error {
	if len(t.tables) > 0 || d.cfg.Tables == nil {
		return refuse(ErrMalformed, "the value is no JSON object; is the topic that of an outbox? Read it with "+
			"a source of streams")
	}
	ev.Kind = Ignored
	return nil
}

// as decodes a value of a format.
func (d *Decoder) as(f format, t *topic, r *Record, s *scanner, sch *schema, ev *Event) error {
	switch f {
	case envelope:
		return d.envelope(t, r, s, sch, ev)
	case flat:
		return d.flat(t, r, s, sch, ev)
	case cloudEvent:
		return d.cloudEvent(t, r, s, ev)
	case transaction:
		return d.transaction(s, ev)
	case heartbeat:
		return d.heartbeat(s, ev)
	}
	ev.Kind = Ignored
	_, err := s.skip()
	return err
}

// unwrap takes the schema off a value or key. The scanner stands before the payload; sch
// is nil where there is no schema.
func unwrap(c *schemas, text []byte) (s scanner, sch *schema, err error) {
	if sch = c.find(text); sch != nil {
		return scanner{b: text, i: len(sch.prefix)}, sch, nil
	}
	s = scanner{b: text}
	inner := s
	if !inner.take('{') {
		return s, nil, nil
	}
	name, _, ok, err := inner.member(true)
	if err != nil || !ok || string(name) != "schema" {
		return s, nil, nil //nolint:nilerr // what is wrong shows when it is read
	}
	part, err := inner.skip()
	if err != nil {
		return s, nil, nil //nolint:nilerr // as above
	}
	name, _, ok, err = inner.member(false)
	if err != nil || !ok || string(name) != "payload" {
		return s, nil, nil //nolint:nilerr // as above
	}
	if string(part) == "null" {
		payload, err := inner.skip()
		if err == nil && (!inner.take('}') || !inner.end()) {
			err = errSyntax
		}
		return scanner{b: payload}, nil, err
	}
	if len(part) == 0 || part[0] != '{' {
		return s, nil, nil
	}
	w, err := parseConnectSchema(part)
	if err != nil {
		return s, nil, err
	}
	sch = &schema{prefix: bytes.Clone(text[:inner.i]), wire: w, format: formatOf(w)}
	c.add(sch)
	return inner, sch, nil
}

// formatOf tells a value's format from its schema.
func formatOf(w *wire) format {
	if w.kind != kindStruct {
		return unknownFormat
	}
	has := func(names ...string) bool {
		for _, name := range names {
			if w.field(name) == nil {
				return false
			}
		}
		return true
	}
	switch {
	case strings.HasSuffix(w.name, ".TransactionMetadataValue"),
		has("status", "id", "event_count", "data_collections"):
		return transaction
	case strings.HasSuffix(w.name, ".Heartbeat"):
		return heartbeat
	case has("specversion", "data"):
		return cloudEvent
	case has("source", "op") && (has("after") || has("message")) && w.field("source").kind == kindStruct:
		return envelope
	case has("source", "databaseName", "ddl"):
		return schemaChange
	}
	return flat
}

// classify tells a value's format from its members, where there is no schema.
func classify(s scanner) (format, error) {
	var source, op, row, status, counts, spec, data, ddl, ts bool
	n := 0
	if err := s.object(func(name []byte) error {
		n++
		c := s.peek()
		switch string(name) {
		case "source":
			source = c == '{'
		case "op":
			op = c == '"'
		case "after", "message":
			row = c == '{' || c == 'n'
		case "status":
			status = c == '"'
		case "data_collections":
			counts = c == '[' || c == 'n'
		case "specversion":
			spec = c == '"'
		case "data":
			data = true
		case "ddl":
			ddl = true
		case "ts_ms":
			ts = c != '"'
		}
		_, err := s.skip()
		return err
	}); err != nil {
		return unknownFormat, err
	}
	switch {
	case source && op && row:
		return envelope, nil
	case status && counts:
		return transaction, nil
	case spec && data:
		return cloudEvent, nil
	case source && ddl:
		return schemaChange, nil
	case ts && n == 1:
		return heartbeat, nil
	}
	return flat, nil
}

// shapeOf returns the shape of a table's rows. row is their schema, nil without.
func (d *Decoder) shapeOf(ts *tableState, sch *schema, row *wire) (*shape, error) {
	if sch == nil {
		if ts.plain == nil {
			sh, err := d.newShape(ts.table, nil)
			if err != nil {
				return nil, err
			}
			ts.plain = sh
		}
		ts.current = ts.plain
		return ts.plain, nil
	}
	sh := ts.bySchema[sch]
	if sh == nil {
		var err error
		if sh, err = d.newShape(ts.table, row); err != nil {
			return nil, err
		}
		if len(ts.bySchema) > 2*maxSchemas {
			clear(ts.bySchema)
		}
		ts.bySchema[sch] = sh
	}
	ts.current = sh
	return sh, nil
}

// row reads a row's object into a tuple.
func (d *Decoder) row(sh *shape, s *scanner, tuple record.Tuple, meta *metadata) error {
	if !s.take('{') {
		return errSyntax
	}
	sh.stamp++
	seen, pos := 0, 0
	for first := true; ; first = false {
		name, escaped, ok, err := s.member(first)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		var m *member
		if pos < len(sh.order) && !escaped && string(sh.order[pos].name) == string(name) {
			m = &sh.order[pos]
		} else if m, err = d.place(sh, pos, name, escaped, meta != nil); err != nil {
			return err
		}
		pos++
		if m.meta != notMeta {
			if err := d.metaMember(m, s, meta); err != nil {
				return err
			}
			continue
		}
		if m.column < 0 || !sh.columns[m.column].read {
			if _, err := s.skip(); err != nil {
				return err
			}
			continue
		}
		c := &sh.columns[m.column]
		if tuple[m.column], err = d.v.read(c.conv, s); err != nil {
			return at(err, sh.table.Name, c.Name)
		}
		if c.seen != sh.stamp {
			c.seen = sh.stamp
			seen++
		}
	}
	if seen == sh.reads {
		return nil
	}
	return d.absent(sh, tuple)
}

// place finds a member's column and remembers that it came at this place.
func (d *Decoder) place(sh *shape, pos int, name []byte, escaped, withMeta bool) (*member, error) {
	if escaped {
		plain, err := unescape(nil, name)
		if err != nil {
			return nil, err
		}
		name = plain
	}
	m := member{name: bytes.Clone(name), column: -1}
	if i, ok := sh.index[string(name)]; ok {
		m.column = i
	} else if withMeta {
		m.meta, m.source = d.metaOf(string(name))
	}
	const most = 4096 // a row has at most 1600 columns
	if escaped || pos >= most {
		return &m, nil
	}
	for len(sh.order) <= pos {
		sh.order = append(sh.order, member{})
	}
	sh.order[pos] = m
	return &sh.order[pos], nil
}

// absent says which columns are not in a row, or that they kept their values.
func (d *Decoder) absent(sh *shape, tuple record.Tuple) error {
	for i := range sh.columns {
		c := &sh.columns[i]
		if !c.read || c.seen == sh.stamp {
			continue
		}
		if d.cfg.Plain {
			continue // NULL
		}
		if !d.cfg.Partial {
			return &Error{Table: sh.table.Name, Column: c.Name, Err: ErrMissing, Reason: "the record does not hold " +
				"the column: the table has changed, the column is generated, or the connector leaves it out; where " +
				"an absent column means an unchanged one, set Config.Partial"}
		}
		tuple[i] = record.Value{Kind: record.Unchanged}
	}
	return nil
}
