package apptest

import (
	"context"
	"strconv"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
)

// readSink reads both tables of the target with its progress in one statement, over and
// over.
func (x *tornTest) readSink(stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		row := x.wh.Strings(`select coalesce((select sum(cents) from left_branches)
			+ (select sum(cents) from right_branches), 0)::bigint,
			coalesce((select positions->>'bank' from tailrace_progress where app = 'bank'), '')`)[0]
		total, err := strconv.ParseInt(row[0], 10, 64)
		if err != nil {
			x.t.Error(err)
			return
		}
		x.tally.saw(ofSink, row[1], total)
		if !x.tally.behind(sinkReadsWanted(), ofSink) {
			time.Sleep(time.Millisecond) // how often it reads: leaves the machine to the app
		}
	}
}

// What has to happen while the sink is stalled.
const (
	stalledReads = 50       // of its tables
	stalledBytes = 10 << 10 // in the queue
)

// stall keeps the app from writing one of the target's tables, which others read all the
// while, until the target's queue has grown. app is nil if it may be killed meanwhile:
// then it is enough that reads go on.
func (x *tornTest) stall(app *tailrace.App) {
	ctx := context.Background()
	tx, err := x.wh.Pool.Begin(ctx)
	if err != nil {
		x.t.Error(err)
		return
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err := tx.Exec(ctx, "lock table left_branches in exclusive mode"); err != nil {
		x.t.Error(err)
		return
	}
	queue := func() float64 {
		if app == nil {
			return 0
		}
		return scrape(x.t, app, `tailrace_sink_queue_bytes{app="bank",target="warehouse"}`)
	}
	const progress = "select seq from tailrace_progress where app = 'bank'"
	c, at := x.tally, x.wh.String(progress)
	read, waiting := c.count(ofSink), queue()
	if !await.Within(await.Limit, func() bool {
		return c.count(ofSink) >= read+stalledReads && (app == nil || queue() >= waiting+stalledBytes)
	}) {
		x.t.Errorf("while the sink is stalled, %d reads of it are made, and its queue grows by %.0f bytes",
			c.count(ofSink)-read, queue()-waiting)
	}
	if now := x.wh.String(progress); now != at {
		x.t.Errorf("the sink is not stalled: its epoch was %s and is %s", at, now)
	}
	c.stalls++
}
