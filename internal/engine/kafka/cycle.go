package kafka

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/kafka"
)

// idlePoll is how long a cycle without records waits for the first.
const idlePoll = 250 * time.Millisecond

// cycle polls, computes and commits once:
//
//	poll -> merge by timestamp -> step -> one transaction {changelogs, outputs, offsets}
//	-> committed for sure -> one batch {state, checkpoints} -> views
//
// From the first poll to the end the group takes no partition away (invariant K6).
func (e *Engine) cycle(ctx context.Context) error {
	if refused := e.refused.Load(); refused != nil {
		return *refused
	}
	if err := errors.Join(e.assign(ctx), e.keepCheckpoints()); err != nil {
		return err
	}
	e.openHandovers(ctx)
	defer e.session.Release()
	fed, err := e.gather(ctx)
	if err != nil || ctx.Err() != nil {
		return e.giveUp(ctx, err)
	}
	if fed == 0 {
		return nil
	}
	if err := e.hit(failpoint.KafkaPolled); err != nil {
		return err
	}
	return e.commit(ctx)
}

// judgeTimeout bounds the question where the group stands.
const judgeTimeout = 30 * time.Second

// gather polls and computes until a commit is due, and returns how many records it fed.
func (e *Engine) gather(ctx context.Context) (fed int, err error) {
	wait, began := idlePoll, time.Time{}
	for {
		poll, cancel := context.WithTimeout(ctx, wait)
		stop := context.AfterFunc(ctx, cancel)
		fetches, err := e.session.Poll(poll, e.limits.Records)
		stop()
		cancel()
		if err != nil {
			judge, cancel := context.WithTimeout(ctx, judgeTimeout)
			defer cancel()
			return fed, sessionError(e.session.Judge(judge, err))
		}
		// The poll may have waited for the group to take partitions away.
		if err := e.dropRevoked(); err != nil {
			return fed, err
		}
		e.distribute(fetches)
		if err := e.pollBeats(); err != nil {
			return fed, sessionError(err)
		}
		n, err := e.feed()
		if err != nil {
			return fed, err
		}
		fed += n
		if fed == 0 && !e.holds() {
			return 0, nil
		}
		if began.IsZero() {
			began = time.Now()
		}
		wait = e.limits.CommitInterval - time.Since(began)
		if wait <= 0 || fed >= e.limits.Records || ctx.Err() != nil {
			e.ask(ctx)
			n, err := e.feed()
			return fed + n, err
		}
	}
}

// holds reports whether any task has a record to process.
func (e *Engine) holds() bool {
	for _, r := range e.tasks {
		if r.ready && r.holds() {
			return true
		}
	}
	return false
}

// askTimeout bounds the question for the ends of inputs. Without an answer the tasks wait
// and it is asked again, until Limits.MaxIdle is over.
const askTimeout = time.Second

// ask asks the brokers for the ends of the inputs of tasks that hold records: what was
// committed to other inputs before them comes first.
func (e *Engine) ask(ctx context.Context) {
	var parts []kafka.Partition
	for _, id := range e.order() {
		if r := e.tasks[id]; r.ready {
			parts = r.unasked(parts)
		}
	}
	if len(parts) == 0 {
		return
	}
	// All tasks read the same heartbeats, and a broker answers once.
	slices.SortFunc(parts, func(a, b kafka.Partition) int { return strings.Compare(a.String(), b.String()) })
	parts = slices.Compact(parts)
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	ends, err := e.session.StableEnds(ctx, parts)
	if err != nil {
		e.log.Debug("the ends of inputs are not known; tasks wait for them", "error", err)
		return
	}
	for _, r := range e.tasks {
		if !r.ready || r.asked {
			continue
		}
		r.asked = true
		for _, b := range r.all {
			b.stable = max(b.stable, ends[b.partition])
		}
	}
}

// distribute puts what was polled into the buffers of its tasks.
func (e *Engine) distribute(fetches kgo.Fetches) {
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if r, b := e.bufferOf(kafka.Partition{Topic: p.Topic, Number: p.Partition}); b != nil {
			b.add(p.FetchPartition)
			r.asked = r.asked && len(p.Records) == 0
		}
	})
}

// bufferOf finds the task that is at work with a partition: one sub-topology reads its topic.
func (e *Engine) bufferOf(p kafka.Partition) (*taskRun, *buffer) {
	sub := slices.IndexFunc(e.subs, func(s *subTopology) bool { return s.find(p.Topic) != nil })
	if sub < 0 {
		return nil, nil
	}
	id := taskID{sub: sub, partition: p.Number}
	if e.subs[sub].whole {
		id.partition = 0
	}
	r := e.tasks[id]
	if r == nil || !r.ready {
		return nil, nil
	}
	for _, b := range r.inputs {
		if b.partition == p {
			return r, b
		}
	}
	return nil, nil
}

// feed processes what may be processed.
func (e *Engine) feed() (fed int, err error) {
	now := time.Now()
	for _, id := range e.order() {
		r := e.tasks[id]
		if !r.ready {
			continue
		}
		for b := r.nextInput(now, e.limits.MaxIdle); b != nil; b = r.nextInput(now, e.limits.MaxIdle) {
			if err := e.begin(); err != nil {
				return fed, err
			}
			if err := r.feed(b, b.head()); err != nil {
				return fed, err
			}
			b.take()
			fed++
		}
	}
	return fed, nil
}

// abandon drops what was computed since the last commit. Where the broker's offsets are
// what this member left, the session goes on from them; else it ends.
func (e *Engine) abandon(ctx context.Context, cause error) error {
	for _, r := range e.tasks {
		if r.ready {
			r.rollback()
		}
	}
	e.restartBeats()
	if cause != nil {
		return sessionError(cause)
	}
	e.log.Info("a transaction was given up, its records are processed again")
	rewind, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	if err := e.session.Rewind(rewind); err != nil {
		return sessionError(errors.Join(err, cause))
	}
	return nil
}
