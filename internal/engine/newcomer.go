package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/tailrace/tailrace/sources"
)

// joinNewcomers snapshots the tables of topologies that have no position in a
// database whose other topologies have one. The snapshot comes through a slot of
// its own and stands at some X at or after the others' position; the database's own
// session, which has not been read from yet, delivers everything after X too, so
// each topology simply skips what its position covers. A crash before the
// newcomer's first commit leaves nothing but an orphaned slot of its own, which the
// next start drops.
func (e *Engine) joinNewcomers(ctx context.Context, d *databaseRun) error {
	if d.resume() == 0 {
		return nil // all are new: the session itself begins with the snapshot
	}
	for _, r := range d.active() {
		if _, ok := r.committed[d.name]; ok {
			continue
		}
		if err := e.snapshotNewcomer(ctx, d, r); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) snapshotNewcomer(ctx context.Context, d *databaseRun, r *topologyRun) error {
	app := NewcomerApp(e.cfg.App, r.name())
	e.log.Info("a new topology takes its snapshot", "topology", r.name(), "database", d.name)
	drop := sources.DropRequest{App: app, Database: d.name, Logger: e.log}
	if err := d.connector.Drop(ctx, drop); err != nil {
		return fmt.Errorf("engine: database %q: %w", d.name, err)
	}
	session, err := e.openRetry(ctx, d, e.request(d, app, []*topologyRun{r}, 0))
	if err != nil {
		return err
	}
	err = e.takeSnapshot(ctx, d, r, session)
	err = errors.Join(err, session.Close())
	// Detached from ctx: a slot left behind would hold the source's log.
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(err, d.connector.Drop(cleanup, drop))
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

// takeSnapshot feeds one topology the snapshot of a session and commits it.
func (e *Engine) takeSnapshot(
	ctx context.Context, d *databaseRun, r *topologyRun, session sources.Session,
) error {
	others := make([]bool, len(e.runs))
	for i, other := range e.runs {
		others[i], other.takes = other.takes, other == r
	}
	defer func() {
		for i, other := range e.runs {
			other.takes = others[i]
		}
	}()
	for {
		b, err := session.Next(ctx)
		if err != nil {
			return err
		}
		done, err := e.feedSnapshot(d, r, b)
		release(b)
		if err != nil {
			return err
		}
		if done {
			return e.commit(ctx)
		}
	}
}

// feedSnapshot feeds a batch of a newcomer's snapshot; done says that it has ended.
func (e *Engine) feedSnapshot(d *databaseRun, r *topologyRun, b *sources.Batch) (done bool, err error) {
	for i := range b.Txs {
		p := &b.Txs[i]
		if !p.Tx.Snapshot {
			return false, fmt.Errorf("engine: database %q: the snapshot of topology %q did not come first",
				d.name, r.name())
		}
		if err := e.feedPiece(d, p); err != nil || p.Last {
			return p.Last, err
		}
	}
	return false, nil
}
