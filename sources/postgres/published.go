package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// The catalog tells what is published now, and not what was while nobody looked. But a
// table that is taken out and put back, with another row filter or column list too, is
// another member of the publication, with a number of its own. So what is published is
// told by numbers and kept beside the state: see sources.Publishing.

// published identifies how a table is published: a word for each publication that it is
// in, publication:member:what.
func (p *planner) published(t *table) string {
	var words []string
	for _, pub := range p.covering(t) {
		words = append(words, fmt.Sprintf("%d:%s:%s", pub.oid, pub.members[t.oid].id, pub.publishes()))
	}
	return strings.Join(words, " ")
}

// publishes has a letter for each kind of change that is published.
func (p *publication) publishes() string {
	var b strings.Builder
	for i, has := range []bool{p.insert, p.update, p.remove, p.truncate} {
		if has {
			b.WriteByte(allKinds[i])
		}
	}
	return b.String()
}

const allKinds = "iudt"

var kindNames = map[rune]string{'i': "inserts", 'u': "updates", 'd': "deletes", 't': "truncates"}

// needs are the kinds of changes that are read of a table.
func (t *table) needs() string {
	if t.req.Changes {
		return allKinds
	}
	return "i"
}

// gap says why changes of a table that a state continues are not in the log, or may not
// be; "" where all are.
func (p *planner) gap(t *table) string {
	pubs := p.covering(t)
	if len(pubs) == 0 {
		if t.kind == 'p' && p.main() != nil && !p.main().viaRoot {
			return fmt.Sprintf("publication %q publishes its partitions and not the root", p.cfg.Publication)
		}
		return fmt.Sprintf("it is not in publication %q any more", p.cfg.Publication)
	}
	for _, pub := range pubs {
		m := pub.members[t.oid]
		switch {
		case pub.madeBy(p.comment) && m.filter != "":
			return fmt.Sprintf("publication %q has a row filter for it", pub.name)
		case pub.madeBy(p.comment) && m.columns != nil:
			return fmt.Sprintf("publication %q has a column list for it", pub.name)
		}
	}
	if t.req.Published == "" {
		var does strings.Builder
		for _, pub := range pubs {
			does.WriteString(pub.publishes())
		}
		return notPublished(p.cfg.Publication, t.needs(), does.String())
	}
	now := strings.Fields(p.published(t))
	for _, was := range strings.Fields(t.req.Published) {
		at := strings.LastIndexByte(was, ':') + 1
		does, found := "", false
		for _, word := range now {
			if rest, same := strings.CutPrefix(word, was[:at]); same {
				does, found = rest, true
			}
		}
		if !found {
			return "it was taken out of its publication and put back, or its row filter or column list was changed"
		}
		needs := strings.Map(func(kind rune) rune {
			if strings.ContainsRune(was[at:], kind) {
				return kind
			}
			return -1
		}, t.needs())
		if why := notPublished(p.cfg.Publication, needs, does); why != "" {
			return why
		}
	}
	return ""
}

// notPublished names the kinds of changes that are needed and not published.
func notPublished(publication, needs, does string) string {
	var missing []string
	for _, kind := range needs {
		if !strings.ContainsRune(does, kind) {
			missing = append(missing, kindNames[kind])
		}
	}
	if len(missing) == 0 {
		return ""
	}
	list := missing[len(missing)-1]
	if rest := missing[:len(missing)-1]; len(rest) > 0 {
		list = names(rest) + " and " + list
	}
	return fmt.Sprintf("publication %q doesn't publish its %s any more", publication, list)
}

// split divides the tables into those that can be read on and the problems of those that
// changes are lost of since a position.
func (p *planner) split(since uint64) (whole []*table, gaps []Problem) {
	for _, t := range p.tables {
		why := ""
		if !t.req.Added {
			why = p.gap(t)
		}
		if why == "" {
			whole = append(whole, t)
			continue
		}
		fix := "raise the topology.Version of each topology that reads it, which rebuilds it from the tables " +
			"as they are; one that reads the rows of this table as events, which cannot be had again, begins anew " +
			"under another name"
		if theirs := p.foreignFix(t); theirs != "" {
			fix = "run " + theirs + " and then " + fix
		}
		gaps = append(gaps, Problem{
			Subject: "table " + t.sql(), Table: t.req.Name, Kind: ErrPublicationChanged, Fix: fix,
			Text: fmt.Sprintf("%s: what was written to it since %s is missing from the log, or may be",
				why, record.LSN(since)),
		})
	}
	return whole, gaps
}

// foreignFix is the SQL that publishes a table again where that is not ours to do.
func (p *planner) foreignFix(t *table) string {
	if p.ours(p.main()) && p.ours(p.inserts()) {
		return ""
	}
	if problems := p.foreign(t); len(problems) > 0 {
		return problems[0].Fix
	}
	return ""
}

// gaps are the problems of tables that the state continues and that were not published as
// a whole; those tables are left out of the plan. Where a publication of ours is gone all
// are concerned: see resume.
func (o *opening) gaps() []Problem {
	p := &o.plan
	if o.req.Resume == 0 || p.ours(p.main()) && p.ours(p.inserts()) && (p.main() == nil || p.inserts() == nil) {
		return nil
	}
	whole, gaps := p.split(o.req.Resume)
	if len(gaps) > 0 {
		p.tables, p.adding = whole, true
	}
	return gaps
}

// watch is what a session has to go on being delivered.
type watch struct {
	plan  planner
	names []string
	notes map[string]string
}

// newWatch notes how the tables are published now.
func newWatch(p planner, names []string) *watch {
	w := &watch{plan: p, names: names, notes: map[string]string{}}
	w.plan.tables = nil
	for _, t := range p.tables {
		noted := *t
		noted.req.Added, noted.req.Published = false, p.published(t)
		w.notes[t.req.Name] = noted.req.Published
		w.plan.tables = append(w.plan.tables, &noted)
	}
	return w
}

// look returns the tables that are not published as they were, as an error of theirs, or what
// else keeps the publications from being as they have to.
func (w *watch) look(ctx context.Context, c *pgx.Conn, since uint64) (gap, err error) {
	p := w.plan
	if p.pubs, err = readPublications(ctx, c, p.server.version, w.names...); err != nil {
		return nil, err
	}
	if _, problems := p.split(since); len(problems) > 0 {
		return setupError(p.server.database, problems), nil
	}
	return w.outgrown(ctx, c, p)
}

// Published implements sources.Publishing.
func (s *session) Published() map[string]string { return s.watch.notes }

var _ sources.Publishing = (*session)(nil)
