package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/internal/pgoutput"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// partition is a partition, at whatever depth, that holds rows, here or elsewhere. Changes are published as
// those of the root, but it is the partition's own persistence and replica identity that
// say whether and how they are in the log.
type partition struct {
	name, parent          string // as SQL writes them
	kind                  byte   // relkind
	persistence, identity byte
	// key are the columns that its old tuples have, index the one of its own that is part of
	// the root's replica identity, "" without.
	key   []string
	index string
}

// readPartitions finds the partitions of tables.
func readPartitions(ctx context.Context, c *pgx.Conn, tables map[uint32]*table) error {
	var oids []int64
	for oid, t := range tables {
		if t.kind == 'p' {
			oids = append(oids, int64(oid))
		}
	}
	if len(oids) == 0 {
		return nil
	}
	rows, err := c.Query(ctx, `SELECT r.id, format('%I.%I', n.nspname, c.relname),
		(SELECT format('%I.%I', m.nspname, u.relname) FROM pg_class u JOIN pg_namespace m ON m.oid = u.relnamespace
			WHERE u.oid = p.parentrelid), c.relkind::text, c.relpersistence::text, c.relreplident::text, k.columns, coalesce(k.index, '')
		FROM unnest($1::int8[]) AS r(id), LATERAL pg_partition_tree(r.id::oid::regclass) AS p
		JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace, LATERAL (
			SELECT coalesce(array_agg(a.attname::text) FILTER (WHERE CASE c.relreplident WHEN 'i' THEN x.indisreplident
				WHEN 'd' THEN x.indisprimary AND x.indimmediate END AND x.indisvalid), '{}') AS columns,
				min(i.relname::text) FILTER (WHERE EXISTS (SELECT FROM pg_partition_ancestors(i.oid) u
				JOIN pg_index v ON v.indexrelid = u.relid WHERE v.indrelid = r.id::oid AND v.indisreplident)) AS index
			FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
			JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (x.indkey::int2[])
			WHERE x.indrelid = c.oid) AS k
		WHERE c.relkind IN ('r', 'f') ORDER BY 1, 2`, oids)
	if err != nil {
		return fmt.Errorf("postgres: read the partitions: %w", err)
	}
	for rows.Next() {
		var root int64
		var p partition
		var kind, persistence, identity string
		err := rows.Scan(&root, &p.name, &p.parent, &kind, &persistence, &identity, &p.key, &p.index)
		if err != nil {
			return fmt.Errorf("postgres: read the partitions: %w", err)
		}
		p.kind, p.persistence, p.identity = kind[0], persistence[0], identity[0]
		t := tables[uint32(root)]
		t.partitions = append(t.partitions, p)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("postgres: read the partitions: %w", err)
	}
	return nil
}

// readAncestors finds the tables that are partitions of others among them.
func readAncestors(ctx context.Context, c *pgx.Conn, tables map[uint32]*table) error {
	oids := make([]int64, 0, len(tables))
	for oid := range tables {
		oids = append(oids, int64(oid))
	}
	rows, err := c.Query(ctx, `SELECT t.id, p.relid::oid::int8
		FROM unnest($1::int8[]) AS t(id), LATERAL pg_partition_ancestors(t.id::oid::regclass) AS p
		WHERE p.relid::oid::int8 <> t.id AND p.relid::oid::int8 = ANY ($1::int8[]) ORDER BY 1, 2`, oids)
	if err != nil {
		return fmt.Errorf("postgres: read the partitions: %w", err)
	}
	for rows.Next() {
		var of, above int64
		if err := rows.Scan(&of, &above); err != nil {
			return fmt.Errorf("postgres: read the partitions: %w", err)
		}
		tables[uint32(of)].above = append(tables[uint32(of)].above, tables[uint32(above)])
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("postgres: read the partitions: %w", err)
	}
	return nil
}

