package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// databaseRun is a source database at work: one session for all topologies.
type databaseRun struct {
	name      string
	connector sources.Connector
	runs      []*topologyRun // that read it
	session   sources.Session
	batches   chan readBatch
	stop      context.CancelFunc
	done      chan struct{}

	ahead ahead
	open  *record.Tx // the transaction of which the end has not come yet
	// altered are the relations of the session that differ from what it was opened with.
	altered []*record.Relation
	acked   uint64
	idle    uint64 // the frontier that the session proved while idle
	idleAt  time.Time

	lag      *lagMeter
	snapshot *snapshotLog
	fed      int64 // rows since the last commit
}

// groupDatabases finds the databases that the topologies read.
func (e *Engine) groupDatabases() error {
	byName := map[string]*databaseRun{}
	var errs []error
	for _, r := range e.runs {
		for _, n := range r.topology.Nodes() {
			spec, ok := n.Source.(*sources.Spec)
			if !ok {
				continue
			}
			name := spec.Database.Name()
			d := byName[name]
			if d == nil {
				d = &databaseRun{
					name: name, connector: e.cfg.Sources[name], lag: &lagMeter{},
					snapshot: newSnapshotLog(e.log, name),
				}
				byName[name] = d
				e.databases = append(e.databases, d)
				if d.connector == nil {
					errs = append(errs, fmt.Errorf("engine: database %q has no connector: give one to "+
						"sources.NewDatabase or Config.Bind", name))
				}
			}
			if !slices.Contains(d.runs, r) {
				d.runs = append(d.runs, r)
			}
		}
	}
	return errors.Join(errs...)
}

// request collects what the given topologies want of a database.
func (e *Engine) request(d *databaseRun, app string, runs []*topologyRun, resume uint64) sources.OpenRequest {
	req := sources.OpenRequest{
		App:      app,
		Database: d.name,
		Resume:   resume,
		System:   e.cfg.Dir.System(d.name),
		Logger:   e.log,
		Timeline: e.cfg.Dir.Timeline(d.name),
		Observe: sourceHealth{
			e.cfg.Observe.Source(d.name),
			e,
			d.name,
			d.lag,
			d.snapshot,
		},
		Partial: len(runs) < len(d.runs) || resume != 0 && e.keepsOld(d),
	}
	specs := specsOf(d, runs)
	req.Tables = tableRequests(d, specs)
	for _, spec := range specs {
		req.EventTime = req.EventTime || spec.timed
		if spec.Messages != "" && !slices.Contains(req.Messages, spec.Messages) {
			req.Messages = append(req.Messages, spec.Messages)
		}
	}
	return req
}

// tableRequests is what source nodes want of tables, each table once.
func tableRequests(d *databaseRun, specs []timedSpec) (tables []sources.TableRequest) {
	at := map[string]int{}
	for _, spec := range specs {
		if spec.Table.Name == "" {
			continue // messages
		}
		i, ok := at[spec.Table.Name]
		if !ok {
			i = len(tables)
			at[spec.Table.Name] = i
			tables = append(tables, sources.TableRequest{Name: spec.Table.Name, Added: true})
		}
		t := &tables[i]
		spec.run.continues(d.name, spec.Spec, t)
		for _, c := range spec.Table.Columns {
			if !slices.Contains(t.Columns, c) {
				t.Columns = append(t.Columns, c)
			}
		}
		if t.KeyColumns == nil {
			t.KeyColumns = spec.Table.KeyColumns
		}
		t.Changes = t.Changes || spec.Table.Changes
		t.Snapshot = t.Snapshot || spec.Table.Snapshot
	}
	return tables
}

// timedSpec is a source node's spec with whether its topology depends on time.
type timedSpec struct {
	*sources.Spec
	run   *topologyRun
	timed bool
}

func specsOf(d *databaseRun, runs []*topologyRun) []timedSpec {
	var out []timedSpec
	for _, r := range runs {
		timed := slices.ContainsFunc(r.topology.Nodes(), func(n *topology.Node) bool { return n.UsesTime })
		for _, n := range r.topology.Nodes() {
			if spec, ok := n.Source.(*sources.Spec); ok && spec.Database.Name() == d.name {
				out = append(out, timedSpec{spec, r, timed})
			}
		}
	}
	return out
}

// active returns the topologies of a database that are not held.
func (d *databaseRun) active() []*topologyRun {
	return slices.DeleteFunc(slices.Clone(d.runs), func(r *topologyRun) bool { return r.held != nil })
}

// resume is the position to read a database from: the earliest of its topologies
// that have one. Topologies further on skip what they know.
func (d *databaseRun) resume() uint64 {
	var at uint64
	for _, r := range d.active() {
		if p := through(r.committed, r.replay, d.name); p != 0 && (at == 0 || p < at) {
			at = p
		}
	}
	return at
}

