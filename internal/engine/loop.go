package engine

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// epoch is what has been fed since the last commit.
type epoch struct {
	txs     []*record.Tx
	rows    int
	started time.Time
	// careful is set after a failure: each transaction is an epoch of its own until
	// all of those that failed together have been, so that everything before the one
	// that fails is kept.
	careful bool
	// letters says that it holds no transaction of a source but dead letters that are
	// tried again.
	letters bool
}

// commitTime is when the epoch's last transaction was committed, in Unix microseconds, 0 where
// it has none. That of a dead letter is long past, and moves nothing on.
func (ep *epoch) commitTime() int64 {
	if n := len(ep.txs); n > 0 && !ep.letters {
		return ep.txs[n-1].CommitTime
	}
	return 0
}

// Under a flood of small transactions an epoch lasts a while although it could end at
// once: what each commit costs whatever its size is shared by more of them. It is a flood
// where they come faster than one in floodGap, and not before there are some.
const (
	floodGap   = 50 * time.Microsecond
	floodTxs   = 16
	floodEpoch = 50 * time.Millisecond
)

// lingers returns for how long the epoch had better wait for more.
func (ep *epoch) lingers() time.Duration {
	if len(ep.txs) < floodTxs {
		return 0
	}
	return min(floodEpoch, time.Duration(len(ep.txs))*floodGap) - time.Since(ep.started)
}

// loop feeds whole transactions to the tasks and commits epochs: as large as the
// backlog allows, as small as one transaction when it is quiet.
func (e *Engine) loop(ctx context.Context) error {
	for {
		d, in, err := e.nextOrReopen(ctx, true, 0)
		if err != nil {
			return err
		}
		for in != nil {
			if err := e.take(ctx, d, in); err != nil {
				return err
			}
			if e.full() && e.closed() {
				break
			}
			// Without waiting, unless a transaction is open: an epoch ends where
			// nothing more has arrived. While the commit before it is under way
			// nothing is lost by waiting for more.
			wait := !e.closed() || e.inflight != nil
			if d, in, err = e.nextOrReopen(ctx, wait, e.epoch.lingers()); err != nil {
				return e.endWith(ctx, err)
			}
		}
		if err := e.commitOrRecover(ctx); err != nil {
			return err
		}
	}
}

// endWith keeps what is complete when a source fails: the epoch at hand, unless a
// transaction is open.
func (e *Engine) endWith(ctx context.Context, cause error) error {
	if ctx.Err() != nil || !e.closed() {
		return cause
	}
	return errors.Join(cause, e.commit(ctx), e.settle())
}

// full reports whether the epoch has reached its bound. It is asked between
// transactions only (invariant D4).
func (e *Engine) full() bool {
	n := len(e.epoch.txs)
	return e.epoch.rows >= e.limits.EpochRows || n >= e.limits.EpochRows ||
		n > 0 && (e.epoch.careful || e.limits.OneTransaction) ||
		n > 0 && n%16 == 0 && time.Since(e.epoch.started) >= longEpoch
}

// longEpoch bounds how long an epoch takes where rows are slow to compute. Of bytes it may
// hold any number: what exceeds Limits.Memory spills.
const longEpoch = time.Second

// closed reports whether no transaction is open.
func (e *Engine) closed() bool {
	for _, d := range e.databases {
		if d.open != nil {
			return false
		}
	}
	return true
}

// What next waits for beside the databases, in the order of its cases.
const (
	nextEnded = iota
	nextPin
	nextDurable
	nextLingered
	nextAsked
	nextNothing // where it does not wait
)

// nextOrReopen is next. Where a session asks for it all are opened again, and there is no
// batch.
func (e *Engine) nextOrReopen(
	ctx context.Context, wait bool, linger time.Duration,
) (*databaseRun, *sources.Batch, error) {
	d, in, err := e.next(ctx, wait, linger)
	if errors.Is(err, sources.ErrReopen) {
		return nil, nil, e.reopen(ctx, err)
	}
	return d, in, err
}

