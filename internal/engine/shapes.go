package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
)

// A topology's state is of tables as they were when it was first filled, and a table may
// have become another one while nobody looked. So what each table was is kept beside the
// state, and compared whenever a session is opened.

// shapes are tables by database and by the name that they are asked for under.
type shapes map[string]map[string]sources.Shape

func shapesKey(topology string) []byte { return ownKey("shapes/" + topology) }

func (e *Engine) loadShapes(topology string) (shapes, error) {
	s := shapes{}
	value, ok, err := e.cfg.Dir.DB.Get(nil, shapesKey(topology))
	if err != nil || !ok {
		return s, err
	}
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, fmt.Errorf("engine: what is stored of the tables of topology %q: %w: %w",
			topology, state.ErrCorrupt, err)
	}
	return s, nil
}

// checkRelations reports everything that does not fit between a database's tables and
// the types and the state of its topologies, by topology. What fits is noted.
func (e *Engine) checkRelations(d *databaseRun, s sources.Session) error {
	relations := s.Relations()
	wrong := misfits{}
	for _, r := range d.active() {
		now, err := shapesOf(d, r, relations)
		if err == nil {
			err = e.checkShapes(d, r, now)
		}
		switch {
		case errors.Is(err, sources.ErrSchema):
			wrong[r] = fmt.Errorf("engine: database %q: topology %q: %w", d.name, r.name(), err)
		case err != nil:
			return err
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

// shapesOf checks the tables that a topology reads of a database against its types, and
// returns their shapes.
func shapesOf(
	d *databaseRun, r *topologyRun, relations map[string]*record.Relation,
) (map[string]sources.Shape, error) {
	tables := map[string]sources.Shape{}
	var errs []error
	specs := specsOf(d, []*topologyRun{r})
	for _, t := range tableRequests(d, specs) {
		if rel, ok := relations[t.Name]; ok {
			tables[t.Name] = sources.ShapeOf(rel, t)
		} else {
			errs = append(errs, fmt.Errorf("%w: table %s is not there", sources.ErrSchema, t.Name))
		}
	}
	for _, spec := range specs {
		if rel, ok := relations[spec.Table.Name]; ok {
			errs = append(errs, spec.Check(rel))
		}
	}
	return tables, errors.Join(errs...)
}

// checkShapes compares the tables with what the topology's state was made of. A state
// that is to come is made of them as they are, which noteShapes stores with it.
func (e *Engine) checkShapes(d *databaseRun, r *topologyRun, now map[string]sources.Shape) error {
	was := r.shapes[d.name]
	if len(r.committed) > 0 {
		if err := became(was, now); err != nil {
			return err
		}
	}
	r.shapes[d.name] = now
	if r.fresh || maps.EqualFunc(was, now, sources.Shape.Equal) {
		return nil
	}
	value, err := json.Marshal(r.shapes)
	if err != nil {
		return err
	}
	return e.write(shapesKey(r.name()), value)
}

// noteShapes stores what the tables are with a topology's first checkpoint.
func (e *Engine) noteShapes(batch state.Batch, r *topologyRun, ready *task.Ready) error {
	if !e.notes(r, ready) {
		return nil
	}
	value, err := json.Marshal(r.shapes)
	if err != nil {
		return err
	}
	return batch.Set(shapesKey(r.name()), value)
}

// became reports the tables that are not what they were.
func became(was, now map[string]sources.Shape) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if old, ok := was[name]; ok {
			errs = append(errs, old.Became(now[name]))
		}
	}
	return errors.Join(errs...)
}

// cutBeforeAltered ends the epoch before the first rows of a table that has been altered
// since the session was opened. If they do not go with the state, everything before is kept:
// a session that is opened again meets the altered table at once.
func (e *Engine) cutBeforeAltered(ctx context.Context, d *databaseRun, rows []record.Row) error {
	var last *record.Relation
	altered := false
	for i := range rows {
		rel := rows[i].Rel
		if rel == last {
			continue
		}
		if last = rel; rel != nil && rel.Opened != nil && !slices.Contains(d.altered, rel) {
			d.altered, altered = append(d.altered, rel), true
		}
	}
	if !altered || len(e.epoch.txs) == 0 {
		return nil
	}
	return e.commitOrRecover(ctx)
}
