package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
)

// targetCheckTime is how long a start waits for targets that do not answer, and for databases
// that it can do without.
const targetCheckTime = 10 * time.Second

// begins reports whether a start makes something in a source, or drops state: some topology
// has none, or that of another form.
func (e *Engine) begins() bool {
	for _, r := range e.runs {
		if r.held == nil && (r.old != nil || len(r.committed) == 0) {
			return true
		}
	}
	return false
}

// checkTargets returns everything that is wrong with targets, ahead of all that a start makes
// or drops. One that cannot be asked is left to its worker, which tries again.
func (e *Engine) checkTargets(ctx context.Context) error {
	if e.delivering || !e.begins() || len(e.targets) == 0 {
		return nil // open targets that have become wrong are as if they were down
	}
	var err error
	if e.known, err = e.identify(ctx); err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, targetCheckTime)
	defer cancel()
	errs := make([]error, len(e.targets))
	var claims claims
	var all sync.WaitGroup
	for i, t := range e.targets {
		checker, ok := t.connector.(sinks.Checker)
		if !ok {
			continue
		}
		all.Go(func() {
			req := e.openTarget(t)
			req.Claim = func(resource string) error { return claims.take(resource, t.name) }
			err := checker.Check(asking, req)
			switch {
			case errors.Is(err, sinks.ErrConfig), errors.Is(err, sinks.ErrTargetSchema) && e.knows(t):
				errs[i] = fmt.Errorf("engine: target %q: %w", t.name, err)
			case err != nil && ctx.Err() == nil:
				e.log.Warn("the target cannot be checked before the start, which goes on without",
					"target", t.name, "error", err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// claims say which target of an app writes what.
type claims struct {
	mu sync.Mutex
	by map[string]string
}

func (c *claims) take(resource, target string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if by, ok := c.by[resource]; ok && by != target {
		return fmt.Errorf("%w: targets %q and %q of this app would both write %s: give one of the outputs another",
			sinks.ErrTableTaken, min(by, target), max(by, target), resource)
	}
	if c.by == nil {
		c.by = map[string]string{}
	}
	c.by[resource] = target
	return nil
}

// identify asks databases that have not been opened yet which system they are. Who goes on
// does not wait for one that joining topologies alone read. What is wrong with one its session says.
func (e *Engine) identify(ctx context.Context) (known map[string]string, err error) {
	known = map[string]string{}
	for _, d := range e.databases {
		source, ok := d.connector.(sources.Identifier)
		if !ok || e.cfg.Dir.System(d.name) != "" {
			continue
		}
		ask := func() (err error) {
			known[d.name], err = source.Identify(ctx)
			return err
		}
		if d.joiningOnly() {
			known[d.name], _ = identifyOnce(ctx, source)
			continue
		}
		if err := e.retry(ctx, d, ask); ctx.Err() != nil {
			return nil, err
		}
	}
	return known, nil
}

func identifyOnce(ctx context.Context, source sources.Identifier) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, targetCheckTime)
	defer cancel()
	return source.Identify(ctx)
}

// knows reports whether the systems are known of all databases that a target's outputs come
// from: without, nothing that is printed may alter a table, which could be a source's.
func (e *Engine) knows(t *targetRun) bool {
	for _, o := range t.outputs {
		for _, d := range e.databases {
			if slices.Contains(d.runs, o.run) && e.systemOf(d) == "" {
				return false
			}
		}
	}
	return true
}

// openTarget is how a target is opened.
func (e *Engine) openTarget(t *targetRun) sinks.OpenRequest {
	req := sinks.OpenRequest{
		App: e.cfg.App, Target: t.name, Incarnation: e.cfg.Dir.Incarnation(),
		Outputs: e.outputList(t), Logger: e.log,
	}
	for _, t := range e.targets {
		req.AppTargets = append(req.AppTargets, t.name)
	}
	return req
}

func (e *Engine) outputList(t *targetRun) []sinks.Output {
	out := make([]sinks.Output, len(t.outputs))
	for i, o := range t.outputs {
		out[i] = o.spec.Output
		out[i].ID = o.id
		out[i].Reads = e.readsOf(o.run)
		out[i].Whole = e.comesWhole(t, &t.outputs[i])
	}
	return out
}

// comesWhole reports whether an output's target is yet to take the epoch that an output begins
// with.
func (e *Engine) comesWhole(t *targetRun, o *outputRun) bool {
	e.ackMu.Lock()
	defer e.ackMu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	return o.run.unbegun || slices.ContainsFunc(t.pending, func(p pendingEpoch) bool { return p.begins(o.id) })
}

// readsOf names the tables that a topology reads in sources that have been opened, or of
// which the system is known.
func (e *Engine) readsOf(r *topologyRun) (tables []sinks.SourceTable) {
	for _, d := range e.databases {
		system := e.systemOf(d)
		if system == "" {
			continue
		}
		for _, name := range tablesOf(d, r) {
			tables = append(tables, sinks.SourceTable{System: system, Name: name})
		}
	}
	return tables
}

// systemOf is the system that a database is, "" where that is not known yet.
func (e *Engine) systemOf(d *databaseRun) string {
	if system := e.cfg.Dir.System(d.name); system != "" {
		return system
	}
	return e.known[d.name]
}