// next returns a batch of a database that has one; with an open transaction only
// its own database is asked, since transactions do not overlap. Without wait it
// returns a nil batch where nothing has arrived for as long as linger, and with wait
// between transactions also when the commit under way has become durable.
func (e *Engine) next(
	ctx context.Context, wait bool, linger time.Duration,
) (*databaseRun, *sources.Batch, error) {
	wait = wait || linger > 0
	for goOn := true; goOn; {
		dbs := e.readable()
		if wait && ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if e.inOrder {
			d, in, silent, err := e.nextInOrder(dbs)
			if d != nil || !wait {
				return d, in, err
			}
			dbs = silent
		} else if len(dbs) == 1 {
			select { // the common case, without reflection
			case in := <-dbs[0].batches:
				return dbs[0], in.batch, in.err
			default:
				if !wait {
					return nil, nil, nil
				}
			}
		}
		i, v := e.selectNext(ctx, dbs, wait, e.pause(linger))
		if i < len(dbs) {
			in := v.Interface().(readBatch)
			if e.inOrder && in.err == nil {
				dbs[i].ahead.batch = in.batch
				continue
			}
			return dbs[i], in.batch, in.err
		}
		goOn = !e.closed() // the epoch cannot end here
		switch i - len(dbs) {
		case nextEnded:
			return nil, nil, context.Cause(ctx)
		case nextPin:
			e.due = append(e.due, v.Interface().(*pin))
		case nextDurable:
			if err := e.settle(); err != nil {
				return nil, nil, err
			}
			linger = e.epoch.lingers()
			goOn = goOn || linger > 0
		case nextLingered:
			if e.givenUp(dbs) {
				linger, goOn = e.epoch.lingers(), true
				continue
			}
			linger = 0
			goOn = goOn || e.inflight != nil
		case nextAsked:
			e.asked = v.Interface().(*joinAsk)
		case nextNothing:
			goOn = false
		}
	}
	return nil, nil, nil
}

// readable returns the databases of which a batch can be taken.
func (e *Engine) readable() []*databaseRun {
	dbs := make([]*databaseRun, 0, 8)
	closed := e.closed()
	for _, d := range e.databases {
		if d.session != nil && (closed || d.open != nil) {
			dbs = append(dbs, d)
		}
	}
	return dbs
}

// selectNext waits for a database's batch, whose place it returns, or for what else next
// waits for, behind them.
func (e *Engine) selectNext(
	ctx context.Context, dbs []*databaseRun, wait bool, linger time.Duration,
) (int, reflect.Value) {
	cases := make([]reflect.SelectCase, 0, 16)
	receive := func(from any) {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(from)})
	}
	for _, d := range dbs {
		receive(d.batches)
	}
	receive(ctx.Done())         // nextEnded
	receive(e.pins)             // nextPin
	receive(e.underWay())       // nextDurable
	receive(e.lingered(linger)) // nextLingered
	receive(e.joiner.asking())  // nextAsked
	if !wait {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectDefault}) // nextNothing
	}
	i, v, _ := reflect.Select(cases)
	return i, v
}

// lingered fires when an epoch has waited long enough; nil, which is never ready, where
// it need not end for that.
func (e *Engine) lingered(linger time.Duration) <-chan time.Time {
	if linger <= 0 {
		return nil
	}
	e.lingering.Reset(linger)
	return e.lingering.C
}

// take feeds a batch.
func (e *Engine) take(ctx context.Context, d *databaseRun, in *sources.Batch) error {
	defer release(in)
	session := d.session
	d.lag.taken()
	for i := range in.Txs {
		p := &in.Txs[i]
		if err := e.settled(); err != nil {
			return err
		}
		if d.open == nil {
			// Everything before this transaction is complete: a good place to end the
			// epoch for those who wait for a position before it.
			if err := e.cutBefore(ctx, d, p.Tx); err != nil || d.session != session {
				return err // after a recovery the new session sends the rest again
			}
			if err := e.cutBeforeAltered(ctx, d, p.Rows); err != nil || d.session != session {
				return err
			}
			if err := failpoint.Hit(failpoint.Received); err != nil {
				return err
			}
		}
		if err := e.feedPiece(d, p); err != nil {
			return e.recover(ctx, err)
		}
		if d.open == nil && e.full() {
			if err := e.commitOrRecover(ctx); err != nil {
				return err
			}
			if d.session != session {
				return nil // the new session sends the rest again
			}
		}
	}
	if in.Idle > d.idle && d.open == nil {
		return e.advanceIdle(ctx, d, in.Idle)
	}
	return nil
}

