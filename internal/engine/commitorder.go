package engine

import (
	"math"
	"time"

	"github.com/tailrace/tailrace/sources"
)

// Where a topology reads several databases, their transactions are taken in the order of
// their commit times: a backlog of one that was away a day would else meet streams of the
// other that are a day ahead, and be late. What has arrived of each waits in its ahead. One
// that may have more to send is waited for, up to Limits.MaxIdle; one that says it has
// nothing more, or has been silent for as long, is not, until something comes of it.

// ahead is what has arrived of a database and was not taken yet.
type ahead struct {
	batch *sources.Batch // nil if there is nothing
	at    int            // the first transaction in it that was not taken
	// quiet is set where nothing more is expected soon.
	quiet bool
}

// time is the commit time of the first transaction, and when it was taken of a snapshot.
// What only says that nothing is to come goes first, and so does a message outside of a
// transaction: it has the time at which it was sent, which tells nothing.
func (a *ahead) time() int64 {
	if len(a.batch.Txs) == 0 {
		return math.MinInt64
	}
	if m := a.batch.Txs[a.at].Messages; len(m) > 0 && !m[0].Transactional {
		return math.MinInt64
	}
	return a.batch.Txs[a.at].Tx.CommitTime
}

// take returns the transactions up to a commit time, the first one in any case.
func (a *ahead) take(until int64) *sources.Batch {
	b, from := a.batch, a.at
	for a.at++; a.at < len(b.Txs) && a.time() <= until; a.at++ {
	}
	if a.at < len(b.Txs) {
		return &sources.Batch{Txs: b.Txs[from:a.at]}
	}
	*a = ahead{quiet: b.CaughtUp}
	b.Txs = b.Txs[min(from, len(b.Txs)):]
	return b
}

// drop gives back what was not taken.
func (a *ahead) drop() {
	release(a.batch)
	*a = ahead{}
}

// joinsDatabases reports whether a topology reads several databases.
func (e *Engine) joinsDatabases() bool {
	reads := map[*topologyRun]bool{}
	for _, d := range e.databases {
		for _, r := range d.runs {
			if reads[r] {
				return true
			}
			reads[r] = true
		}
	}
	return false
}

// nextInOrder returns what is to be taken next of what has arrived. Where there is nothing,
// or something else has to be waited for, it returns the databases of which nothing has.
func (e *Engine) nextInOrder(dbs []*databaseRun) (
	d *databaseRun, in *sources.Batch, silent []*databaseRun, err error,
) {
	until := int64(math.MaxInt64) // what the others have begins there
	if !e.closed() {
		until = math.MinInt64 // no more than what is open: the others were not asked
	}
	expected := false
	for _, o := range dbs {
		if o.ahead.batch == nil {
			select {
			case came := <-o.batches:
				if came.err != nil {
					return o, nil, nil, came.err
				}
				o.ahead.batch = came.batch
			default:
				silent = append(silent, o)
				expected = expected || !o.ahead.quiet
				continue
			}
		}
		switch {
		case d == nil:
			d = o
		case o.ahead.time() < d.ahead.time():
			d, until = o, min(until, d.ahead.time())
		default:
			until = min(until, o.ahead.time())
		}
	}
	if d != nil && expected && len(d.ahead.batch.Txs) > 0 {
		if e.waiting.IsZero() {
			e.waiting = time.Now()
		}
		return nil, nil, silent, nil
	}
	e.waiting = time.Time{}
	if d == nil {
		return nil, nil, silent, nil
	}
	return d, d.ahead.take(until), nil, nil
}

// pause is the shorter one of linger, 0 for none, and of how much longer a transaction waits
// for those of databases that may have more to send.
func (e *Engine) pause(linger time.Duration) time.Duration {
	if e.waiting.IsZero() {
		return linger
	}
	left := max(e.limits.MaxIdle-time.Since(e.waiting), 1)
	if linger > 0 {
		left = min(left, linger)
	}
	return left
}

// givenUp reports whether silent databases have been waited for as long as they may be, and
// stops waiting for them.
func (e *Engine) givenUp(silent []*databaseRun) bool {
	if e.waiting.IsZero() || time.Since(e.waiting) < e.limits.MaxIdle {
		return false
	}
	e.waiting = time.Time{}
	for _, d := range silent {
		d.ahead.quiet = true
	}
	return true
}
