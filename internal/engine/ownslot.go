package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
)

// ownSlotRequest is the request of a session through a slot of topologies' own.
func (e *Engine) ownSlotRequest(d *databaseRun, runs []*topologyRun) sources.OpenRequest {
	req := e.request(d, NewcomerApp(e.cfg.App, runs[0].name()), runs, 0)
	req.Joins = e.cfg.App
	// What is told of a database's health is what the others see of it.
	req.Observe = e.cfg.Observe.Source(d.name)
	return req
}

// openOwnSlot opens such a session. That there may be a slot is noted before, so that a
// later start drops what this run does not; see dropLeft.
func (e *Engine) openOwnSlot(
	ctx context.Context, d *databaseRun, runs []*topologyRun, req sources.OpenRequest,
) (sources.Session, error) {
	if err := e.retry(ctx, d, func() error { return e.dropOwnSlots(ctx, d, runs) }); err != nil {
		return nil, err
	}
	if err := e.write(ownSlotKey(d.name, runs[0].name()), nil); err != nil {
		return nil, err
	}
	session, err := e.openRetry(ctx, d, req)
	if err != nil {
		e.leaveOwnSlot(ctx, d, runs)
		return nil, err
	}
	return session, nil
}

// leaveOwnSlot drops the slot that such a session had, also where ctx has ended: left behind
// it would hold the source's log. Where that fails the next start does it.
func (e *Engine) leaveOwnSlot(ctx context.Context, d *databaseRun, runs []*topologyRun) {
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := e.dropOwnSlots(cleanup, d, runs[:1]); err != nil {
		e.log.Warn("the slot of a snapshot is not dropped before the next start, and holds the source's log",
			"topology", runs[0].name(), "database", d.name, "error", err)
	}
}

// dropOwnSlots drops the slots that snapshots of these topologies came through, or
// that an earlier start left.
func (e *Engine) dropOwnSlots(ctx context.Context, d *databaseRun, runs []*topologyRun) error {
	for _, r := range runs {
		if err := e.dropOwnSlot(ctx, d, r.name()); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) dropOwnSlot(ctx context.Context, d *databaseRun, topology string) error {
	drop := sources.DropRequest{
		App: NewcomerApp(e.cfg.App, topology), Joins: e.cfg.App, Database: d.name, Logger: e.log,
	}
	if err := d.connector.Drop(ctx, drop); err != nil {
		return fmt.Errorf("engine: drop the slot of topology %q: %w", topology, err)
	}
	return e.remove(ownSlotKey(d.name, topology))
}

// dropLeft drops the slots that topologies have left which do not come up through one of
// their own now: the app does not have them any more, or they have joined, and the process
// died before it came to that. One that cannot be dropped is tried again at the next start.
func (e *Engine) dropLeft(ctx context.Context, d *databaseRun, coming []*topologyRun) error {
	left, err := leftSlots(e.cfg.Dir, d.name)
	if err != nil {
		return err
	}
	for _, name := range left {
		if slices.ContainsFunc(coming, func(r *topologyRun) bool { return r.name() == name }) {
			continue
		}
		e.log.Warn("a slot is dropped that a topology came up through", "topology", name, "database", d.name)
		if err := e.dropOwnSlot(ctx, d, name); err != nil {
			e.log.Error("a slot that a topology came up through holds the source's log",
				"topology", name, "database", d.name, "error", err)
		}
	}
	return nil
}

// leftSlots returns the topologies that a state directory says may have a slot of their own
// in a database, in order.
func leftSlots(dir *state.Dir, database string) (topologies []string, err error) {
	err = each(dir, ownSlotKey(database, ""), func(name string, _ []byte) error {
		topologies = append(topologies, name)
		return nil
	})
	return topologies, err
}

// NewcomerApp names the slot of a newcomer's snapshot. Different pairs of names give
// different slots, and never that of the app.
func NewcomerApp(app, topology string) string {
	const most = 40
	name := app + "-join-" + topology
	if len(name) <= most {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:most-9] + "-" + hex.EncodeToString(sum[:4])
}
