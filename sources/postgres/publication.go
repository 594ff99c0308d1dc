package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/sources"
)

// publication is a publication as the catalog has it.
type publication struct {
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
	rows, err := c.Query(ctx, `SELECT p.pubname::text, coalesce(obj_description(p.oid, 'pg_publication'), ''),
		pg_get_userbyid(p.pubowner)::text, pg_has_role(p.pubowner, 'USAGE'), p.puballtables,
		p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot, `+generated+`
		FROM pg_publication p WHERE p.pubname = ANY ($1::text[]::name[])`, wanted)
	if err != nil {
		return nil, fmt.Errorf("postgres: read the publications: %w", err)
	}
	pubs := map[string]*publication{}
	for rows.Next() {
		p := &publication{members: map[uint32]*member{}}
		if err := rows.Scan(&p.name, &p.comment, &p.owner, &p.owned, &p.all, &p.insert, &p.update, &p.remove,
			&p.truncate, &p.viaRoot, &p.generated); err != nil {
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
	list, filter, used := "NULL::text[]", "''", "NULL::text[]"
	if version >= 15 {
		list = `(SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
			WHERE a.attrelid = c.oid AND r.prattrs IS NOT NULL AND a.attnum = ANY (r.prattrs::int2[]))`
		filter = "coalesce(t.rowfilter, '')"
		used = `(SELECT array_agg(DISTINCT a.attname::text) FROM pg_depend d JOIN pg_attribute a
			ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
			WHERE d.classid = 'pg_publication_rel'::regclass AND d.objid = r.oid
			AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid > 0)`
	}
	rows, err := c.Query(ctx, `SELECT t.pubname::text, c.oid::int8, `+list+`, `+filter+`, `+used+`
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
		if err := rows.Scan(&pub, &oid, &m.columns, &m.filter, &m.filterColumns); err != nil {
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

// plan is what the publications have to be and what has to be done for it.
type plan struct {
	// sql are the statements that make it so, to be run in one transaction. Empty where
	// all is well.
	sql []string
	// names are the publications to read.
	names []string
	// creates says that a publication is made that was not there.
	creates bool
}

// comment marks what Tailrace made, so that it changes and drops nothing else.
func ownComment(app, database, slot string) string {
	return fmt.Sprintf("made by Tailrace for app %s, database %s, slot %s", app, database, slot)
}

// startedMark ends the comment of a main publication once something has been
// acknowledged: an app whose state is gone can tell from it that it ran before.
const startedMark = ", started"

// madeBy reports whether the publication has a comment of ours.
func (p *publication) madeBy(comment string) bool {
	return p.comment == comment || p.comment == comment+startedMark
}

// planner compares the tables asked for with the publications that are there.
type planner struct {
	cfg     Config
	comment string
	server  *server
	tables  []*table // in the order asked for
	pubs    map[string]*publication
	// adding says that tables are only added: another session reads as well.
	adding bool
}

// main and inserts are the two publications, nil where they are not there yet.
func (p *planner) main() *publication    { return p.pubs[p.cfg.Publication] }
func (p *planner) inserts() *publication { return p.pubs[p.cfg.Publication+insertSuffix] }

// ours reports whether a publication is absent or made by us for this app.
func (p *planner) ours(pub *publication) bool { return pub == nil || pub.madeBy(p.comment) }

// covering returns the publications that publish the table.
func (p *planner) covering(t *table) (pubs []*publication) {
	for _, pub := range []*publication{p.main(), p.inserts()} {
		if pub != nil && pub.members[t.oid] != nil {
			pubs = append(pubs, pub)
		}
	}
	return pubs
}

// generated reports whether stored generated columns have to be published: where one
// is asked for, and where one is part of a replica identity, since PostgreSQL refuses
// the application's own writes otherwise.
func (p *planner) generated() bool {
	for _, t := range p.tables {
		if t.asksGenerated() || t.identified() && t.generatedIdentity() {
			return true
		}
	}
	return false
}

func (t *table) generatedIdentity() bool {
	for _, c := range t.columns {
		if c.generated == 's' && (t.identity == 'f' || c.Key) {
			return true
		}
	}
	return false
}

func (t *table) asksGenerated() bool {
	for _, name := range t.req.Columns {
		if c := t.column(name); c != nil && c.generated == 's' {
			return true
		}
	}
	return false
}

// plan returns what to do, or the problems of publications that are not ours to mend.
func (p *planner) plan() (plan, []Problem) {
	out := plan{names: []string{p.cfg.Publication, p.cfg.Publication + insertSuffix}}
	if p.ours(p.main()) && p.ours(p.inserts()) {
		out.sql = p.statements()
		out.creates = p.main() == nil || p.inserts() == nil
		if len(out.sql) == 0 {
			return out, nil
		}
		return out, p.mayRun(out.sql)
	}
	if p.inserts() == nil {
		out.names = out.names[:1]
	}
	var problems []Problem
	for _, t := range p.tables {
		problems = append(problems, p.foreign(t)...)
	}
	return out, problems
}

// wanted returns which tables belong into which of the two publications.
func (p *planner) wanted() (changing, inserting []*table) {
	for _, t := range p.tables {
		if t.identified() {
			changing = append(changing, t)
		} else {
			inserting = append(inserting, t)
		}
	}
	return changing, inserting
}

// statements returns the SQL that makes our own publications right.
func (p *planner) statements() []string {
	changing, inserting := p.wanted()
	out := p.statement(p.main(), p.cfg.Publication, "insert, update, delete, truncate", changing)
	return append(out, p.statement(p.inserts(), p.cfg.Publication+insertSuffix, "insert", inserting)...)
}

func (p *planner) statement(pub *publication, name, publish string, tables []*table) []string {
	options := "publish = " + literal(publish) + ", publish_via_partition_root = true"
	generated := p.server.version >= 18 && p.generated()
	if generated {
		options += ", publish_generated_columns = stored"
	}
	list := make([]string, len(tables))
	for i, t := range tables {
		list[i] = t.rows()
	}
	if pub == nil {
		sql := "CREATE PUBLICATION " + ident(name)
		if len(list) > 0 {
			sql += " FOR TABLE " + strings.Join(list, ", ")
		}
		return []string{sql + " WITH (" + options + ")",
			"COMMENT ON PUBLICATION " + ident(name) + " IS " + literal(p.comment)}
	}
	var out []string
	changing := publish != "insert"
	if !pub.insert || pub.update != changing || pub.remove != changing || pub.truncate != changing ||
		!pub.viaRoot || generated && !pub.generated {
		out = append(out, "ALTER PUBLICATION "+ident(name)+" SET ("+options+")")
	}
	return append(out, p.membership(pub, name, tables)...)
}

// membership adds the tables that are missing from our publication, and takes out
// those that are too many.
func (p *planner) membership(pub *publication, name string, tables []*table) []string {
	var missing []string
	keep := map[uint32]bool{}
	for _, t := range tables {
		keep[t.oid] = true
		if pub.members[t.oid] == nil {
			missing = append(missing, t.rows())
		}
	}
	var all []string
	for _, t := range tables {
		all = append(all, t.rows())
	}
	extra := false
	for oid := range pub.members {
		extra = extra || !keep[oid]
	}
	switch {
	case extra && !p.adding && len(all) > 0:
		return []string{"ALTER PUBLICATION " + ident(name) + " SET TABLE " + strings.Join(all, ", ")}
	case len(missing) > 0:
		return []string{"ALTER PUBLICATION " + ident(name) + " ADD TABLE " + strings.Join(missing, ", ")}
	}
	return nil
}

// mayRun returns the problems that keep us from running the statements ourselves.
func (p *planner) mayRun(sql []string) []Problem {
	var why []string
	switch {
	case p.cfg.ManagePublication == PublicationNever:
		why = append(why, "Config.ManagePublication leaves them to you")
	case p.server.superuser:
		return nil
	default:
		if (p.main() == nil || p.inserts() == nil) && !p.server.mayCreate {
			why = append(why, fmt.Sprintf("role %q has no CREATE on database %q", p.server.role, p.server.database))
		}
		for _, pub := range []*publication{p.main(), p.inserts()} {
			if pub != nil && !pub.owned {
				why = append(why, fmt.Sprintf("publication %q belongs to %q", pub.name, pub.owner))
			}
		}
		for _, t := range p.tables {
			if !t.owner && len(p.covering(t)) == 0 {
				why = append(why, fmt.Sprintf("table %s belongs to %q", t.sql(), t.ownerName))
			}
		}
	}
	if len(why) == 0 {
		return nil
	}
	return []Problem{{Subject: "publications", Kind: sources.ErrConfig,
		Text: "they are not as needed and cannot be made (" + strings.Join(why, "; ") + ")",
		Fix:  "run as an owner of the tables: " + strings.Join(sql, "; ") + ";"}}
}

// foreign checks a table against publications that somebody else made.
func (p *planner) foreign(t *table) []Problem {
	pubs := p.covering(t)
	name := p.cfg.Publication
	problem := func(fix, text string, args ...any) Problem {
		return Problem{
			Subject: "table " + t.sql(),
			Text:    fmt.Sprintf(text, args...),
			Fix:     fix,
			Kind:    sources.ErrConfig,
		}
	}
	if len(pubs) == 0 {
		if t.kind == 'p' && p.main() != nil && !p.main().viaRoot {
			return []Problem{problem("ALTER PUBLICATION "+ident(name)+" SET (publish_via_partition_root = true);",
				"a partitioned table has to be published by its root")}
		}
		target := name
		if !t.identified() {
			target = name + insertSuffix
		}
		fix := "ALTER PUBLICATION " + ident(target) + " ADD TABLE " + t.rows() + ";"
		if p.pubs[target] == nil {
			fix = strings.Join(p.statement(nil, target, "insert", []*table{t})[:1], "") + ";"
		}
		return []Problem{problem(fix, "it is not in publication %q", target)}
	}
	var out []Problem
	for _, pub := range pubs {
		out = append(out, p.foreignMember(t, pub, problem)...)
	}
	published := func(has func(*publication) bool) bool { return slices.ContainsFunc(pubs, has) }
	if !published(func(q *publication) bool { return q.insert }) {
		out = append(out, problem(alterPublish(pubs[0], t), "publication %q doesn't publish inserts", pubs[0].name))
	}
	if t.req.Changes && t.identified() && !published(func(q *publication) bool {
		return q.update && q.remove && q.truncate
	}) {
		out = append(out, problem(alterPublish(pubs[0], t),
			"publication %q doesn't publish its updates, deletes and truncates", pubs[0].name))
	}
	return out
}

func alterPublish(pub *publication, t *table) string {
	what := "insert, update, delete, truncate"
	if !t.identified() {
		what = "insert"
	}
	return "ALTER PUBLICATION " + ident(pub.name) + " SET (publish = " + literal(what) + ");"
}

// foreignMember checks what a publication says of a table: nothing may make a write
// of the application fail, and all that is mapped must be there.
func (p *planner) foreignMember(
	t *table,
	pub *publication,
	problem func(fix, text string, args ...any) Problem,
) []Problem {
	m := pub.members[t.oid]
	drop := "ALTER PUBLICATION " + ident(pub.name) + " DROP TABLE " + t.sql() + "; ALTER PUBLICATION " +
		ident(pub.name) + " ADD TABLE " + t.rows() + ";"
	var out []Problem
	if pub.changes() && !t.identified() {
		out = append(out, problem(
			"ALTER TABLE "+t.sql()+" REPLICA IDENTITY FULL; or take it out of "+ident(
				pub.name,
			)+" and CREATE PUBLICATION "+
				ident(
					p.cfg.Publication+insertSuffix,
				)+" FOR TABLE "+t.rows()+" WITH (publish = 'insert');",
			"it has no replica identity, and publication %q publishes updates or deletes: PostgreSQL refuses the"+
				" application's own UPDATE and DELETE",
			pub.name,
		))
	}
	if m.columns != nil && t.identity == 'f' && pub.changes() {
		return append(out, problem(drop, "publication %q has a column list for it although its replica identity is"+
			" FULL: PostgreSQL refuses the application's own UPDATE and DELETE", pub.name))
	}
	if m.columns != nil {
		if missing := without(
			append(slices.Clone(t.req.Columns), t.req.KeyColumns...),
			m.columns,
		); len(
			missing,
		) > 0 {
			out = append(
				out,
				problem(drop, "the column list of publication %q leaves out %s", pub.name, names(missing)),
			)
		}
		if missing := without(t.identityColumns(), m.columns); pub.changes() && len(missing) > 0 {
			out = append(out, problem(drop, "the column list of publication %q doesn't cover the replica identity"+
				" (%s missing): PostgreSQL refuses the application's own UPDATE and DELETE", pub.name, names(missing)))
		}
	}
	needs := t.asksGenerated() || pub.changes() && t.identified() && t.generatedIdentity()
	if needs && m.columns == nil && !pub.generated && p.server.version >= 18 {
		out = append(out, problem("ALTER PUBLICATION "+ident(pub.name)+" SET (publish_generated_columns = stored);",
			"publication %q leaves out generated columns that are mapped or part of the replica identity", pub.name))
	}
	if bad := m.filterBeyond(t.identityColumns()); pub.changes() && len(bad) > 0 {
		out = append(
			out,
			problem(drop, "the row filter of publication %q uses %s, which the replica identity doesn't"+
				" have: PostgreSQL refuses the application's own UPDATE and DELETE", pub.name, names(bad)),
		)
	}
	return out
}

// identityColumns returns what old tuples carry.
func (t *table) identityColumns() []string {
	if t.identity != 'f' {
		return t.key
	}
	var all []string
	for _, c := range t.columns {
		if c.generated == 0 {
			all = append(all, c.Name)
		}
	}
	return all
}

// filterBeyond returns the columns that the row filter uses and that are not in the
// identity. The catalog doesn't tell them from those of a column list, so where both
// are there the filter's text decides.
func (m *member) filterBeyond(identity []string) []string {
	bad := without(m.filterColumns, identity)
	if m.columns == nil {
		return bad
	}
	return slices.DeleteFunc(bad, func(name string) bool {
		return contains(m.columns, name) && !mentions(m.filter, name)
	})
}

// mentions reports whether an SQL expression contains a name as a word of its own.
func mentions(sql, name string) bool {
	word := func(b byte) bool {
		return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= 0x80
	}
	for at := 0; ; {
		i := strings.Index(sql[at:], name)
		if i < 0 {
			return false
		}
		i += at
		end := i + len(name)
		if (i == 0 || !word(sql[i-1])) && (end == len(sql) || !word(sql[end])) {
			return true
		}
		at = i + 1
	}
}

// without returns the distinct names of list that are not in of.
func without(list, of []string) []string {
	var out []string
	for _, n := range list {
		if !contains(of, n) && !contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// apply runs the statements in one transaction, so that a table that moves between
// the publications is always in one of them.
func (p plan) apply(ctx context.Context, c *pgx.Conn) error {
	if len(p.sql) == 0 {
		return nil
	}
	tx, err := c.Begin(ctx)
	if err != nil {
		return fmt.Errorf("postgres: make the publications: %w", err)
	}
	for _, sql := range p.sql {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return errors.Join(fmt.Errorf("postgres: %s: %w", sql, err), tx.Rollback(ctx))
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("postgres: make the publications: %w", err)
	}
	return nil
}
