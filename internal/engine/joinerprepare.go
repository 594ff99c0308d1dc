package engine

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/state"
)

// chooseJoining decides, at the first start, which topologies are brought up by a joiner:
// those without state, if there are others that have some and can go on. Topologies that
// take events again are not among them: what they need is in the app's own slot alone.
func (e *Engine) chooseJoining() {
	if e.joiner != nil || e.chosen {
		return
	}
	e.chosen = true
	goesOn := func(r *topologyRun) bool { return r.held == nil && len(r.committed) > 0 }
	if !slices.ContainsFunc(e.runs, goesOn) {
		return
	}
	for _, r := range e.runs {
		if r.held == nil && len(r.committed) == 0 && len(r.replay) == 0 {
			e.ackMu.Lock()
			r.joining = true
			e.ackMu.Unlock()
		}
	}
}

// joiningOnly reports whether nobody but topologies that are joining reads a database.
func (d *databaseRun) joiningOnly() bool {
	return !slices.ContainsFunc(d.runs, func(r *topologyRun) bool { return !r.joining })
}

// stranded returns the topologies that are held where nobody else reads a database but
// topologies that are joining.
func (d *databaseRun) stranded() []string {
	var held []string
	for _, r := range d.runs {
		switch {
		case r.held != nil:
			held = append(held, r.name())
		case !r.joining:
			return nil
		}
	}
	if len(held) == len(d.runs) {
		return nil
	}
	return held
}

// errStranded says why topologies cannot join.
var errStranded = errors.New("engine: a new topology is brought up beside one that goes on")

// holdStranded holds those who join if everybody else who reads one of their databases is held:
// a session from the beginning would take the log that these go on with, and without one
// nothing says where to join.
func (e *Engine) holdStranded(d *databaseRun) error {
	held := d.stranded()
	if len(held) == 0 {
		return nil
	}
	cause := fmt.Errorf("%w, and over database %q none does, since %q are held; mend those, or leave them "+
		"out, and start again", errStranded, d.name, held)
	if j := e.joiner; j != nil {
		j.stop()
		<-j.over
		e.asked = nil
		return e.holdJoining(cause)
	}
	for _, r := range d.active() {
		e.leaveJoining(r)
		if err := e.hold(r, cause); err != nil {
			return err
		}
	}
	return nil
}

// prepareJoiner makes the joiner of those that chooseJoining has chosen; Run starts it.
func (e *Engine) prepareJoiner() error {
	if e.joiner != nil || e.joinedAll {
		return nil
	}
	j := &joiner{parent: e, asks: make(chan *joinAsk, 1), wake: make(chan struct{}, 1), goals: e.durable()}
	for _, r := range e.runs {
		switch {
		case r.joining && r.held != nil:
			e.leaveJoining(r)
		case r.joining:
			j.runs = append(j.runs, r)
		}
	}
	if len(j.runs) == 0 {
		e.noneJoining()
		return nil
	}
	j.sub = joiningEngine(e)
	e.joiner = j
	names := make([]string, len(j.runs))
	for i, r := range j.runs {
		names[i] = r.name()
		j.sub.runs = append(j.sub.runs, &topologyRun{
			topology: r.topology, hash: r.hash, fresh: true, shapes: shapes{},
		})
	}
	if err := j.makeTasks(); err != nil {
		return err
	}
	e.status.joining(names)
	for _, d := range e.databases {
		j.prepare(d)
	}
	if err := j.prepareTargets(); err != nil {
		return err
	}
	// The others' views need not wait.
	return e.publish(e.cfg.Dir.DB.NewSnapshot(), &epoch{})
}

// joiningEngine makes the engine of a joiner, to which the joiner adds runs, databases,
// targets and an env. It has what reading sessions, feeding pieces and filling batches
// take, and nothing of what a loop has: no commit under way, no status, no pins, and no
// limit but that of an epoch's rows.
func joiningEngine(parent *Engine) *Engine {
	return &Engine{
		cfg:    parent.cfg,
		limits: Limits{EpochRows: parent.limits.EpochRows},
		log:    parent.log,
		joins:  parent,
	}
}

// makeTasks makes empty tasks, and what their stores share.
func (j *joiner) makeTasks() (err error) {
	e, s := j.parent, j.sub
	// No commit of a joiner is ever under way: its stores read the database itself.
	s.env = &state.Env{
		DB: e.cfg.Dir.DB, Memory: state.NewBudget(max(e.limits.Memory/joinMemory, 1)), Scratch: e.cfg.Dir.Scratch,
	}
	for i, r := range j.runs {
		if s.runs[i].task, err = e.newTask(r, s.env, task.Checkpoint{}); err != nil {
			return err
		}
	}
	return nil
}

// prepare decides how a database is read for those who join.
func (j *joiner) prepare(d *databaseRun) {
	own := &databaseRun{name: d.name, connector: d.connector, lag: &lagMeter{}}
	f := &follower{main: d, whole: d.joiningOnly(), d: own}
	var runs []*topologyRun
	for i, r := range j.runs {
		if slices.Contains(d.runs, r) {
			runs = append(runs, r)
			f.d.runs = append(f.d.runs, j.sub.runs[i])
		}
	}
	if len(runs) == 0 {
		return
	}
	if f.whole {
		own.lag = d.lag // The reader goes on to count there when the loop has its session.
		f.req = j.parent.request(d, j.parent.cfg.App, runs, 0)
	} else {
		f.req = j.parent.ownSlotRequest(d, runs)
	}
	j.followers = append(j.followers, f)
	j.sub.databases = append(j.sub.databases, f.d)
}
