package tailrace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// Plan says what a start of an app does with its state directory. Its String prints
// it for people, its JSON form is for programs.
type Plan struct {
	App      string `json:"app"`
	StateDir string `json:"state_dir"`
	// Empty says that there is no state yet.
	Empty bool `json:"empty,omitempty"`
	// Topologies are those of the app in order, and behind them those that only the
	// state has.
	Topologies []TopologyPlan `json:"topologies"`
	// Queues are what waits for targets, in order of their names.
	Queues []QueuePlan `json:"queues,omitempty"`
}

// TopologyPlan says what happens to one topology.
type TopologyPlan struct {
	topology.Plan
	// Positions is where its state stands.
	Positions record.Positions `json:"positions,omitempty"`
	// Note says what else there is to know, "" if nothing.
	Note string `json:"note,omitempty"`
}

// QueuePlan is what waits for a target: Bytes is 0 where it has taken everything.
type QueuePlan struct {
	Target string `json:"target"`
	Bytes  int64  `json:"bytes"`
}

// Rebuilds reports whether a start drops any state.
func (p *Plan) Rebuilds() bool {
	return slices.ContainsFunc(p.Topologies, func(t TopologyPlan) bool {
		return t.Action == topology.ActionRebuild || t.Action == topology.ActionDrop
	})
}

// Loses reports whether a start drops state that cannot be had again, because records
// of streams have built it up.
func (p *Plan) Loses() bool {
	return slices.ContainsFunc(p.Topologies, func(t TopologyPlan) bool {
		return t.Action != topology.ActionKeep &&
			slices.ContainsFunc(t.Nodes, func(n topology.NodePlan) bool { return n.Lost })
	})
}

// String prints the plan as text.
func (p *Plan) String() string {
	var b strings.Builder
	held := "no state yet"
	if !p.Empty {
		var bytes int64
		for _, t := range p.Topologies {
			bytes += t.Bytes
		}
		held = topology.ByteSize(bytes) + " of state"
	}
	fmt.Fprintf(&b, "app %s, %s in %s\n", p.App, held, p.StateDir)
	for _, q := range p.Queues {
		if q.Bytes == 0 {
			fmt.Fprintf(&b, "target %s: nothing waits\n", q.Target)
			continue
		}
		fmt.Fprintf(&b, "target %s: %s wait\n", q.Target, topology.ByteSize(q.Bytes))
	}
	for i := range p.Topologies {
		t := &p.Topologies[i]
		b.WriteString(t.Plan.String())
		if len(t.Positions) > 0 {
			fmt.Fprintf(&b, "  stands at %s\n", t.Positions)
		}
		if t.Note != "" {
			fmt.Fprintf(&b, "  %s\n", t.Note)
		}
	}
	return b.String()
}

// Plan compares the app's topologies with its state directory and says what Run would
// keep, rebuild and drop, and what the stores take. It contacts no database and
// changes nothing. The error is state.ErrLocked where another process runs the app.
//
//	if *plan {
//		p, err := app.Plan(ctx)
//		...
//		fmt.Print(p)
//		return
//	}
func (a *App) Plan(ctx context.Context) (*Plan, error) {
	a.dirMu.RLock()
	defer a.dirMu.RUnlock()
	dir := a.dir
	if dir == nil {
		var err error
		dir, err = state.ReadDir(a.cfg.StateDir, state.Options{Logger: a.log})
		switch {
		case errors.Is(err, os.ErrNotExist):
			p := &Plan{App: a.cfg.App, StateDir: a.cfg.StateDir, Empty: true}
			for _, t := range a.topologies {
				p.Topologies = append(p.Topologies, TopologyPlan{Plan: *topology.NewPlan(t.Summary(), nil)})
			}
			return p, nil
		case err != nil:
			return nil, err
		}
		defer dir.Close() //nolint:errcheck // It was only read from.
	}
	if dir.App() != a.cfg.App {
		return nil, fmt.Errorf("%w: %s holds the state of app %q, not %q: give each app a directory of its own",
			state.ErrMismatch, a.cfg.StateDir, dir.App(), a.cfg.App)
	}
	return planOf(ctx, dir, a.topologies)
}

// ReadState says what a state directory holds, whatever app it is of: a Plan that
// keeps everything. The error is os.ErrNotExist where there is no state and
// state.ErrLocked where the app runs.
func ReadState(ctx context.Context, stateDir string) (*Plan, error) {
	dir, err := state.ReadDir(stateDir, state.Options{})
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // It was only read from.
	return planOf(ctx, dir, nil)
}

// planOf compares what a directory holds with topologies, or with itself where there
// are none.
func planOf(ctx context.Context, dir *state.Dir, topologies []*topology.Topology) (*Plan, error) {
	stored, err := engine.ReadStored(dir)
	if err != nil {
		return nil, err
	}
	p := &Plan{App: dir.App(), StateDir: dir.Path()}
	databases := map[string]bool{}
	for _, t := range topologies {
		for _, n := range t.Nodes() {
			if n.Source != nil {
				databases[n.Source.Input().Database] = true
			}
		}
		was := stored[t.Name()]
		delete(stored, t.Name())
		p.add(t.Summary(), was)
	}
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		was := stored[name]
		if topologies == nil {
			p.add(was.Summary, was)
			continue
		}
		summary, note := was.Summary, "the app has this topology no longer; nobody else reads its databases"
		if slices.ContainsFunc(was.Positions.Sources(), func(s string) bool { return databases[s] }) {
			summary, note = nil, "the app has this topology no longer, and the others go on without it"
		}
		p.add(summary, was)
		p.Topologies[len(p.Topologies)-1].Note = note
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	queues, err := engine.ReadQueues(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(queues)) {
		p.Queues = append(p.Queues, QueuePlan{Target: name, Bytes: queues[name]})
	}
	return p, nil
}

// add plans one topology; now or was may be missing.
func (p *Plan) add(now *topology.Summary, was *engine.Stored) {
	if was == nil {
		p.Topologies = append(p.Topologies, TopologyPlan{Plan: *topology.NewPlan(now, nil)})
		return
	}
	t := TopologyPlan{Plan: *topology.NewPlan(now, was.Summary), Positions: was.Positions}
	if len(was.Positions) == 0 && now != nil {
		t.Plan = *topology.NewPlan(now, &topology.Summary{Name: now.Name})
		t.Reasons = []string{"an earlier start began to rebuild it and did not get to the end"}
	}
	for _, bytes := range was.Bytes {
		t.Bytes += bytes
	}
	for i := range t.Nodes {
		for j := range t.Nodes[i].Stores {
			s := &t.Nodes[i].Stores[j]
			s.Bytes = was.Bytes[s.Name]
		}
	}
	p.Topologies = append(p.Topologies, t)
}
