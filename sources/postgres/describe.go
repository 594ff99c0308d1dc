package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/internal/pgoutput"
	"github.com/tailrace/tailrace/record"
)

// catalogDescriber makes relations of the log's descriptions. The shape and, but under
// REPLICA IDENTITY FULL, the key are the log's own. Which column is which is told by their
// order, with the catalog's help (numbers); names of types, collations, NOT NULL and what
// tells of rewritten rows are the catalog's of now.
type catalogDescriber struct {
	ctx  context.Context
	conn *pgx.ConnConfig
	// open is a connection for looks, nil if there is none, used when that was last.
	open *pgx.Conn
	used time.Time
	// wanted are the tables asked for, by id; opened their relation as of the session's
	// start, known their last one.
	wanted        map[uint32]*table
	opened, known map[uint32]*record.Relation
	// looked is what the catalog showed when it was looked at last, for each table.
	looked map[uint32]seen
	// generated says whether stored generated columns of a table are in the log, listed that
	// a column list says what is.
	generated, listed map[uint32]bool
}

func newDescriber(o *opening, s *session) *catalogDescriber {
	d := &catalogDescriber{ctx: s.ctx, conn: o.conn, wanted: map[uint32]*table{},
		opened: map[uint32]*record.Relation{}, known: map[uint32]*record.Relation{},
		looked: map[uint32]seen{}, generated: map[uint32]bool{}, listed: map[uint32]bool{}}
	relations := o.relations()
	for _, t := range o.tables {
		rel := relations[t.req.Name]
		s.relations[t.req.Name], d.wanted[t.oid] = rel, t
		d.opened[t.oid], d.known[t.oid], d.looked[t.oid] = rel, rel, o.server.seen
		d.generated[t.oid], d.listed[t.oid] = o.plan.publishesGenerated(t), o.plan.columnList(t) != nil
	}
	return d
}

// describe implements describer. The relation is the one from before where nothing has changed.
func (d *catalogDescriber) describe(m pgoutput.RelationMessage, xid uint32) (*record.Relation, bool) {
	if d.openedAs(m) == nil {
		return nil, true
	}
	old := d.known[m.OID]
	if old != nil && matches(old, m) && d.looked[m.OID].shows(xid) && unalteredSince(old, xid) {
		return old, true
	}
	return nil, false
}

// openedAs returns what a table was as of the session's start, nil if nobody asked for it.
func (d *catalogDescriber) openedAs(m pgoutput.RelationMessage) *record.Relation {
	opened := d.opened[m.OID]
	if opened == nil {
		// Another table may have the name of one that was asked for.
		for _, rel := range d.opened {
			if rel.Schema == m.Schema && rel.Name == m.Name {
				opened = rel
			}
		}
	}
	return opened
}

// look implements describer. Tables that are described one after the other share a connection.
func (d *catalogDescriber) look(m pgoutput.RelationMessage, xid uint32) (*record.Relation, error) {
	ctx, cancel := context.WithTimeout(d.ctx, 30*time.Second)
	defer cancel()
	used := d.open != nil
	rel, err := d.lookOnce(ctx, m, xid)
	if err != nil && used { // The connection may have been lost since.
		rel, err = d.lookOnce(ctx, m, xid)
	}
	if err != nil {
		return nil, err
	}
	if old := d.known[m.OID]; old != nil && sameShape(old, rel) {
		return old, nil
	}
	d.known[m.OID] = rel
	return rel, nil
}

// lookOnce asks over the connection that is open, or a new one. It leaves none open that has
// failed.
func (d *catalogDescriber) lookOnce(
	ctx context.Context, m pgoutput.RelationMessage, xid uint32,
) (*record.Relation, error) {
	if d.open == nil {
		c, err := connect(ctx, d.conn)
		if err != nil {
			return nil, err
		}
		if err := refuseStandby(ctx, c.PgConn()); err != nil {
			c.Close(ctx)
			return nil, err
		}
		d.open = c
	}
	rel, err := d.fresh(ctx, m, xid)
	d.used = time.Now()
	if err != nil {
		d.close()
	}
	return rel, err
}

// restAfter is how long the connection for looks stays open unused.
const restAfter = 5 * time.Second

// rest closes the connection for looks if it has not been used for a while.
func (d *catalogDescriber) rest(now time.Time) {
	if d.open != nil && now.Sub(d.used) > restAfter {
		d.close()
	}
}

// close closes the connection for looks.
func (d *catalogDescriber) close() {
	if d.open != nil {
		d.open.Close(d.ctx)
		d.open = nil
	}
}

// matches reports whether a relation is what the log describes. Under FULL the log
// marks every column as key.
func matches(r *record.Relation, m pgoutput.RelationMessage) bool {
	if r.Schema != m.Schema || r.Name != m.Name || r.Identity != identityOf(m.Identity) ||
		len(r.Columns) != len(m.Columns) {
		return false
	}
	for i, c := range m.Columns {
		have := &r.Columns[i]
		if have.Name != c.Name || have.TypeOID != c.TypeOID || have.TypeMod != c.TypeMod ||
			m.Identity != 'f' && have.Key != c.Key {
			return false
		}
	}
	return true
}

