package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tailrace/tailrace/internal/kafka"
)

// defaultPurge is how often consumed records of exchanges are deleted.
const defaultPurge = 30 * time.Second

// purgeTimeout bounds a request to delete records.
const purgeTimeout = 10 * time.Second

// purge deletes the records of exchanges that tasks of this member have consumed, from time
// to time and beside the loop: nobody reads what lies before a committed offset again.
func (e *Engine) purge(now time.Time) {
	if now.Before(e.purgeNext) {
		return
	}
	select {
	case e.purging <- struct{}{}:
	default:
		return // the last one has not been answered
	}
	e.purgeNext = now.Add(e.purgeEvery)
	offsets := kadm.Offsets{}
	upTo := map[kafka.Partition]int64{}
	for _, r := range e.tasks {
		for _, b := range r.inputs {
			if b.input.exchange != nil && b.committed.Next > e.purged[b.partition] {
				offsets.AddOffset(b.partition.Topic, b.partition.Number, b.committed.Next, -1)
				upTo[b.partition] = b.committed.Next
			}
		}
	}
	if len(upTo) == 0 {
		<-e.purging
		return
	}
	for p, at := range upTo {
		e.purged[p] = at // what fails is part of the next purge that has more to delete
	}
	admin := kadm.NewClient(e.admin)
	go func() {
		defer func() { <-e.purging }()
		ctx, cancel := context.WithTimeout(context.Background(), purgeTimeout)
		defer cancel()
		deleted, err := admin.DeleteRecords(ctx, offsets)
		if err == nil {
			err = deleted.Error()
		}
		if err != nil {
			e.log.Warn("consumed records of exchanges were not deleted; they stay until a later time", "error", err)
		}
	}()
}

// endPurge waits for a purge under way.
func (e *Engine) endPurge() {
	e.purging <- struct{}{}
	<-e.purging
}
