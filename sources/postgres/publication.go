package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// publication is a publication as the catalog has it.
type publication struct {
	oid                              int64
	name, comment, owner             string
	owned                            bool // by our role
	all                              bool // FOR ALL TABLES
	insert, update, remove, truncate bool
	viaRoot                          bool
	generated                        bool // stored generated columns are published
	members                          map[uint32]*member
}

// member is a table in a publication.
type member struct {
	// id tells it from another member that is the same table: r and the number of the
	// table's own entry, s and that of its schema, or a for all tables.
	id           string
	schema, name string // the table's
	// columns is the column list, nil for all columns.
	columns []string
	// filter is the row filter, "" for none; filterColumns are the columns it uses.
	filter        string
	filterColumns []string
}

// changes reports whether updates or deletes are published, which obliges the tables
// to have an identity: PostgreSQL refuses the application's own writes otherwise.
func (p *publication) changes() bool { return p.update || p.remove }

// readPublications looks publications up by name.
func readPublications(
	ctx context.Context,
	c *pgx.Conn,
	version int,
	wanted ...string,
) (map[string]*publication, error) {
	generated := "false"
	if version >= 18 {
		generated = "p.pubgencols = 's'"
	}
	rows, err := c.Query(ctx, `SELECT p.oid::int8, p.pubname::text, coalesce(obj_description(p.oid, 'pg_publication'), ''),
		pg_get_userbyid(p.pubowner)::text, pg_has_role(p.pubowner, 'USAGE'), p.puballtables,
		p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot, `+generated+`
		FROM pg_publication p WHERE p.pubname = ANY ($1::text[]::name[])`, wanted)
	if err != nil {
		return nil, fmt.Errorf("postgres: read the publications: %w", err)
	}
	pubs := map[string]*publication{}
	for rows.Next() {
		p := &publication{members: map[uint32]*member{}}
		if err := rows.Scan(&p.oid, &p.name, &p.comment, &p.owner, &p.owned, &p.all, &p.insert, &p.update,
			&p.remove, &p.truncate, &p.viaRoot, &p.generated); err != nil {
			return nil, fmt.Errorf("postgres: read the publications: %w", err)
		}
		pubs[p.name] = p
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("postgres: read the publications: %w", err)
	}
	return pubs, readMembers(ctx, c, version, pubs)
}

// readMembers fills in the tables. pg_publication_tables expands FOR ALL TABLES and
// schemas, and names the root of a partitioned table where the root is published.
func readMembers(ctx context.Context, c *pgx.Conn, version int, pubs map[string]*publication) error {
	list, filter, used, schema := "NULL::text[]", "''", "NULL::text[]", "NULL"
	if version >= 15 {
		list = `(SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
			WHERE a.attrelid = c.oid AND r.prattrs IS NOT NULL AND a.attnum = ANY (r.prattrs::int2[]))`
		filter = "coalesce(t.rowfilter, '')"
		used = `(SELECT array_agg(DISTINCT a.attname::text) FROM pg_depend d JOIN pg_attribute a
			ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
			WHERE d.classid = 'pg_publication_rel'::regclass AND d.objid = r.oid
			AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid > 0)`
		schema = `(SELECT s.oid FROM pg_publication_namespace s WHERE s.pnpubid = p.oid
			AND s.pnnspid = n.oid)`
	}
	rows, err := c.Query(ctx, `SELECT t.pubname::text, c.oid::int8,
		CASE WHEN r.oid IS NOT NULL THEN 'r' || r.oid WHEN p.puballtables THEN 'a' ELSE coalesce('s' || `+schema+`, '') END,
		n.nspname::text, c.relname::text, `+list+`, `+filter+`, `+used+`
		FROM pg_publication_tables t
		JOIN pg_namespace n ON n.nspname = t.schemaname
		JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
		JOIN pg_publication p ON p.pubname = t.pubname
		LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
		WHERE t.pubname = ANY ($1::text[]::name[])`, keys(pubs))
	if err != nil {
		return fmt.Errorf("postgres: read the publications' tables: %w", err)
	}
	for rows.Next() {
		var pub string
		var oid int64
		m := &member{}
		err := rows.Scan(&pub, &oid, &m.id, &m.schema, &m.name, &m.columns, &m.filter, &m.filterColumns)
		if err != nil {
			return fmt.Errorf("postgres: read the publications' tables: %w", err)
		}
		if m.filter == "" {
			m.filterColumns = nil
		}
		pubs[pub].members[uint32(oid)] = m
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("postgres: read the publications' tables: %w", err)
	}
	return nil
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
