package debezium

import (
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/tailrace/tailrace/record"
)

// source reads the source block.
func (d *Decoder) source(s *scanner, src *Source) error {
	start := s.i
	if err := s.object(func(name []byte) error { return d.sourceMember(string(name), s, src) }); err != nil {
		return err
	}
	src.Raw = s.b[start:s.i:s.i]
	return nil
}

// sourceMember reads a member of the source block, or an attribute of a CloudEvent.
func (d *Decoder) sourceMember(name string, s *scanner, src *Source) (err error) {
	var text *[]byte
	switch name {
	case "version":
		text = &src.Version
	case "connector":
		text = &src.Connector
	case "name":
		text = &src.Name
	case "db":
		text = &src.DB
	case "schema":
		text = &src.Schema
	case "table":
		text = &src.Table
	case "origin":
		text = &src.Origin
	case "sequence":
		return d.sequence(s, src)
	case "snapshot":
		return d.snapshot(s, src)
	case "ts_ms", "ts_us", "ts_ns":
		return clockOf(name, s, &src.Time)
	case "txId":
		n, ok, err := number(s)
		if ok {
			src.XID = uint32(n) // With its epoch or without, the low half is the id.
		}
		return err
	case "lsn":
		n, _, err := number(s)
		src.LSN = uint64(n)
		return err
	case "origin_lsn":
		n, _, err := number(s)
		src.OriginLSN = uint64(n)
		return err
	}
	if text == nil || s.peek() != '"' {
		_, err = s.skip()
		return err
	}
	*text, err = d.v.str(s)
	return err
}

// snapshot reads the marker, which was a boolean once, is a word now, and is null where
// the converter keeps nulls.
func (d *Decoder) snapshot(s *scanner, src *Source) error {
	switch s.peek() {
	case 't':
		src.Snapshot = InSnapshot
	case '"':
		text, err := d.v.str(s)
		if err != nil {
			return err
		}
		switch string(text) {
		case "false":
		case "true":
			src.Snapshot = InSnapshot
		case "first":
			src.Snapshot = FirstInSnapshot
		case "first_in_data_collection":
			src.Snapshot = FirstInTable
		case "last_in_data_collection":
			src.Snapshot = LastInTable
		case "last":
			src.Snapshot = LastInSnapshot
		case "incremental":
			src.Snapshot = Incremental
		default:
			return refuse(ErrMalformed, "source.snapshot is a word that this reader does not know")
		}
		return nil
	}
	_, err := s.skip()
	return err
}

// sequence reads the end of the last transaction out of a JSON array inside a string:
// ["24023119","24023128"]. Other databases put other things there.
func (d *Decoder) sequence(s *scanner, src *Source) error {
	if s.peek() != '"' {
		_, err := s.skip()
		return err
	}
	text, err := d.v.str(s)
	if err != nil {
		return err
	}
	inner := scanner{b: text}
	if inner.take('[') && inner.peek() == '"' {
		if lit, _, err := inner.raw(); err == nil {
			if n, ok := parseInt64(lit); ok {
				src.CommitLSN = uint64(n)
			}
		}
	}
	return nil
}

// txBlock reads the transaction block of a row.
func (d *Decoder) txBlock(s *scanner, tx *Tx) error {
	return s.object(func(name []byte) (err error) {
		switch string(name) {
		case "id":
			err = d.txID(s, tx)
		case "total_order":
			tx.TotalOrder, _, err = number(s)
		case "data_collection_order":
			tx.CollectionOrder, _, err = number(s)
		default:
			_, err = s.skip()
		}
		return err
	})
}

// txID reads xid:lsn, or the id alone.
func (d *Decoder) txID(s *scanner, tx *Tx) (err error) {
	if s.peek() != '"' {
		_, err = s.skip()
		return err
	}
	if tx.ID, err = d.v.str(s); err != nil {
		return err
	}
	n := uint64(0)
	for _, c := range tx.ID {
		if c-'0' > 9 {
			break
		}
		n = n*10 + uint64(c-'0')
	}
	tx.XID = uint32(n)
	return nil
}

// transaction reads a record of the transaction topic.
func (d *Decoder) transaction(s *scanner, ev *Event) error {
	if err := s.object(func(name []byte) (err error) {
		switch string(name) {
		case "status":
			var text []byte
			if text, err = d.v.str(s); err == nil {
				switch string(text) {
				case "BEGIN":
					ev.Kind = Begin
				case "END":
					ev.Kind = End
				}
			}
		case "id":
			err = d.txID(s, &ev.Tx)
		case "event_count":
			ev.Boundary.Count, _, err = number(s)
		case "ts_ms":
			err = clockOf("ts_ms", s, &ev.Boundary.Time)
		case "data_collections":
			err = d.collections(s, &ev.Boundary)
		default:
			_, err = s.skip()
		}
		return err
	}); err != nil {
		return err
	}
	if ev.Kind == 0 || len(ev.Tx.ID) == 0 {
		return refuse(ErrMalformed, "a record of the transaction topic is neither a BEGIN nor an END")
	}
	return nil
}

