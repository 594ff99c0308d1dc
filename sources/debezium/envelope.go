package debezium

import (
	"strings"

	"github.com/tailrace/tailrace/record"
)

// parts are the members of an envelope that decide what it says.
type parts struct {
	op       byte
	hasNew   bool
	old, new record.Tuple
}

// tableOf returns the table of a record, nil if nobody asked for it. Several tables may
// share a topic; the source block tells them apart.
func (d *Decoder) tableOf(t *topic, s scanner) (*tableState, error) {
	if len(t.tables) == 1 {
		return t.tables[0], nil
	}
	if len(t.tables) == 0 && d.cfg.Tables != nil {
		return nil, nil
	}
	var src Source
	if err := d.findSource(s, &src); err != nil {
		return nil, err
	}
	if len(src.Table) == 0 {
		return nil, nil // a message
	}
	name := string(src.Schema) + "." + string(src.Table)
	for _, ts := range t.tables {
		if ts.table.Name == name {
			return ts, nil
		}
	}
	if d.cfg.Tables != nil {
		return nil, nil
	}
	t.add(&Table{Name: name})
	return t.tables[len(t.tables)-1], nil
}

// findSource reads the source block of an envelope, if it has one.
func (d *Decoder) findSource(s scanner, src *Source) error {
	s.take('{')
	for first := true; ; first = false {
		name, _, ok, err := s.member(first)
		if err != nil || !ok {
			return err
		}
		if string(name) == "source" && s.peek() == '{' {
			return d.source(&s, src)
		}
		if _, err := s.skip(); err != nil {
			return err
		}
	}
}

// envelope decodes a change in Debezium's envelope.
func (d *Decoder) envelope(t *topic, r *Record, s *scanner, sch *schema, ev *Event) error {
	ts, err := d.tableOf(t, *s)
	if err != nil {
		return err
	}
	var sh *shape
	if ts != nil {
		var row *wire
		if sch != nil {
			row = sch.wire.field("after")
		}
		// A message has no row; its topic is that of no table.
		if sch == nil || row != nil {
			if sh, err = d.shapeOf(ts, sch, row); err != nil {
				return err
			}
		}
	}
	var p parts
	if err := s.object(func(name []byte) error { return d.part(string(name), s, sh, &p, ev) }); err != nil {
		return err
	}
	return d.change(t, r, sh, &p, ev)
}

// part reads one member of an envelope. The switch compares bytes; nothing is allocated.
func (d *Decoder) part(name string, s *scanner, sh *shape, p *parts, ev *Event) (err error) {
	null := s.peek() == 'n'
	switch name {
	case "before":
		if null || sh == nil || sh.table.Identity != record.IdentityFull {
			break
		}
		p.old = d.v.tuple(len(sh.columns))
		return d.row(sh, s, p.old, nil)
	case "after":
		p.hasNew = !null
		if null || sh == nil {
			break
		}
		p.new = d.v.tuple(len(sh.columns))
		return d.row(sh, s, p.new, nil)
	case "source":
		if !null {
			return d.source(s, &ev.Source)
		}
	case "op":
		text, err := d.v.str(s)
		if err == nil && len(text) != 1 {
			err = errSyntax
		}
		if err == nil {
			p.op = text[0]
		}
		return err
	case "ts_ms", "ts_us", "ts_ns":
		return clockOf(name, s, &ev.Time)
	case "transaction":
		if !null {
			return d.txBlock(s, &ev.Tx)
		}
	case "message":
		if !null {
			return d.message(s, &ev.Message)
		}
	}
	_, err = s.skip()
	return err
}

// clockOf reads a time in the unit that its name ends with; the finest one that is there
// counts.
func clockOf(name string, s *scanner, at *int64) error {
	n, ok, err := number(s)
	if err != nil || !ok {
		return err
	}
	switch {
	case strings.HasSuffix(name, "us"):
		*at = n
	case strings.HasSuffix(name, "ns"):
		if *at == 0 {
			*at = floorDiv(n, 1000)
		}
	case *at == 0 && n < 1<<52 && n > -1<<52:
		*at = n * 1000
	}
	return nil
}

// number reads an integer, as a number or in quotes; ok is false for null.
func number(s *scanner) (n int64, ok bool, err error) {
	var lit []byte
	switch s.peek() {
	case 'n':
		if !s.literal("null") {
			err = errSyntax
		}
		return 0, false, err
	case '"':
		lit, _, err = s.raw()
	default:
		lit, err = s.number()
	}
	if err != nil {
		return 0, false, err
	}
	if n, ok = parseInt64(lit); !ok {
		return 0, false, refuse(ErrMalformed, "a member of the envelope that is a number holds something else")
	}
	return n, true, nil
}

// change makes the event of an envelope's parts.
func (d *Decoder) change(t *topic, r *Record, sh *shape, p *parts, ev *Event) error {
	if p.op == 'm' {
		ev.Kind = Message
		ev.Message.Transactional = ev.Source.XID != 0
		return nil
	}
	if sh == nil {
		ev.Kind = Ignored
		return nil
	}
	ev.Kind = Row
	switch p.op {
	case 'c', 'r':
		ev.Row.Op = record.Insert
	case 'u':
		ev.Row.Op = record.Update
	case 'd':
		ev.Row.Op = record.Delete
	case 't':
		ev.Row.Op = record.Truncate
		ev.Row.Rel = sh.relation()
		return nil
	default:
		return refuse(ErrMalformed, "the operation is none of c, u, d, r, t and m")
	}
	if d.v.early && (p.op == 'r' || ev.Source.Snapshot != Streamed) {
		return refuse(ErrAmbiguous, "a date before 1582-10-15 in a snapshot is of another calendar and without "+
			"its era; set time.precision.mode, or leave the column out")
	}
	if ev.Row.Op != record.Delete && p.new == nil {
		return refuse(ErrMalformed, "the change has no row after it")
	}
	ev.Row.New = p.new
	if p.old != nil {
		ev.Row.Old, ev.Row.OldKind = p.old, record.OldFull
	}
	return d.keyed(t, r, sh, ev)
}

// keyed reads the record's key and headers, and finishes a row with them.
func (d *Decoder) keyed(t *topic, r *Record, sh *shape, ev *Event) error {
	row := &ev.Row
	var key record.Tuple
	wanted := !sh.table.InsertsOnly
	if wanted && row.Op == record.Delete && row.OldKind == record.OldNone {
		key = d.v.tuple(len(sh.columns))
	}
	ok, err := d.key(&t.keys, sh, r.Key, key)
	if err != nil {
		return err
	}
	if !ok && wanted && row.Op != record.Insert {
		return refuse(
			ErrNoKey,
			"updates and deletes of a table without primary key cannot be told from one another; "+
				"add a primary key, or set message.key.columns and REPLICA IDENTITY FULL",
		)
	}
	row.Rel = sh.relation()
	if key != nil {
		row.Old, row.OldKind = key, record.OldKey
	}
	if wanted {
		err = d.moved(r, sh, ev)
	}
	ev.available(row.Op == record.Insert && ev.Moved == nil && err == nil)
	return err
}

// available notes whether columns were left out. A new row leaves nothing out, unless
// it is the second half of a key change: what looks like the placeholder is a value.
func (ev *Event) available(whole bool) {
	for i := range ev.Row.New {
		v := &ev.Row.New[i]
		if v.Kind != record.Unchanged {
			continue
		}
		if whole && v.Data != nil {
			v.Kind = record.Text
			continue
		}
		v.Data = nil
		ev.Unavailable = true
	}
}
