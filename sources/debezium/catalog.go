package debezium

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// ReadCatalog reads what PostgreSQL says of tables, given as schema.table: the types
// that records without schema do not tell, and what Check looks at. The error names all
// tables that are not there. The catalog is that of now, which a topic's older records
// may be older than.
func ReadCatalog(ctx context.Context, c *pgx.Conn, names []string) ([]Table, error) {
	var tables []Table
	var errs []error
	for _, name := range names {
		t, err := readTable(ctx, c, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		tables = append(tables, t)
	}
	return tables, errors.Join(errs...)
}

func readTable(ctx context.Context, c *pgx.Conn, name string) (Table, error) {
	t := Table{Name: name}
	schema, table := t.schemaAndName()
	var oid uint32
	var identity, kind string
	err := c.QueryRow(ctx, `SELECT c.oid, c.relreplident::text, c.relkind::text FROM pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`,
		schema, table).Scan(&oid, &identity, &kind)
	if errors.Is(err, pgx.ErrNoRows) {
		return t, fmt.Errorf(
			"debezium: there is no table %s, or the role cannot see it: %w",
			name,
			sources.ErrConfig,
		)
	}
	if err != nil {
		return t, fmt.Errorf("debezium: read the catalog: %w", err)
	}
	t.Identity = map[string]record.Identity{"f": record.IdentityFull, "i": record.IdentityIndex,
		"n": record.IdentityNothing}[identity]
	t.Partitioned = kind == "p"
	return t, readColumns(ctx, c, oid, &t)
}

func readColumns(ctx context.Context, c *pgx.Conn, oid uint32, t *Table) error {
	rows, err := c.Query(
		ctx,
		`SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.atttypid, a.atttypmod,
		a.attnotnull, a.attgenerated::text <> '', a.atthasdef AND a.attgenerated = '', a.attndims::int,
		t.typtype = 'e' OR coalesce(e.typtype = 'e', false), a.attstorage <> 'p',
		coalesce(a.attnum = ANY (p.indkey::int2[]), false), coalesce(a.attnum = ANY (r.indkey::int2[]), false),
		coalesce((WITH RECURSIVE d AS (SELECT y.typtype, y.typbasetype, y.typtypmod FROM pg_type y
			WHERE y.oid = a.atttypid
			UNION ALL SELECT y.typtype, y.typbasetype, CASE WHEN d.typtypmod = -1 THEN y.typtypmod ELSE d.typtypmod END
			FROM d JOIN pg_type y ON y.oid = d.typbasetype WHERE d.typtype = 'd' AND y.typtype = 'd')
			SELECT format_type(d.typbasetype, d.typtypmod) FROM d JOIN pg_type b ON b.oid = d.typbasetype
			WHERE d.typtype = 'd' AND b.typtype <> 'd'), '')
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type e ON e.oid = t.typelem
		LEFT JOIN pg_index p ON p.indrelid = a.attrelid AND p.indisprimary
		LEFT JOIN pg_index r ON r.indrelid = a.attrelid AND r.indisreplident
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
		oid,
	)
	if err != nil {
		return fmt.Errorf("debezium: read the columns of %s: %w", t.Name, err)
	}
	defer rows.Close()
	for rows.Next() {
		var col Column
		var primary, replica bool
		if err := rows.Scan(&col.Name, &col.Type, &col.TypeOID, &col.TypeMod, &col.NotNull, &col.Generated,
			&col.HasDefault, &col.Dims, &col.Enum, &col.Toastable, &primary, &replica, &col.Base); err != nil {
			return fmt.Errorf("debezium: read the columns of %s: %w", t.Name, err)
		}
		if primary {
			t.PrimaryKey = append(t.PrimaryKey, col.Name)
		}
		col.Key = primary
		if t.Identity == record.IdentityIndex {
			col.Key = replica
		}
		t.Columns = append(t.Columns, col)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("debezium: read the columns of %s: %w", t.Name, err)
	}
	return nil
}

// keyOption returns the columns that message.key.columns gives a table, nil for none.
func keyOption(config map[string]string, table string) []string {
	for part := range strings.SplitSeq(config["message.key.columns"], ";") {
		name, columns, ok := strings.Cut(strings.TrimSpace(part), ":")
		if ok && matches(name, table) {
			return strings.Split(columns, ",")
		}
	}
	return nil
}