func (d *Decoder) collections(s *scanner, b *Boundary) error {
	if s.peek() == 'n' {
		_, err := s.skip()
		return err
	}
	if !s.take('[') {
		return errSyntax
	}
	for first := true; ; first = false {
		ok, err := s.element(first)
		if err != nil || !ok {
			return err
		}
		c := Collection{}
		if err := s.object(func(name []byte) (err error) {
			switch string(name) {
			case "data_collection":
				c.Name, err = d.v.str(s)
			case "event_count":
				c.Count, _, err = number(s)
			default:
				_, err = s.skip()
			}
			return err
		}); err != nil {
			return err
		}
		b.Collections = append(b.Collections, c)
	}
}

// heartbeat reads a heartbeat.
func (d *Decoder) heartbeat(s *scanner, ev *Event) error {
	ev.Kind = Heartbeat
	return s.object(func(name []byte) (err error) {
		if string(name) == "ts_ms" {
			err = clockOf("ts_ms", s, &ev.Time)
		} else {
			_, err = s.skip()
		}
		return err
	})
}

// message reads a logical decoding message.
func (d *Decoder) message(s *scanner, m *record.Message) error {
	return s.object(func(name []byte) (err error) {
		var text []byte
		switch string(name) {
		case "prefix":
			text, err = d.v.str(s)
			m.Prefix = string(text)
		case "content":
			if text, err = d.v.str(s); err == nil {
				m.Content, err = d.content(text)
			}
		default:
			_, err = s.skip()
		}
		return err
	})
}

// content turns a message's content into its bytes.
func (d *Decoder) content(text []byte) ([]byte, error) {
	start := len(d.v.arena)
	var err error
	switch d.modes.Binary {
	case "hex":
		d.v.arena, err = hex.AppendDecode(d.v.arena, text)
	case "base64-url-safe":
		enc := base64.URLEncoding
		if len(text)%4 != 0 {
			enc = base64.RawURLEncoding
		}
		d.v.arena, err = enc.AppendDecode(d.v.arena, text)
	default:
		d.v.arena, err = base64.StdEncoding.AppendDecode(d.v.arena, text)
	}
	if err != nil {
		return nil, refuse(ErrValue, "the message's content is not in the form that binary.handling.mode says")
	}
	return d.v.since(start), nil
}

// sourceAttribute is the source block's name for what is left of a CloudEvent's
// attribute without iodebezium, "" for others.
func sourceAttribute(name string) string {
	switch name {
	case "tsms":
		return "ts_ms"
	case "tsus":
		return "ts_us"
	case "tsns":
		return "ts_ns"
	case "originlsn":
		return "origin_lsn"
	case "version",
		"connector",
		"name",
		"db",
		"schema",
		"table",
		"snapshot",
		"lsn",
		"txId",
		"sequence",
		"origin":
		return name
	}
	return ""
}

// cloudEvent decodes a change in a structured CloudEvent.
func (d *Decoder) cloudEvent(t *topic, r *Record, s *scanner, ev *Event) error {
	var p parts
	var data []byte
	if err := s.object(func(name []byte) (err error) {
		attr, ours := strings.CutPrefix(string(name), "iodebezium")
		switch {
		case string(name) == "data":
			data, err = s.skip()
		case attr == "op" && ours:
			var text []byte
			if text, err = d.v.str(s); err == nil && len(text) == 1 {
				p.op = text[0]
			}
		case attr == "txid" && ours:
			err = d.txID(s, &ev.Tx)
		case attr == "txtotalorder" && ours:
			ev.Tx.TotalOrder, _, err = number(s)
		case attr == "txdatacollectionorder" && ours:
			ev.Tx.CollectionOrder, _, err = number(s)
		case ours && sourceAttribute(attr) != "":
			err = d.sourceMember(sourceAttribute(attr), s, &ev.Source)
		default:
			_, err = s.skip()
		}
		return err
	}); err != nil {
		return err
	}
	return d.cloudData(t, r, data, &p, ev)
}

// cloudData reads the rows inside of a CloudEvent.
func (d *Decoder) cloudData(t *topic, r *Record, data []byte, p *parts, ev *Event) error {
	s, sch, err := unwrap(&t.values, data)
	if err != nil {
		return err
	}
	if s.peek() != '{' {
		return refuse(ErrMalformed, "the CloudEvent's data is no change; Avro inside of CloudEvents is not read")
	}
	var ts *tableState
	switch {
	case len(t.tables) > 0:
		ts = t.tables[0]
	case d.cfg.Tables == nil:
		name := string(ev.Source.Schema) + "." + string(ev.Source.Table)
		if len(ev.Source.Table) == 0 {
			name = strings.TrimPrefix(t.name, d.cfg.Prefix+".")
		}
		t.add(&Table{Name: name})
		ts = t.tables[0]
	default:
		ev.Kind = Ignored
		return nil
	}
	var row *wire
	if sch != nil {
		if row = sch.wire.field("after"); row == nil {
			return refuse(ErrMalformed, "the CloudEvent's data is no change")
		}
	}
	sh, err := d.shapeOf(ts, sch, row)
	if err != nil {
		return err
	}
	if err := s.object(func(name []byte) (err error) {
		if string(name) != "before" && string(name) != "after" {
			_, err = s.skip()
		} else {
			err = d.part(string(name), &s, sh, p, ev)
		}
		return err
	}); err != nil {
		return err
	}
	if p.op == 0 {
		// Without the extension attributes only the rows tell.
		p.op = map[bool]byte{true: 'u', false: 'd'}[p.hasNew]
		if p.hasNew && sh.table.InsertsOnly {
			return errNoOperation
		}
	}
	return d.change(t, r, sh, p, ev)
}
