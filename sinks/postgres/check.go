package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// prepareTables checks the tables that exist, and if nothing is wrong creates those
// that do not and may be created. All problems are reported at once, and nothing is
// created if there is one.
func (w *writer) prepareTables(ctx context.Context) error {
	missing, err := w.checkTables(ctx)
	if err != nil || len(missing) == 0 {
		return err
	}
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return w.wrap("creating tables", nil, err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if err := w.createTables(ctx, tx, missing); err != nil {
		return err
	}
	return w.wrap("creating tables", nil, tx.Commit(ctx))
}

// check finds what open would refuse: it does what open does, up to the claim, and takes all
// of it back.
func (w *writer) check(ctx context.Context, claim func(resource string) error) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	missing, err := w.checkTables(ctx)
	if err != nil {
		return err
	}
	const doing = "claiming the progress row"
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return w.wrap(doing, nil, err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if len(missing) > 0 {
		if err := w.createTables(ctx, tx, missing); err != nil {
			return err
		}
	}
	tables, err := w.takeTables(ctx, tx)
	if err != nil && !errors.Is(err, errNotLetGo) {
		return w.wrap(doing, nil, err)
	}
	system, err := w.system(ctx)
	if err != nil || system == "" || claim == nil {
		return err
	}
	for _, t := range tables {
		if err := claim("table " + t + " of database " + system); err != nil {
			return w.wrap(doing, nil, err)
		}
	}
	return nil
}

// checkTables returns the statements that make what is missing, where nothing is wrong.
func (w *writer) checkTables(ctx context.Context) (missing []string, err error) {
	p := &problems{}
	there, err := w.checkProgressTable(ctx, p)
	if err != nil {
		return nil, err
	}
	if !there {
		missing = append(missing, progressSQL(w.progress))
	}
	if there && len(p.list) == 0 {
		if err := w.loadHeld(ctx); err != nil {
			return nil, err
		}
	}
	system, err := w.system(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range w.tables {
		fed, err := w.feeds(ctx, t, system, p)
		if err != nil {
			return nil, err
		}
		if fed {
			continue // No remedy may alter a source's table.
		}
		oid, err := w.checkTable(ctx, t, p)
		if err != nil {
			return nil, err
		}
		if !w.checkHeld(t, oid, p) || oid != 0 {
			continue
		}
		if !t.create {
			p.addf("output %q: table %s does not exist; set Create for it, or run: %s",
				t.output, t.name.sql(), t.createSQL())
		}
		missing = append(missing, t.createSQL())
	}
	if err := w.checkTemporary(ctx, p); err != nil {
		return nil, err
	}
	return missing, p.err(w.target)
}

// createLock keeps two instances that start together from creating the same table: the
// key of an advisory lock, an arbitrary number.
const createLock = 0x7461696c72616365

// createTables makes tables in a transaction, and checks them once more for what only the
// catalog of the made tables tells.
func (w *writer) createTables(ctx context.Context, tx pgx.Tx, statements []string) error {
	if _, err := tx.Exec(ctx, "SELECT pg_catalog.pg_advisory_xact_lock($1)", int64(createLock)); err != nil {
		return w.wrap("creating tables", nil, err)
	}
	for _, sql := range statements {
		_, err := tx.Exec(ctx, strings.Replace(sql, "CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1))
		var pg *pgconn.PgError
		if errors.As(err, &pg) && (pg.Code == "42501" || pg.Code == "3F000") {
			p := problems{}
			p.addf("role %s may not create tables here (%s); have a role that may run:\n    %s",
				quote(w.conf.User), pg.Message, strings.Join(w.grants(statements), "\n    "))
			return p.err(w.target)
		}
		if err != nil {
			return w.wrap("creating tables", nil, err)
		}
	}
	p := &problems{}
	for _, t := range w.tables {
		if _, err := w.checkTable(ctx, t, p); err != nil {
			return err
		}
	}
	return p.err(w.target)
}

// grants completes the statements that another role has to run with the least rights
// that ours then needs.
func (w *writer) grants(statements []string) []string {
	var out []string
	for _, sql := range statements {
		out = append(out, sql+";")
	}
	names := []string{w.progress.sql()}
	for _, t := range w.tables {
		names = append(names, t.name.sql())
	}
	return append(out, fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s;",
		strings.Join(names, ", "), quote(w.conf.User)))
}

func (w *writer) checkTemporary(ctx context.Context, p *problems) error {
	var database string
	var may bool
	err := w.conn.QueryRow(ctx, `SELECT pg_catalog.current_database(),
		pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')`).Scan(&database, &may)
	if err != nil {
		return w.wrap("checking rights", nil, err)
	}
	if !may {
		p.addf("role %[1]s may not make temporary tables, which reconciling needs; run: GRANT TEMPORARY "+
			"ON DATABASE %[2]s TO %[1]s", quote(w.conf.User), quote(database))
	}
	return nil
}

func (w *writer) checkProgressTable(ctx context.Context, p *problems) (there bool, err error) {
	oid, err := w.relation(ctx, w.progress, p)
	if err != nil || oid == 0 {
		return false, err
	}
	cols, err := w.catalogColumns(ctx, oid)
	if err != nil {
		return false, err
	}
	want := []string{"app", "target", "incarnation", "session", "seq", "positions", "commit_time",
		"lease_until", "tables", "held"}
	for _, name := range want {
		if slices.ContainsFunc(cols, func(c catalogColumn) bool { return c.name == name }) {
			continue
		}
		if name == "held" {
			p.addf("progress table %s is of an older version; run: ALTER TABLE %[1]s ADD COLUMN held jsonb "+
				"NOT NULL DEFAULT '{}'", w.progress.sql())
		} else {
			p.addf("progress table %s has no column %q: it is of something else; set "+
				"Config.ProgressTable, or move it away", w.progress.sql(), name)
		}
		return true, nil
	}
	return true, nil
}

// relation returns the oid of an ordinary or partitioned table that we may write, 0 if
// there is no such name.
func (w *writer) relation(ctx context.Context, n name, p *problems) (oid uint32, err error) {
	var kind, persistence string
	var missing []string
	var filtered bool
	err = w.conn.QueryRow(ctx, `SELECT c.oid, c.relkind::text, c.relpersistence::text,
		pg_catalog.row_security_active(c.oid),
		array(SELECT r FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) r
			WHERE NOT pg_catalog.has_table_privilege(c.oid, r))
		FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1)`, n.sql()).
		Scan(&oid, &kind, &persistence, &filtered, &missing)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, w.wrap("reading the catalog", nil, err)
	}
	if kind != "r" && kind != "p" {
		p.addf("%s is no table (relkind %q); give the output another name, or drop it", n.sql(), kind)
	}
	if persistence == "u" {
		p.addf("table %[1]s is UNLOGGED: a crash of the server would empty it; run: ALTER TABLE %[1]s SET "+
			"LOGGED", n.sql())
	}
	if filtered {
		p.addf("table %s hides rows from role %s by row level security; run: ALTER ROLE %[2]s BYPASSRLS",
			n.sql(),
			quote(w.conf.User))
	}
	if len(missing) > 0 {
		p.addf("role %[3]s lacks rights; run: GRANT %[2]s ON %[1]s TO %[3]s", n.sql(),
			strings.Join(missing, ", "), quote(w.conf.User))
	}
	return oid, nil
}

// catalogColumn is a column as the catalog has it. For a domain, base and mod are those
// of the type it is over.
type catalogColumn struct {
	number                 int // of the column, among those that were dropped too
	name, cast, base, full string
	mod                    int32
	notNull, filled        bool
	identity, generated    string
	deterministic          bool
}

func (w *writer) catalogColumns(ctx context.Context, oid uint32) ([]catalogColumn, error) {
	rows, err := w.conn.Query(ctx, `SELECT a.attnum::int, a.attname::text, pg_catalog.format_type(a.atttypid, -1),
		pg_catalog.format_type(CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE a.atttypid END, NULL),
		pg_catalog.format_type(a.atttypid, a.atttypmod),
		CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END,
		a.attnotnull OR t.typnotnull,
		a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL,
		a.attidentity::text, a.attgenerated::text, coalesce(co.collisdeterministic, true)
		FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
		LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, oid)
	if err != nil {
		return nil, w.wrap("reading the catalog", nil, err)
	}
	cols, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (c catalogColumn, err error) {
		err = r.Scan(&c.number, &c.name, &c.cast, &c.base, &c.full, &c.mod, &c.notNull, &c.filled, &c.identity,
			&c.generated, &c.deterministic)
		return c, err
	})
	return cols, w.wrap("reading the catalog", nil, err)
}

// checkTable compares an output with its table, and takes from the catalog what the
// statements need.
func (w *writer) checkTable(ctx context.Context, t *table, p *problems) (oid uint32, err error) {
	if oid, err = w.relation(ctx, t.name, p); err != nil {
		return 0, err
	}
	var cols []catalogColumn
	if oid != 0 {
		if cols, err = w.catalogColumns(ctx, oid); err != nil {
			return 0, err
		}
	}
	t.made = t.heldAs(oid, cols)
	named := map[string]*column{}
	for i := range t.columns {
		named[t.columns[i].name] = &t.columns[i]
	}
	if err := w.checkPrimaryKey(ctx, t, oid, cols, named, p); err != nil {
		return 0, err
	}
	for i := range t.columns {
		c := &t.columns[i]
		base, err := w.typeName(ctx, t, c, p)
		if err != nil {
			return 0, err
		}
		if oid != 0 && base != "" {
			t.checkColumn(c, i < t.keyLen, base, cols, p)
		}
	}
	if oid == 0 {
		return 0, nil
	}
	t.checkFurther(cols, named, p)
	if err := w.checkChildren(ctx, t, oid, p); err != nil {
		return 0, err
	}
	return oid, w.checkKey(ctx, t, oid, p)
}

// typeName is the server's own name for the type a column wants, "" where it knows no
// such type.
func (w *writer) typeName(ctx context.Context, t *table, c *column, p *problems) (string, error) {
	var base *string
	err := w.conn.QueryRow(ctx, "SELECT pg_catalog.format_type(pg_catalog.to_regtype($1), NULL)",
		c.want).Scan(&base)
	var pg *pgconn.PgError
	if err != nil && (!errors.As(err, &pg) || classify(pg) == temporary && pg.Code != "42601") {
		return "", w.wrap("looking up a type", nil, err)
	}
	if err != nil || base == nil {
		p.addf("output %q, column %q: the target has no type %q; create it, or name another in Output.Types",
			t.output, c.name, c.want)
		return "", nil
	}
	return *base, nil
}

func (t *table) checkColumn(c *column, key bool, base string, cols []catalogColumn, p *problems) {
	tab, col := t.name.sql(), quote(c.name)
	i := slices.IndexFunc(cols, func(k catalogColumn) bool { return k.name == c.name })
	if i < 0 {
		anew := ""
		if t.was != "" {
			anew = "; the rows that were written until now need its values: " + t.remedyAnew()
		}
		p.addf("table %s has no column %s%s; run: ALTER TABLE %[1]s ADD COLUMN %[2]s %[4]s", tab, col, anew, c.want)
		return
	}
	k := cols[i]
	c.cast = k.cast
	switch {
	case k.generated != "":
		p.addf("table %s, column %s is generated; run: ALTER TABLE %[1]s ALTER COLUMN %[2]s DROP "+
			"EXPRESSION", tab, col)
	case k.identity == "a":
		p.addf("table %s, column %s numbers its rows itself; run: ALTER TABLE %[1]s ALTER COLUMN %[2]s "+
			"SET GENERATED BY DEFAULT", tab, col)
	}
	if !fits(base, k, c.given) {
		// Values are converted, unless all rows are about to be written anew.
		using, drop := "%[2]s::text::%[4]s", ""
		if t.whole && !key {
			using = "NULL"
			if k.notNull {
				drop = "ALTER COLUMN %[2]s DROP NOT NULL, "
			}
		}
		p.addf("table %[1]s, column %[2]s is of type %[3]s, which does not hold every %[4]s of the result; run: "+
			"ALTER TABLE %[1]s "+drop+"ALTER COLUMN %[2]s TYPE %[4]s USING "+using+", or say in Output.Types "+
			"that it is meant", tab, col, k.full, c.want)
	}
	if c.nullable && k.notNull {
		p.addf("table %s, column %s is NOT NULL, the result can be NULL; run: ALTER TABLE %[1]s ALTER "+
			"COLUMN %[2]s DROP NOT NULL", tab, col)
	}
	if key && !k.deterministic {
		p.addf("table %s, key column %s has a nondeterministic collation, under which different keys are "+
			"one row; run: ALTER TABLE %[1]s ALTER COLUMN %[2]s TYPE %[3]s COLLATE \"C\"", tab, col, k.full)
	}
}

// wider are the types that hold every value of a type beside itself, with a text form
// they read alike.
var wider = map[string][]string{
	"smallint": {"integer", "bigint", "numeric"},
	"integer":  {"bigint", "numeric"},
	"bigint":   {"numeric"},
	"real":     {"double precision"},
	"text":     {"character varying"},
	"json":     {"jsonb"},
}

// fits reports whether a column holds every value of the type base. A length or a scale
// would cut or round, except where the user named the type.
func fits(base string, k catalogColumn, given bool) bool {
	if given {
		return k.base == base
	}
	return k.mod == -1 && (k.base == base || slices.Contains(wider[base], k.base))
}

// unfilled says that an insert which does not name the column is refused.
func (k *catalogColumn) unfilled() bool { return k.notNull && !k.filled && k.generated == "" }

// checkPrimaryKey refuses a primary key with columns that have to take NULL, and says so ahead
// of them, which take none before it is gone.
func (w *writer) checkPrimaryKey(
	ctx context.Context, t *table, oid uint32, cols []catalogColumn, named map[string]*column, p *problems,
) error {
	rows, err := w.conn.Query(ctx, `SELECT c.conname::text, a.attname::text FROM pg_catalog.pg_constraint c
		JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
		WHERE c.conrelid = $1 AND c.contype = 'p' ORDER BY a.attnum`, oid)
	if err != nil {
		return w.wrap("reading the catalog", nil, err)
	}
	var constraint, col string
	var refused []string
	_, err = pgx.ForEachRow(rows, []any{&constraint, &col}, func() error {
		i := slices.IndexFunc(cols, func(k catalogColumn) bool { return k.name == col })
		if c := named[col]; c != nil && c.nullable || c == nil && i >= 0 && cols[i].unfilled() {
			refused = append(refused, quote(col))
		}
		return nil
	})
	if err == nil && len(refused) > 0 {
		p.addf("table %s has a primary key with %s, which the result has not, or as NULL; run: ALTER TABLE "+
			"%[1]s DROP CONSTRAINT %[3]s", t.name.sql(), strings.Join(refused, ", "), quote(constraint))
	}
	return w.wrap("reading the catalog", nil, err)
}

// checkChildren refuses tables that inherit: what we delete would go from them as well.
func (w *writer) checkChildren(ctx context.Context, t *table, oid uint32, p *problems) error {
	rows, err := w.conn.Query(ctx, `SELECT n.nspname::text, k.relname::text FROM pg_catalog.pg_inherits i
		JOIN pg_catalog.pg_class c ON c.oid = i.inhparent JOIN pg_catalog.pg_class k ON k.oid = i.inhrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace
		WHERE c.oid = $1 AND c.relkind = 'r' ORDER BY 1, 2`, oid)
	if err != nil {
		return w.wrap("reading the catalog", nil, err)
	}
	var child name
	_, err = pgx.ForEachRow(rows, []any{&child.schema, &child.table}, func() error {
		p.addf("table %[1]s is inherited by %[2]s, whose rows would be taken for its own and deleted; run: "+
			"ALTER TABLE %[2]s NO INHERIT %[1]s", t.name.sql(), child.sql())
		return nil
	})
	return w.wrap("reading the catalog", nil, err)
}

// checkFurther checks the columns that the result has not: they are left to their
// defaults.
func (t *table) checkFurther(cols []catalogColumn, named map[string]*column, p *problems) {
	for _, k := range cols {
		if named[k.name] == nil && k.unfilled() {
			p.addf("table %s, column %s is not in the result, NOT NULL and without a default; run: ALTER "+
				"TABLE %[1]s ALTER COLUMN %[2]s DROP NOT NULL", t.name.sql(), quote(k.name))
		}
	}
}

// checkKey demands a unique index over exactly the key columns, as ON CONFLICT does, which
// refuses a deferrable one also beside it.
func (w *writer) checkKey(ctx context.Context, t *table, oid uint32, p *problems) error {
	rows, err := w.conn.Query(ctx, `SELECT array_agg(a.attname::text), i.indimmediate, c.relname::text
		FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
		CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, ord)
		LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
		AND i.indexprs IS NULL AND k.ord <= i.indnkeyatts GROUP BY i.indexrelid, i.indimmediate, c.relname`, oid)
	if err != nil {
		return w.wrap("reading the catalog", nil, err)
	}
	var want []string
	for _, c := range t.columns[:t.keyLen] {
		want = append(want, c.name)
	}
	slices.Sort(want)
	var have []string
	var immediate, found bool
	var constraint string
	_, err = pgx.ForEachRow(rows, []any{&have, &immediate, &constraint}, func() error {
		slices.Sort(have)
		switch {
		case !slices.Equal(have, want):
		case immediate:
			found = true
		default:
			p.addf("table %s has a deferrable key on (%s), under which rows cannot be put in place of others; "+
				"run: ALTER TABLE %[1]s DROP CONSTRAINT %[3]s", t.name.sql(), t.keyNames(), quote(constraint))
		}
		have = nil
		return nil
	})
	if err == nil && !found {
		p.addf("table %s has no unique key on exactly (%s), valid and not deferrable; run: ALTER TABLE %[1]s "+
			"ADD UNIQUE (%[3]s)", t.name.sql(), t.keyNames(), t.list(0, t.keyLen, quote))
	}
	return w.wrap("reading the catalog", nil, err)
}