// unalteredSince reports whether a relation's columns, by the catalog, had been what they are
// before a transaction began: then they had their names in it.
func unalteredSince(r *record.Relation, xid uint32) bool {
	return !slices.ContainsFunc(r.Columns, func(c record.Column) bool {
		return c.Stamp == 0 || !older(c.Stamp, xid)
	})
}

// fresh makes a relation with the help of the catalog.
func (d *catalogDescriber) fresh(
	ctx context.Context, m pgoutput.RelationMessage, xid uint32,
) (*record.Relation, error) {
	c := d.open
	rel := &record.Relation{Schema: m.Schema, Name: m.Name, OID: m.OID, Identity: identityOf(m.Identity),
		Opened: d.openedAs(m)}
	looked, err := beginSeeing(ctx, c, xid)
	if err != nil {
		return nil, fmt.Errorf("postgres: look at table %s: %w", rel, err)
	}
	if err := c.QueryRow(ctx, "SELECT coalesce(pg_relation_filenode($1::int8::oid), 0)::int8", int64(m.OID)).
		Scan(&rel.File); err != nil {
		return nil, fmt.Errorf("postgres: file of table %s: %w", rel, err)
	}
	now := &table{oid: m.OID, identity: m.Identity}
	if err := readColumns(ctx, c, map[uint32]*table{m.OID: now}); err != nil {
		return nil, err
	}
	attributes, err := readDropped(ctx, c, m.OID)
	if err != nil {
		return nil, err
	}
	for i, number := range d.numbers(m, xid, now, attributes) {
		out, err := describeColumn(ctx, c, &m, i, now.numbered(number), xid)
		if err != nil {
			return nil, err
		}
		out.Number = number
		rel.Columns = append(rel.Columns, out)
	}
	if _, err := c.Exec(ctx, "COMMIT"); err != nil {
		return nil, fmt.Errorf("postgres: look at table %s: %w", rel, err)
	}
	d.looked[m.OID] = looked
	return rel, nil
}

// numbers tells which columns a description is of. Since when generated columns are in the log
// nobody knows: one that has none of them by name, or all, is taken to be of before or after,
// where that explains it.
func (d *catalogDescriber) numbers(
	m pgoutput.RelationMessage, xid uint32, now *table, dropped []attribute,
) []int16 {
	generated, all, has := d.generated[m.OID], 0, 0
	for _, c := range now.columns {
		if c.generated == 's' {
			all++
			if slices.ContainsFunc(m.Columns, func(p pgoutput.Column) bool { return p.Name == c.Name }) {
				has++
			}
		}
	}
	of := func(generated bool) []int16 {
		return numbers(m.Columns, xid, append(slices.Clone(dropped), d.published(now, generated)...))
	}
	if all > 0 && (generated && has == 0 || !generated && has == all) {
		if out := of(!generated); !slices.Contains(out, unknownNumber) {
			return out
		}
	}
	return of(generated)
}

// published are the columns of a table that are in the log, with its stored generated columns
// or without.
func (d *catalogDescriber) published(t *table, generated bool) (out []attribute) {
	for _, c := range t.columns {
		listed := !d.listed[t.oid] || slices.ContainsFunc(d.opened[t.oid].Columns,
			func(o record.Column) bool { return o.Number == c.Number })
		if listed && (c.generated == 0 || c.generated == 's' && generated) {
			out = append(out, attribute{number: c.Number, name: c.Name, stamp: c.altered})
		}
	}
	return out
}

// describeColumn describes column i of a description, which is have now, nil if it is gone.
// Whether it was altered is not told where that was after the transaction.
func describeColumn(
	ctx context.Context, c *pgx.Conn, m *pgoutput.RelationMessage, i int, have *column, xid uint32,
) (record.Column, error) {
	col := &m.Columns[i]
	out := record.Column{Name: col.Name, TypeOID: col.TypeOID, TypeMod: col.TypeMod,
		Key: col.Key && m.Identity != 'f'}
	if have != nil {
		out.NotNull, out.Collation, out.Labels = have.NotNull, have.Collation, have.Labels
		if have.altered == xid || older(have.altered, xid) {
			out.Stamp = have.Stamp
		}
		out.Key = out.Key || m.Identity == 'f' && have.Key
	}
	if have != nil && have.TypeOID == col.TypeOID && have.TypeMod == col.TypeMod {
		out.Type, out.Base, out.Kind = have.Type, have.Base, have.Kind
		return out, nil
	}
	err := c.QueryRow(ctx, "SELECT format_type($1::int8::oid, $2::int4)", int64(col.TypeOID), col.TypeMod).
		Scan(&out.Type)
	if err != nil {
		err = fmt.Errorf("postgres: name of type %d: %w", col.TypeOID, err)
	}
	return out, err
}