// feedPiece feeds a piece of a transaction to the topologies that it is for.
func (e *Engine) feedPiece(d *databaseRun, p *sources.TxRows) error {
	if d.open == nil {
		e.begin(d, p.Tx)
	}
	e.epoch.rows += len(p.Rows) + len(p.Messages)
	d.fed += int64(len(p.Rows))
	for _, r := range d.runs {
		if !r.takes {
			continue
		}
		if err := r.task.Rows(p.Tx, p.Rows); err != nil {
			return err
		}
		for _, m := range p.Messages {
			if m.Prefix == sources.HeartbeatPrefix {
				r.task.AdvanceTime(d.name, p.Tx.CommitTime)
			} else if err := r.task.Message(p.Tx, m); err != nil {
				return err
			}
		}
	}
	if !p.Last {
		return failpoint.Hit(failpoint.MidTransaction)
	}
	d.open = nil
	for _, r := range d.runs {
		if !r.takes {
			continue
		}
		if err := r.task.End(p.Tx); err != nil {
			return err
		}
	}
	return nil
}

// begin opens a transaction for the topologies that do not hold it yet (invariant D3).
func (e *Engine) begin(d *databaseRun, tx *record.Tx) {
	if len(e.epoch.txs) == 0 {
		e.epoch.started = time.Now()
	}
	d.open = tx
	e.epoch.txs = append(e.epoch.txs, tx)
	for _, r := range d.runs {
		if r.joining {
			r.takes = false
			continue
		}
		if tx.Snapshot {
			_, known := r.task.Positions()[d.name]
			r.takes = !known && r.held == nil && (d.session != nil && d.resume() == 0 || r.snapshotting)
		} else {
			from := r.task.Positions()[d.name]
			if again, ok := r.task.Replaying()[d.name]; ok {
				from = min(from, again)
			}
			r.takes = r.held == nil && tx.CommitStart >= from
		}
		if r.takes {
			r.task.Begin(tx)
		}
	}
}

// commitOrRecover commits the epoch; where computing it fails it is undone and
// repeated transaction by transaction.
func (e *Engine) commitOrRecover(ctx context.Context) error {
	err := e.commit(ctx)
	if err == nil {
		return errors.Join(e.resolvePins(ctx), e.admit(ctx))
	}
	return e.recover(ctx, err)
}

// advanceIdle moves the frontier of an idle database: views show it at once, and it
// is made durable, and then acknowledged, now and then.
func (e *Engine) advanceIdle(ctx context.Context, d *databaseRun, to uint64) error {
	session := d.session
	if err := e.commitOrRecover(ctx); err != nil || d.session != session {
		return err // after a recovery the new session sends the rest again
	}
	if e.snapshotPending() {
		return nil // the epoch goes on; the source will say again that it is idle
	}
	if err := e.settle(); err != nil {
		return err
	}
	d.idle = to
	d.advance()
	if err := e.showFrontier(); err != nil {
		return err
	}
	if now := time.Now(); now.Sub(d.idleAt) >= e.limits.IdleCommit {
		d.idleAt = now
		if err := e.writeCommit(ctx); err != nil {
			return err
		}
	}
	return e.resolvePins(ctx)
}

// advance takes topologies to where the database is known to be idle.
func (d *databaseRun) advance() {
	for _, r := range d.active() {
		if _, ok := r.committed[d.name]; ok {
			r.task.AdvancePosition(d.name, d.idle)
		}
	}
}
