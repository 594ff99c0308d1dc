package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/sinks"
)

// feeds reports, as a problem, an output whose table its own topology reads: what it
// writes would come back as input, without end, and the source's rows would be replaced
// by results. Where the server does not say which system it is, it cannot be told.
func (w *writer) feeds(ctx context.Context, t *table, system string, p *problems) (bool, error) {
	here := func(r sinks.SourceTable) bool { return r.System == system }
	if system == "" || !slices.ContainsFunc(t.reads, here) {
		return false, nil
	}
	// A partition's changes are published as those of the tables that it belongs to.
	rows, err := w.conn.Query(ctx, `SELECT n.nspname || '.' || c.relname
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = pg_catalog.to_regclass($1) OR c.oid IN (SELECT a.relid
			FROM pg_catalog.pg_partition_ancestors(pg_catalog.to_regclass($1)) a(relid))`, t.name.sql())
	if err != nil {
		return false, w.wrap("reading the catalog", nil, err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return false, w.wrap("reading the catalog", nil, err)
	}
	for _, r := range t.reads {
		if here(r) && slices.Contains(names, r.Name) {
			p.addf("output %q would write %s, and its topology reads %s of this very database: its results "+
				"would be its own input again (a feedback loop), and replace the source's rows; give the "+
				"output another name", t.output, t.name.sql(), r.Name)
			return true, nil
		}
	}
	return false, nil
}

// system is the server's system identifier and database, as a source of PostgreSQL names
// itself, "" where the role may not know.
func (w *writer) system(ctx context.Context) (system string, err error) {
	err = w.conn.QueryRow(ctx, `SELECT system_identifier::text || '/' || pg_catalog.current_database()
		FROM pg_catalog.pg_control_system()`).Scan(&system)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "42501" || pg.Code == "42883") {
		return "", nil
	}
	return system, w.wrap("identifying the system", nil, err)
}
