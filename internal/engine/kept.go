package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// ErrStateLost says that the state directory is new although the app ran before, and
// that the configuration stops the app then.
var ErrStateLost = errors.New("engine: the state is lost")

// findKept finds out whether topologies without state have run before. Then their
// tables come from a new snapshot at some X, and the events between what the source
// was told to forget and X are taken again: through the app's own slot, which is kept,
// while the snapshot comes through another one, as a newcomer's does. Where no topology
// reads events nothing is asked, since a snapshot brings everything back; nor where a
// joiner reads the database, which holds the slot that would be asked about; nor where the
// directory has the position of a topology that this start leaves out, or has changed: nothing
// is lost then, and those without state are new.
func (e *Engine) findKept(ctx context.Context, d *databaseRun) error {
	keeper, ok := d.connector.(sources.Keeper)
	reads := func(r *topologyRun) bool { return r.readsEvents(d.name) }
	if !ok || d.joiningOnly() || len(d.stranded()) > 0 || d.resume() != 0 ||
		!slices.ContainsFunc(d.active(), reads) {
		return nil
	}
	if known, err := e.stands(d.name); known || err != nil {
		return err
	}
	key := begunKey(d.name)
	_, begun, err := e.cfg.Dir.DB.Get(nil, key)
	if err != nil {
		return err
	}
	var at uint64
	var kept bool
	err = e.retry(ctx, d, func() (err error) {
		at, kept, err = keeper.Kept(ctx, sources.KeptRequest{
			App: e.cfg.App, Database: d.name, Begun: begun, Logger: e.log,
		})
		return err
	})
	if err != nil {
		return err
	}
	if !kept {
		return e.write(key, nil)
	}
	if e.cfg.StopOnLostState {
		return fmt.Errorf("%w: database %q was read up to %s, and the state directory is new: bring the "+
			"directory back, or start without StopOnLostState to deliver the events after that again, from "+
			"a new snapshot of the tables", ErrStateLost, d.name, record.LSN(at))
	}
	e.log.Warn("the state is lost: tables are read anew, events are delivered again from where the source "+
		"was acknowledged, marked as replayed; what streams alone had built up is gone",
		"database", d.name, "position", record.LSN(at).String())
	for _, r := range d.active() {
		if reads(r) {
			r.replay[d.name] = at
			r.task.Replay(d.name, at)
		}
	}
	return nil
}

// stands reports whether the state directory has any topology's position in a database, or had
// one that was forgotten.
func (e *Engine) stands(database string) (bool, error) {
	_, known, err := e.cfg.Dir.DB.Get(nil, knownKey(database))
	if known || err != nil {
		return known, err
	}
	stored, err := Checkpoints(e.cfg.Dir)
	for _, at := range stored {
		if at[database] != 0 {
			return true, err
		}
	}
	return false, err
}
