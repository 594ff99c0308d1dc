package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/sources"
)

// From PostgreSQL 18 on the application's updates of a table are refused where they are
// published without a generated column that is part of the replica identity. Under FULL that
// is every one, added at any time, so stored ones are published before there are any. Virtual
// ones cannot be.

// generated reports whether stored generated columns have to be published: where they are
// needed, and where one that is added could be part of a replica identity.
func (p *planner) generated() bool {
	return p.needsGenerated() || !p.needed && slices.ContainsFunc(p.tables, func(t *table) bool {
		return t.identified() && t.full()
	})
}

// needsGenerated reports whether a stored generated column is asked for, or part of a replica
// identity.
func (p *planner) needsGenerated() bool {
	return slices.ContainsFunc(p.tables, func(t *table) bool {
		return t.asksGenerated() || t.identified() && t.generatedIdentity()
	})
}

func (t *table) generatedIdentity() bool {
	return slices.ContainsFunc(t.columns, func(c column) bool {
		return c.generated == 's' && (t.full() || c.Key)
	})
}

func (t *table) asksGenerated() bool {
	return slices.ContainsFunc(t.req.Columns, func(name string) bool {
		c := t.column(name)
		return c != nil && c.generated == 's'
	})
}

// onlyAdvised reports whether statements that we may not run ourselves are of use only once a
// generated column is added. They are an advice then, and the publications left as they are.
func (p *planner) onlyAdvised(sql []string) bool {
	if p.needsGenerated() {
		return false
	}
	p.needed = true
	if p.needed = len(p.statements()) == 0; p.needed {
		p.advice = sql
	}
	return p.needed
}

// advise notes what others' publications of a table should be before a generated column is
// added to it.
func (p *planner) advise(t *table) {
	for _, pub := range p.covering(t) {
		sql := publishGenerated(pub)
		if p.server.version >= 18 && pub.changes() && !pub.generated && pub.members[t.oid].columns == nil &&
			t.identified() && t.full() && !slices.Contains(p.advice, sql) {
			p.advice = append(p.advice, sql)
		}
	}
}

func publishGenerated(pub *publication) string {
	return "ALTER PUBLICATION " + ident(pub.name) + " SET (publish_generated_columns = stored)"
}

// warnAdvice logs the advice.
func (o *opening) warnAdvice() {
	if len(o.plan.advice) > 0 {
		o.log.Warn("once a generated column is added to a table under REPLICA IDENTITY FULL, PostgreSQL refuses "+
			"the application's updates of it, unless the publication has such columns: have its owner run the SQL",
			"sql", strings.Join(o.plan.advice, "; ")+";")
	}
}

// relieve takes tables out of our publication of updates of which PostgreSQL refuses the
// application's updates as long as they are in it. Their readers are held.
func (o *opening) relieve(ctx context.Context) {
	main := o.plan.main()
	if main == nil || !main.madeBy(o.plan.comment) || o.cfg.ManagePublication == PublicationNever ||
		!main.owned && !o.server.superuser {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, t := range o.plan.tables {
		if !t.virtual {
			continue
		}
		for _, sql := range o.plan.takeOut(t) {
			if _, err := o.query.Exec(ctx, sql); err != nil {
				o.log.Error("PostgreSQL refuses the application's updates of a table until the publication lets "+
					"go of it", "table", t.sql(), "sql", sql, "error", err)
				return
			}
			o.log.Warn("took a table out of the publication, since PostgreSQL refused the application's updates of "+
				"it: once its replica identity is mended, raise the topology.Version of its readers", "table", t.sql(),
				"sql", sql, "reason", "its replica identity is FULL, "+virtualText)
		}
	}
}

// outgrown tells why the publications have to become others for the tables as they are by now,
// nil where they have not. Who opens a session next makes them so, or is refused.
func (w *watch) outgrown(ctx context.Context, c *pgx.Conn, p planner) (why, err error) {
	reqs := make([]sources.TableRequest, len(w.plan.tables))
	for i, t := range w.plan.tables {
		reqs[i] = t.req
	}
	tables, err := readTables(ctx, c, reqs)
	if err != nil {
		return nil, err
	}
	p.tables, p.adding, p.needed, p.advice = nil, true, false, nil
	for _, req := range reqs {
		t := tables[req.Name]
		if t == nil || t.kind != 'r' && t.kind != 'p' {
			return nil, nil // See becameOther.
		}
		p.tables = append(p.tables, t)
		if t.virtual && slices.ContainsFunc(p.covering(t), (*publication).changes) {
			return fmt.Errorf("table %s: its replica identity is FULL, %s", t.sql(), virtualText), nil
		}
	}
	if plan, problems := p.plan(); len(problems) == 0 && len(plan.sql) > 0 {
		return fmt.Errorf("the publications have to be changed: %s", strings.Join(plan.sql, "; ")), nil
	}
	return nil, nil
}
