package engine

import (
	"fmt"

	"github.com/tailrace/tailrace/sources"
)

// warnNullGaps says at start which fields the first NULL in their column would stop the
// topology at, once for each: sessions are opened again and again.
func (e *Engine) warnNullGaps(d *databaseRun, s sources.Session) {
	relations := s.Relations()
	for _, r := range d.active() {
		for _, spec := range specsOf(d, []*topologyRun{r}) {
			rel := relations[spec.Table.Name]
			if rel == nil || spec.NullGaps == nil {
				continue
			}
			for _, g := range spec.NullGaps(rel) {
				id := fmt.Sprintf("%s %s %s %s %s", r.name(), d.name, rel, g.Column, g.Field)
				if _, said := e.nullGaps.LoadOrStore(id, true); said {
					continue
				}
				e.log.Warn("the column can be NULL and the field cannot: the first NULL stops the app. Make the "+
					"field a sql.Null or a pointer, or the column NOT NULL before there is one",
					"topology", r.name(), "database", d.name,
					"table", rel.String(), "column", g.Column, "field", g.Field, "type", g.GoType,
					"use", "sql.Null["+g.GoType+"]")
			}
		}
	}
}
