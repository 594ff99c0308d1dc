package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/sources"
)

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