// checkAncestors refuses a partition that is read beside a table that it is part of: with
// that in the publication the partition's rows are in the log as those of the other alone.
// Adding one of the two would take rows from who reads the other, so nobody may go on with
// it; where both have been read before, the one was attached to the other meanwhile.
func checkAncestors(t *table) []Problem {
	var out []Problem
	for _, root := range t.above {
		p := Problem{
			Subject: "table " + t.sql(), Kind: sources.ErrConfig,
			Text: "table " + root.sql() + " is read as well, which it is a partition of: " +
				"the log has its rows as those of that table only",
			Fix: "read " + root.sql() + " alone, and filter its rows in the topology; or read " + t.sql() +
				" in an app of its own, with another name",
		}
		if !t.req.Added && !root.req.Added {
			p.Table = t.req.Name
		}
		out = append(out, p)
	}
	return out
}

// checkPartitions says which partitions' changes are not in the log, and of which PostgreSQL
// would refuse the application's own updates once the root is published.
func checkPartitions(t *table) []Problem {
	var out []Problem
	for _, p := range t.partitions {
		of := p.name
		add := func(fix, text string) {
			out = append(out, Problem{
				Subject: "table " + t.sql(), Text: "its partition " + p.name + text,
				Fix: "ALTER TABLE " + of + " " + fix + ";", Kind: sources.ErrConfig,
			})
		}
		if p.kind == 'f' {
			of = p.parent
			add("DETACH PARTITION "+p.name, " is a foreign table: its changes are not in the log")
			continue
		}
		if p.persistence != 'p' {
			add("SET LOGGED", " is unlogged: its changes are not in the log")
		}
		if p.identity == 'n' && t.req.Changes {
			add("REPLICA IDENTITY DEFAULT", " has the replica identity NOTHING: PostgreSQL would refuse to update "+
				"or delete its rows once the table is published")
		}
		if p.identity == 'f' && t.virtual && t.req.Changes {
			add(identitySQL(t.identity, p.index), " has the replica identity FULL, "+virtualText)
		}
		if lacks := p.lacks(t.key); t.req.Changes && lacks != "" {
			add(identitySQL(t.identity, p.index), " has a replica identity of its own: the log does not tell the "+
				lacks+" of rows that are updated or deleted there")
		}
	}
	return out
}

// lacks names the columns of the root's key that old tuples of a partition do not have, ""
// if they have them all.
func (p *partition) lacks(key []string) string {
	if p.identity == 'f' || p.identity == 'n' {
		return ""
	}
	return names(without(key, p.key))
}

// identitySQL is what to do to a partition whose replica identity is not what goes with the
// root's: index is the part of the root's identity index, where that is known.
func identitySQL(root byte, index string) string {
	switch {
	case root != 'i':
		return "REPLICA IDENTITY DEFAULT"
	case index != "":
		return "REPLICA IDENTITY USING INDEX " + ident(index)
	}
	return "REPLICA IDENTITY FULL"
}

// partition implements describer: rows of a partition come as those of its root, but their
// old tuples have what the partition's own replica identity says. It tells where the key is
// not among that, as of the moment that the log is of.
func (d *catalogDescriber) partition(
	root *record.Relation, m pgoutput.RelationMessage,
) (rel *record.Relation, is bool) {
	t := d.wanted[root.OID]
	if t == nil || t.kind != 'p' || len(m.Columns) != len(root.Columns) {
		return root, false
	}
	p := partition{identity: m.Identity}
	var key []string
	for _, c := range m.Columns {
		of := slices.IndexFunc(root.Columns, func(r record.Column) bool { return r.Name == c.Name })
		if of < 0 {
			return root, false // It is no partition of it.
		}
		if c.Key {
			p.key = append(p.key, c.Name)
		}
		if root.Columns[of].Key {
			key = append(key, c.Name)
		}
	}
	lacks := p.lacks(key)
	if lacks == "" || len(p.key) == 0 { // Without any PostgreSQL lets rows be inserted only.
		return root, true
	}
	out := *root
	if out.Opened == nil {
		out.Opened = root
	}
	identity := byte('d')
	if root.Identity == record.IdentityIndex {
		identity = 'i'
	}
	name := ident(m.Schema, m.Name)
	out.Misfit = fmt.Sprintf("its partition %s had a replica identity of its own: the log does not tell "+
		"the %s of rows that were updated or deleted there; ", name, lacks)
	out.Misfit += "ALTER TABLE " + name + " " + identitySQL(identity, "") + ";"
	return &out, true
}
