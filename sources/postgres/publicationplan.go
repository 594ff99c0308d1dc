package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/sources"
)

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

// ownComment marks what Tailrace made, so that it changes and drops nothing else.
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
	// needed says that publications are left as they are where they only have to become others
	// before generated columns are added, since they are not ours to change; advice is the SQL.
	needed bool
	advice []string
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

// plan returns what to do, or the problems of publications that are not ours to mend.
func (p *planner) plan() (plan, []Problem) {
	out := plan{names: []string{p.cfg.Publication, p.cfg.Publication + insertSuffix}}
	if p.ours(p.main()) && p.ours(p.inserts()) {
		out.sql = p.statements()
		out.creates = p.main() == nil || p.inserts() == nil
		if len(out.sql) == 0 {
			return out, nil
		}
		problems := p.mayRun(out.sql)
		if len(problems) > 0 && p.onlyAdvised(out.sql) {
			out.sql, problems = nil, nil
		}
		return out, problems
	}
	if p.inserts() == nil {
		out.names = out.names[:1]
	}
	var problems []Problem
	p.advice = nil
	for _, t := range p.tables {
		problems = append(problems, p.foreign(t)...)
		p.advise(t)
	}
	return out, problems
}

// wanted returns which tables belong into which of the two publications. One that is refused
// for want of a key stays where it is, in one of them or in none: with the key that it is
// about to get it belongs elsewhere than without, where updates of it would fail.
func (p *planner) wanted() (changing, inserting []*table) {
	for _, t := range p.tables {
		stays := p.wantsKey(t)
		switch {
		case t.identified(), stays && !t.virtual && p.main().has(t):
			changing = append(changing, t)
		case !stays, p.inserts().has(t):
			inserting = append(inserting, t)
		}
	}
	return changing, inserting
}

// wantsKey reports whether a table is refused until it has a key.
func (p *planner) wantsKey(t *table) bool { return t.req.Changes && !t.identified() }

// has reports whether the publication, which may be absent, publishes the table.
func (p *publication) has(t *table) bool { return p != nil && p.members[t.oid] != nil }

// statements returns the SQL that makes our own publications right.
func (p *planner) statements() []string {
	changing, inserting := p.wanted()
	out := p.statement(p.main(), p.cfg.Publication, "insert, update, delete, truncate", changing)
	out = append(out, p.statement(p.inserts(), p.cfg.Publication+insertSuffix, "insert", inserting)...)
	if p.adding { // Others' tables stay; those of which updates would be refused do not.
		for _, t := range inserting {
			out = append(out, p.takeOut(t)...)
		}
	}
	return out
}

// takeOut is the SQL that takes a table out of the publication of updates, if it is there by
// itself.
func (p *planner) takeOut(t *table) []string {
	main := p.main()
	if main == nil || main.members[t.oid] == nil || !strings.HasPrefix(main.members[t.oid].id, "r") {
		return nil
	}
	return []string{"ALTER PUBLICATION " + ident(main.name) + " DROP TABLE " + t.sql()}
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

// membership adds the tables that are missing from our publication, or in it in part only,
// and takes out those that are too many.
func (p *planner) membership(pub *publication, name string, tables []*table) []string {
	var all, missing, partly []string
	keep := map[uint32]bool{}
	for _, t := range tables {
		keep[t.oid] = true
		all = append(all, t.rows())
		switch m := pub.members[t.oid]; {
		case m == nil:
			missing = append(missing, t.rows())
		case m.filter != "" || m.columns != nil: // not our doing
			partly = append(partly, t.sql())
			missing = append(missing, t.rows())
		}
	}
	extra := false
	var leave []string
	for oid, m := range pub.members {
		extra = extra || !keep[oid]
		if !keep[oid] && strings.HasPrefix(m.id, "r") { // and not with its schema
			leave = append(leave, ident(m.schema)+"."+ident(m.name))
		}
	}
	slices.Sort(leave)
	alter := "ALTER PUBLICATION " + ident(name)
	switch {
	case p.adding:
	case extra && len(all) > 0:
		return []string{alter + " SET TABLE " + strings.Join(all, ", ")}
	case len(leave) > 0: // a publication's tables cannot be set to none
		return []string{alter + " DROP TABLE " + strings.Join(leave, ", ")}
	}
	var out []string
	if len(partly) > 0 {
		out = append(out, alter+" DROP TABLE "+strings.Join(partly, ", "))
	}
	if len(missing) > 0 {
		out = append(out, alter+" ADD TABLE "+strings.Join(missing, ", "))
	}
	return out
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
	fix := "run as an owner of the tables: " + strings.Join(sql, "; ") + ";"
	for _, t := range p.tables {
		if p.wantsKey(t) && len(p.covering(t)) == 0 {
			fix += fmt.Sprintf(" %s, which has no key, is not among them: start again when it has", t.sql())
		}
	}
	return []Problem{{Subject: "publications", Kind: sources.ErrConfig,
		Text: "they are not as needed and cannot be made (" + strings.Join(why, "; ") + ")", Fix: fix}}
}

// apply runs the statements in one transaction, so that a table that moves between
// the publications is always in one of them.
func (p plan) apply(ctx context.Context, c *pgx.Conn, log *slog.Logger) error {
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
	for _, sql := range p.sql {
		switch verb, _, _ := strings.Cut(sql, " PUBLICATION "); verb {
		case "CREATE":
			log.Info("created publication", "sql", sql)
		case "ALTER":
			log.Info("changed publication", "sql", sql)
		}
	}
	return nil
}
