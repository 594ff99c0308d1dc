package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/sources"
)

// partition is a partition, at whatever depth, that holds rows. Changes are published as
// those of the root, but it is the partition's own persistence and replica identity that
// say whether and how they are in the log.
type partition struct {
	name                  string // as SQL writes it
	persistence, identity byte
}

// readPartitions finds the partitions of which something keeps us from reading the root.
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
	rows, err := c.Query(ctx, `SELECT r.id, format('%I.%I', n.nspname, c.relname), c.relpersistence::text,
		c.relreplident::text FROM unnest($1::int8[]) AS r(id), LATERAL pg_partition_tree(r.id::oid::regclass) AS p
		JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND (c.relpersistence <> 'p' OR c.relreplident = 'n') ORDER BY 1, 2`, oids)
	if err != nil {
		return fmt.Errorf("postgres: read the partitions: %w", err)
	}
	for rows.Next() {
		var root int64
		var p partition
		var persistence, identity string
		if err := rows.Scan(&root, &p.name, &persistence, &identity); err != nil {
			return fmt.Errorf("postgres: read the partitions: %w", err)
		}
		p.persistence, p.identity = persistence[0], identity[0]
		t := tables[uint32(root)]
		t.partitions = append(t.partitions, p)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("postgres: read the partitions: %w", err)
	}
	return nil
}

// checkPartitions says which partitions' changes are not in the log, and of which PostgreSQL
// would refuse the application's own updates once the root is published.
func checkPartitions(t *table) []Problem {
	var out []Problem
	for _, p := range t.partitions {
		add := func(fix, text string) {
			out = append(out, Problem{
				Subject: "table " + t.sql(), Text: "its partition " + p.name + text,
				Fix: "ALTER TABLE " + p.name + " " + fix + ";", Kind: sources.ErrConfig,
			})
		}
		if p.persistence != 'p' {
			add("SET LOGGED", " is unlogged: its changes are not in the log")
		}
		if p.identity == 'n' && t.req.Changes {
			add("REPLICA IDENTITY DEFAULT", " has the replica identity NOTHING: PostgreSQL would refuse to update "+
				"or delete its rows once the table is published")
		}
	}
	return out
}
