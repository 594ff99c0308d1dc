package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// The headers of a dead letter, behind those that its record had.
const (
	headerApp       = "tailrace-error-app"
	headerTopic     = "tailrace-error-topic"
	headerPartition = "tailrace-error-partition"
	headerOffset    = "tailrace-error-offset"
	headerNode      = "tailrace-error-node"
	headerError     = "tailrace-error"
)

// setAside is what a task has set aside of an input since the last commit.
type setAside struct {
	first int64 // the offset of the first record
	err   error // its error
	count int
}

// probe returns why a record's rows cannot be decoded by a topology that reads them. It is
// called only where a policy decides then: nothing has been fed, so that the record can be
// left out as a whole.
func (b *buffer) probe(tx *record.Tx, rows []record.Row) error {
	if b.input.undecodable.Verdict == topology.Stop {
		return nil
	}
	for _, p := range b.parts {
		if err := p.task.Probe(tx, rows); err != nil {
			return err
		}
	}
	return nil
}

// refuse follows the policy for a record that cannot be decoded: nil says that it is set
// aside.
func (r *taskRun) refuse(b *buffer, rec *kgo.Record, cause error) error {
	node := ""
	if f := (*topology.Failure)(nil); errors.As(cause, &f) {
		node, cause = f.Node.Name, f.Err
	}
	policy := b.input.undecodable
	if !errors.Is(cause, topology.ErrInput) && !errors.Is(cause, topology.ErrUserFunction) {
		return fmt.Errorf("kafka: %s offset %d: %w", b.partition, rec.Offset, cause)
	}
	switch policy.Verdict {
	case topology.Skip:
	case topology.DeadLetter:
		r.put(deadLetter(r.app, policy.Topic, b.partition, node, rec, cause))
	default:
		return undecodable(fmt.Errorf("kafka: %s offset %d: %w", b.partition, rec.Offset, cause))
	}
	if b.aside.count++; b.aside.count == 1 {
		b.aside.first, b.aside.err = rec.Offset, cause
	}
	r.fed++
	return nil
}

// undecodable adds the remedy to an error of a record that stops.
func undecodable(err error) error {
	if !errors.Is(err, topology.ErrInput) {
		return err
	}
	return fmt.Errorf("%w; mend what wrote it, or say with Undecodable in the source's configuration that such "+
		"records are skipped or become dead letters", err)
}

// deadLetter is a record as it was, with headers that say what failed.
func deadLetter(
	app, topic string, from kafka.Partition, node string, rec *kgo.Record, cause error,
) *kgo.Record {
	out := &kgo.Record{
		Topic: topic, Partition: kafka.AnyPartition, Key: rec.Key, Value: rec.Value, Timestamp: rec.Timestamp,
		Headers: slices.Clip(rec.Headers),
	}
	for _, h := range [][2]string{
		{headerApp, app}, {headerTopic, from.Topic}, {headerPartition, strconv.Itoa(int(from.Number))},
		{headerOffset, strconv.FormatInt(rec.Offset, 10)}, {headerNode, node}, {headerError, cause.Error()},
	} {
		if h[1] != "" {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
		}
	}
	return out
}

// countAside tells of what has been set aside, once that has committed.
func (e *Engine) countAside(r *taskRun) {
	for _, b := range r.all {
		if b.aside.count == 0 {
			continue
		}
		letters, reason := "", topology.DropSkipped
		if b.input.undecodable.Verdict == topology.DeadLetter {
			letters, reason = b.input.undecodable.Topic, topology.DropDeadLetter
		}
		e.log.Warn("records cannot be decoded and were set aside", "topic", b.partition.Topic,
			"partition", b.partition.Number, "records", b.aside.count, "first", b.aside.first,
			"error", b.aside.err, "dead_letters", letters)
		for _, p := range b.parts {
			for _, n := range p.share.nodes() {
				if e.cfg.Dropped != nil && readsInput(n, b.input) {
					e.cfg.Dropped(p.share.topology.Name(), n.Name, reason, b.aside.count)
				}
			}
		}
		b.aside = setAside{}
	}
}

// policyOf is the policy of a reader, with its topic.
func (e *Engine) policyOf(reader sources.TopicReader) sources.Undecodable {
	with, ok := reader.(sources.UndecodableReader)
	if !ok {
		return sources.Undecodable{}
	}
	policy := with.Undecodable()
	if policy.Topic == "" {
		policy.Topic = e.cfg.App + "-dead-letters"
	}
	return policy
}

// checkDeadLetters refuses dead letters that would be read again.
func (e *Engine) checkDeadLetters() error {
	var errs []error
	for _, topic := range e.deadLetterTopics() {
		for _, sub := range e.subs {
			if sub.find(topic) != nil {
				errs = append(errs, fmt.Errorf("kafka: topic %q is read by %s and takes the dead letters of what cannot "+
					"be decoded: they would be read again; name another one in Undecodable.Topic", topic, sub.name))
			}
		}
	}
	return errors.Join(errs...)
}

// deadLetterTopics are the topics that policies write to.
func (e *Engine) deadLetterTopics() []string {
	var topics []string
	for _, sub := range e.subs {
		for _, in := range sub.inputs {
			if in.undecodable.Verdict == topology.DeadLetter {
				topics = append(topics, in.undecodable.Topic)
			}
		}
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// makeDeadLetters creates the topics of dead letters that are missing. Nothing of the state
// is in them, so one that was deleted is made anew.
func (e *Engine) makeDeadLetters(ctx context.Context, topics *kafka.Topics) error {
	var problems []error
	for _, topic := range e.deadLetterTopics() {
		is, err := topics.Make(ctx, changelog.ForDeadLetters(topic))
		if err != nil {
			return err
		}
		if policy := is.Settings["cleanup.policy"]; strings.Contains(policy, "compact") {
			problems = append(problems, fmt.Errorf("%w: topic %q takes dead letters and has cleanup.policy=%s: of "+
				"those that share a key all but one would be lost, and those without a key are refused; name "+
				"another one in Undecodable.Topic", changelog.ErrTopic, topic, policy))
		}
	}
	return errors.Join(problems...)
}
