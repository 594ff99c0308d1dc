package debezium

import (
	"bytes"
	"strings"

	"github.com/tailrace/tailrace/record"
)

// meta is a member that ExtractNewRecordState adds to a row.
type meta uint8

const (
	notMeta meta = iota
	metaDeleted
	metaOp
	metaSource // a member of the source block
	metaOther
)

// deletedField is the member that delete handling by rewriting adds; its name is fixed.
const deletedField = "__deleted"

// metaOf says what a member is by its name, and which member of the source block it
// repeats.
func (d *Decoder) metaOf(name string) (meta, string) {
	if name == deletedField {
		return metaDeleted, ""
	}
	rest, ok := strings.CutPrefix(name, d.cfg.MetadataPrefix)
	if !ok {
		return notMeta, ""
	}
	switch rest {
	case "op":
		return metaOp, ""
	case "table",
		"schema",
		"db",
		"lsn",
		"txId",
		"name",
		"connector",
		"version",
		"snapshot",
		"sequence",
		"origin",
		"origin_lsn":
		return metaSource, rest
	case "ts_ms", "ts_us", "ts_ns", "xmin":
		return metaOther, ""
	}
	if of, ok := strings.CutPrefix(rest, "source_"); ok {
		return metaSource, of
	}
	if strings.HasPrefix(rest, "transaction_") {
		return metaOther, ""
	}
	return notMeta, ""
}

// metadata is what the added members of a row say.
type metadata struct {
	op      byte
	deleted bool
	src     *Source
}

// metaMember reads an added member.
func (d *Decoder) metaMember(m *member, s *scanner, out *metadata) error {
	if m.meta == metaSource {
		return d.sourceMember(m.source, s, out.src)
	}
	if s.peek() != '"' {
		out.deleted = out.deleted || m.meta == metaDeleted && s.peek() == 't'
		_, err := s.skip()
		return err
	}
	text, err := d.v.str(s)
	switch {
	case err != nil:
		return err
	case m.meta == metaDeleted:
		out.deleted = string(text) == "true"
	case m.meta == metaOp && len(text) == 1:
		out.op = text[0]
	}
	return nil
}

var errNoOperation = refuse(
	ErrNoOperation,
	"a stream of inserts needs the operation; set add.fields=op in the "+
		"ExtractNewRecordState transform",
)

// flat decodes a row that ExtractNewRecordState took out of its envelope.
func (d *Decoder) flat(t *topic, r *Record, s *scanner, sch *schema, ev *Event) error {
	ts, err := d.flatTable(t)
	if err != nil {
		return err
	}
	if ts == nil {
		ev.Kind = Ignored
		_, err := s.skip()
		return err
	}
	var row *wire
	if sch != nil {
		row = sch.wire
		if row.kind != kindStruct {
			return refuse(ErrMalformed, "the value is no row")
		}
	}
	sh, err := d.shapeOf(ts, sch, row)
	if err != nil {
		return err
	}
	d.meta = metadata{src: &ev.Source}
	m := &d.meta
	tuple := d.v.tuple(len(sh.columns))
	if err := d.row(sh, s, tuple, m); err != nil {
		return err
	}
	if m.op == 0 && len(r.Headers) > 0 {
		m.op = d.headerOp(r)
	}
	p := parts{op: m.op, new: tuple, hasNew: true}
	switch {
	case m.deleted || m.op == 'd':
		p.op, p.new = 'd', nil
	case m.op == 0 && sh.table.InsertsOnly:
		return errNoOperation
	case m.op == 0:
		p.op = 'u'
	}
	return d.change(t, r, sh, &p, ev)
}

// flatTable is the table of a flattened record, which only its topic tells.
func (d *Decoder) flatTable(t *topic) (*tableState, error) {
	switch {
	case len(t.tables) == 1:
		return t.tables[0], nil
	case len(t.tables) > 1:
		return nil, refuse(ErrMalformed, "a flattened record does not tell which of the topic's tables it is of")
	case d.cfg.Tables != nil:
		return nil, nil
	}
	t.add(&Table{Name: strings.TrimPrefix(t.name, d.cfg.Prefix+".")})
	return t.tables[0], nil
}

// headerOp returns the operation that add.headers=op writes, 0 without. JsonConverter
// puts it in quotes.
func (d *Decoder) headerOp(r *Record) byte {
	for i := range r.Headers {
		h := &r.Headers[i]
		if rest, ok := strings.CutPrefix(h.Key, d.cfg.MetadataPrefix); !ok || rest != "op" {
			continue
		}
		if v := bytes.Trim(h.Value, `"`); len(v) == 1 {
			return v[0]
		}
	}
	return 0
}

// tombstone decodes a record without value.
func (d *Decoder) tombstone(t *topic, r *Record, ev *Event) error {
	ev.Kind = Ignored
	if len(t.tables) == 0 {
		return nil
	}
	ts := t.tables[0]
	if ts.table.InsertsOnly || len(t.tables) > 1 && r.Key == nil {
		return nil
	}
	sh := ts.current
	if sh == nil {
		var err error
		if sh, err = d.tombstoneShape(t, ts, r.Key); err != nil {
			return err
		}
	}
	ev.Kind = Tombstone
	ev.Row.Op = record.Delete
	return d.keyed(t, r, sh, ev)
}

// tombstoneShape is the shape of a table of which no row has been seen: the declared
// columns, or those of the key.
func (d *Decoder) tombstoneShape(t *topic, ts *tableState, key []byte) (*shape, error) {
	if len(ts.table.Columns) > 0 {
		return d.shapeOf(ts, nil, nil)
	}
	_, sch, err := unwrap(&t.keys, key)
	if err != nil {
		return nil, err
	}
	if sch == nil || sch.wire.kind != kindStruct {
		return d.shapeOf(ts, nil, nil) // refuses: the types are not known
	}
	row := &wire{kind: kindStruct, fields: sch.wire.fields}
	for _, name := range ts.table.Read {
		if row.field(name) == nil {
			// Of a type that nobody knows yet, and that no tombstone has a value of.
			row.fields = append(row.fields[:len(row.fields):len(row.fields)],
				wireField{name, &wire{kind: kindString, optional: true}})
		}
	}
	return d.newShape(ts.table, row)
}
