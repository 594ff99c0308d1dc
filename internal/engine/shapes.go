package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
)

// A topology's state is of tables as they were when it was first filled, and a table may
// have become another one while nobody looked. So what each table was is kept beside the
// state, and compared whenever a session is opened.

// shapesPrefix ends in a comma, which no name has and which sorts before what names have:
// so the keys of topologies in the order of their names ascend.
func shapesPrefix(topology string) []byte { return ownKey("shapes/" + topology + ",") }

func shapesKey(topology, database string) []byte { return append(shapesPrefix(topology), database...) }

// shapeKeys are the keys of all shapes of a topology.
func (e *Engine) shapeKeys(topology string) (keys [][]byte, err error) {
	err = each(e.cfg.Dir, shapesPrefix(topology), func(database string, _ []byte) error {
		keys = append(keys, shapesKey(topology, database))
		return nil
	})
	return keys, err
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
	if was == nil && !r.fresh {
		var err error
		if was, err = e.loadShapes(d, r); err != nil {
			return err
		}
	}
	if len(r.committed) > 0 {
		if err := became(was, now); err != nil {
			return err
		}
	}
	if r.shapes == nil {
		r.shapes = map[string]map[string]sources.Shape{}
	}
	r.shapes[d.name] = now
	if r.fresh || maps.EqualFunc(was, now, sources.Shape.Equal) {
		return nil
	}
	b := e.cfg.Dir.DB.NewBatch()
	defer b.Close()
	if err := noteShapes(b, r); err != nil {
		return err
	}
	return e.cfg.Dir.DB.Commit(b, true)
}

// loadShapes returns the shapes that are stored with the state, nil without.
func (e *Engine) loadShapes(d *databaseRun, r *topologyRun) (map[string]sources.Shape, error) {
	stored, ok, err := e.cfg.Dir.DB.Get(nil, shapesKey(r.name(), d.name))
	if err != nil || !ok {
		return nil, err
	}
	var was map[string]sources.Shape
	if err := json.Unmarshal(stored, &was); err != nil {
		return nil, fmt.Errorf("engine: what is stored of the tables of topology %q: %w: %w",
			r.name(), state.ErrCorrupt, err)
	}
	return was, nil
}

// noteShapes stores what the tables of a topology are.
func noteShapes(b state.Batch, r *topologyRun) error {
	for _, database := range slices.Sorted(maps.Keys(r.shapes)) {
		value, err := json.Marshal(r.shapes[database])
		if err != nil {
			return err
		}
		if err := b.Set(shapesKey(r.name(), database), value); err != nil {
			return err
		}
	}
	return nil
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
