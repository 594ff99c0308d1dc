package engine

import (
	"context"

	"github.com/tailrace/tailrace/sources"
)

type readBatch struct {
	batch *sources.Batch
	err   error
}

// read starts the goroutine that reads a session, so that receiving and computing
// overlap.
func (e *Engine) read(ctx context.Context, d *databaseRun) { e.readInto(ctx, d, func() {}) }

// readInto is read that says when something has come.
func (e *Engine) readInto(ctx context.Context, d *databaseRun, came func()) {
	ctx, d.stop = context.WithCancel(ctx)
	d.batches, d.done = make(chan readBatch, 4), make(chan struct{})
	session, batches, done, lag := d.session, d.batches, d.done, d.lag
	go func() {
		defer close(done)
		for {
			b, err := session.Next(ctx)
			lag.received(b)
			if err == nil {
				if err = e.noteTimeline(d, session); err != nil {
					release(b)
					b = nil
				}
			}
			select {
			case batches <- readBatch{b, err}:
				came()
			case <-ctx.Done():
				release(b)
				return
			}
			if err != nil {
				return
			}
		}
	}()
}

// releaseRead gives back the batches that were read and are not wanted any more.
func (d *databaseRun) releaseRead() {
	d.ahead.drop()
	for {
		select {
		case in := <-d.batches:
			release(in.batch)
		default:
			return
		}
	}
}

func release(b *sources.Batch) {
	if b != nil && b.Release != nil {
		b.Release()
	}
}