// openSession opens a database for its active topologies, again and again while
// the failure is one that passes. Topologies with a table that does not fit are held,
// and it is opened for the others; without any left there is no session. New topologies do not
// count where others are held.
func (e *Engine) openSession(ctx context.Context, d *databaseRun) error {
	for {
		if err := e.holdStranded(d); err != nil {
			return err
		}
		if len(d.active()) == 0 {
			return nil
		}
		err := e.tryOpenSession(ctx, d)
		held, holdErr := e.holdMisfits(d, err)
		if holdErr != nil {
			return holdErr
		}
		if !held {
			return err
		}
		e.closeSession(d)
	}
}

// misfits is an error about the tables of some topologies.
type misfits map[*topologyRun]error

// Error lists what is wrong, in the order of the topologies' names.
func (m misfits) Error() string { return errors.Join(m.Unwrap()...).Error() }

// Unwrap returns the errors in the order of the topologies' names.
func (m misfits) Unwrap() []error {
	byName := func(a, b *topologyRun) int { return cmp.Compare(a.name(), b.name()) }
	runs := slices.SortedFunc(maps.Keys(m), byName)
	out := make([]error, len(runs))
	for i, r := range runs {
		out[i] = m[r]
	}
	return out
}

// holdMisfits holds the topologies that an error of opening is about, and reports
// whether there are any.
func (e *Engine) holdMisfits(d *databaseRun, err error) (held bool, fails error) {
	var types misfits
	var tables sources.TableError
	errors.As(err, &types)
	errors.As(err, &tables)
	for _, r := range d.active() {
		cause := types[r]
		if tables != nil {
			if problem := tables.Of(tablesOf(d, r)); problem != nil {
				problem = fmt.Errorf("engine: database %q: topology %q: %w", d.name, r.name(), problem)
				cause = errors.Join(problem, cause)
			}
		}
		if cause != nil {
			held = true
			if err := e.hold(r, cause); err != nil {
				return true, err
			}
		}
	}
	return held, nil
}

// tablesOf names the tables that a topology reads of a database.
func tablesOf(d *databaseRun, r *topologyRun) []string {
	var out []string
	for _, spec := range specsOf(d, []*topologyRun{r}) {
		if spec.Table.Name != "" {
			out = append(out, spec.Table.Name)
		}
	}
	return out
}

func (e *Engine) tryOpenSession(ctx context.Context, d *databaseRun) error {
	req := e.request(d, e.cfg.App, d.active(), d.resume())
	req.Check = func(relations map[string]*record.Relation) error { return unfit(d, relations) }
	session, err := e.openRetry(ctx, d, req)
	if err != nil {
		return err
	}
	e.setSession(d, session)
	e.status.openedSource(d.name)
	if err := e.cfg.Dir.BindSystem(d.name, session.System()); err != nil {
		return fmt.Errorf("%w: %w", sources.ErrWrongSystem, err)
	}
	if err := e.noteTimeline(d, session); err != nil {
		return err
	}
	if err := e.checkRelations(d, session); err != nil {
		return err
	}
	if err := e.notePublished(d, session); err != nil {
		return err
	}
	e.warnNullGaps(d, session)
	e.read(ctx, d)
	return nil
}

// noteTimeline notes which branch of the log a session is on, durably before anything
// that was read from it.
func (e *Engine) noteTimeline(d *databaseRun, s sources.Session) error {
	b, ok := s.(sources.Branching)
	if !ok || b.Timeline() == 0 {
		return nil
	}
	if err := e.cfg.Dir.SetTimeline(d.name, b.Timeline()); err != nil {
		return fmt.Errorf("engine: database %q: note its timeline: %w", d.name, err)
	}
	return nil
}

// unfit reports what does not fit between types and the tables that are there, by topology.
func unfit(d *databaseRun, relations map[string]*record.Relation) error {
	wrong := misfits{}
	for _, spec := range specsOf(d, d.active()) {
		rel := relations[spec.Table.Name]
		if rel == nil {
			continue
		}
		if err := spec.Check(rel); err != nil {
			wrong[spec.run] = errors.Join(wrong[spec.run],
				fmt.Errorf("engine: database %q: topology %q: %w", d.name, spec.run.name(), err))
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

// closeSession ends a database's session and its reader.
func (e *Engine) closeSession(d *databaseRun) {
	if d.session == nil {
		return
	}
	if d.stop != nil {
		d.stop()
		<-d.done
		d.releaseRead()
		d.lag.restarted()
		d.fed = 0
	}
	session := d.session
	e.setSession(d, nil) // first, so that no worker acknowledges to what is closed
	// The error of closing a connection that is given up tells nothing.
	_ = session.Close()
	d.stop, d.open = nil, nil
}

func (e *Engine) setSession(d *databaseRun, s sources.Session) {
	e.ackMu.Lock()
	defer e.ackMu.Unlock()
	// A new session tells again of what the positions may have been rolled back behind.
	d.session, d.acked, d.idle, d.altered = s, 0, 0, nil
}

func (e *Engine) closeSessions() {
	e.waiting = time.Time{} // nobody has waited for the sessions to come
	for _, d := range e.databases {
		e.closeSession(d)
	}
}
