package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/internal/pgoutput"
	"github.com/tailrace/tailrace/record"
)

// catalogDescriber makes relations of the log's descriptions. The shape and, but under
// REPLICA IDENTITY FULL, the key are the log's own; names of types, collations, NOT NULL
// and what tells of rewritten rows are the catalog's of now, which is asked only when a shape is new.
type catalogDescriber struct {
	ctx  context.Context
	conn *pgx.ConnConfig
	// wanted are the tables asked for, by id; opened their relation as of the session's
	// start, known their last one.
	wanted        map[uint32]*table
	opened, known map[uint32]*record.Relation
}

// describe returns the relation of a description, nil for a table nobody asked for,
// and the one from before where nothing has changed.
func (d *catalogDescriber) describe(m pgoutput.RelationMessage) (*record.Relation, error) {
	if d.wanted[m.OID] == nil {
		return nil, nil
	}
	old := d.known[m.OID]
	if old != nil && matches(old, m) {
		return old, nil
	}
	rel, err := d.fresh(m)
	if err != nil {
		return nil, err
	}
	if old != nil && sameShape(old, rel) {
		return old, nil
	}
	d.known[m.OID] = rel
	return rel, nil
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

// fresh makes a relation with the help of the catalog.
func (d *catalogDescriber) fresh(m pgoutput.RelationMessage) (*record.Relation, error) {
	ctx, cancel := context.WithTimeout(d.ctx, 30*time.Second)
	defer cancel()
	c, err := connect(ctx, d.conn)
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	now := &table{oid: m.OID, identity: m.Identity}
	if err := readColumns(ctx, c, map[uint32]*table{m.OID: now}); err != nil {
		return nil, err
	}
	rel := &record.Relation{Schema: m.Schema, Name: m.Name, OID: m.OID, Identity: identityOf(m.Identity),
		Opened: d.opened[m.OID]}
	if err := c.QueryRow(ctx, "SELECT coalesce(pg_relation_filenode($1::int8::oid), 0)::int8", int64(m.OID)).
		Scan(&rel.File); err != nil {
		return nil, fmt.Errorf("postgres: file of table %s: %w", rel, err)
	}
	for _, col := range m.Columns {
		out := record.Column{Name: col.Name, TypeOID: col.TypeOID, TypeMod: col.TypeMod, Key: col.Key}
		have := now.column(col.Name)
		if have != nil {
			out.NotNull, out.Collation = have.NotNull, have.Collation
			out.Number, out.Stamp, out.Labels = have.Number, have.Stamp, have.Labels
			if m.Identity == 'f' {
				out.Key = have.Key
			}
		} else if m.Identity == 'f' {
			out.Key = false
		}
		if have != nil && have.TypeOID == col.TypeOID && have.TypeMod == col.TypeMod {
			out.Type, out.Base, out.Kind = have.Type, have.Base, have.Kind
		} else if err := c.QueryRow(ctx,
			"SELECT format_type($1::int8::oid, $2::int4)", int64(col.TypeOID), col.TypeMod).
			Scan(&out.Type); err != nil {
			return nil, fmt.Errorf("postgres: name of type %d: %w", col.TypeOID, err)
		}
		rel.Columns = append(rel.Columns, out)
	}
	return rel, nil
}
