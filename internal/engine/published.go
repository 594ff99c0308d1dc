package engine

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
)

// published is what sessions said of how tables are published, by database and table. It is
// kept with the state of each topology: with that of its other form, as long as that is
// kept, so that a start that adds a table again hides no gap from the program of before.
type published map[string]map[string]string

func publishedKey(topology string) []byte { return ownKey("published/" + topology) }

func (e *Engine) loadPublished(topology string) (published, error) {
	p := published{}
	value, ok, err := e.cfg.Dir.DB.Get(nil, publishedKey(topology))
	if err != nil || !ok {
		return p, err
	}
	if err := json.Unmarshal(value, &p); err != nil {
		return nil, fmt.Errorf("engine: how the tables of topology %q were published: %w: %w",
			topology, state.ErrCorrupt, err)
	}
	return p, nil
}

// continues tells of a table that the topology reads by a node of its own whether what it
// holds continues there: a state, or events that are taken again.
func (r *topologyRun) continues(database string, spec *sources.Spec, t *sources.TableRequest) {
	_, stands := r.committed[database]
	_, replays := r.replay[database]
	if r.joining || !stands && (!replays || spec.Table.Changes) {
		return
	}
	was := r.published[database][spec.Table.Name]
	if t.Added || t.Published == "" {
		t.Published = was
	} else if was != "" && was != t.Published {
		// It is not as it was for one of the two, whatever it is.
		t.Published += " " + was
	}
	t.Added = false
}

// notePublished notes how tables are published now that a session has found them as they
// were: of topologies that go on at once, of others with their first commit.
func (e *Engine) notePublished(d *databaseRun, s sources.Session) error {
	p, ok := s.(sources.Publishing)
	if !ok {
		return nil
	}
	now := p.Published()
	for _, r := range d.active() {
		notes := map[string]string{}
		for _, table := range tablesOf(d, r) {
			if note := now[table]; note != "" {
				notes[table] = note
			}
		}
		if maps.Equal(notes, r.published[d.name]) {
			continue
		}
		r.published[d.name], r.publishedNoted = notes, false
		if _, stands := r.committed[d.name]; !stands || r.old != nil || r.joining {
			continue
		}
		value, err := json.Marshal(r.published)
		if err != nil {
			return err
		}
		if err := e.write(publishedKey(r.name()), value); err != nil {
			return err
		}
		r.publishedNoted = true
	}
	return nil
}

// putPublished stores it with a topology's first checkpoint.
func (e *Engine) putPublished(batch state.Batch, r *topologyRun, ready *task.Ready) error {
	if r.publishedNoted || e.joins != nil || len(ready.Checkpoint.Positions) == 0 || len(r.published) == 0 {
		return nil
	}
	value, err := json.Marshal(r.published)
	if err != nil {
		return err
	}
	return batch.Set(publishedKey(r.name()), value)
}
