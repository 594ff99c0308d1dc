package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// Heartbeats of a source lie in a topic of one partition, and all tasks need them: they are
// not divided by the group. Each task reads the topic for itself, and keeps how far it has
// come in the metadata of its inputs' offsets, so that it commits with what fell due. They are
// merged with the inputs by their timestamps like any record: what was written to an input
// before a heartbeat is processed before it.

// heartbeats is a topic of heartbeats that a sub-topology reads.
type heartbeats struct {
	input
	of func(*sources.TopicRecord) (int64, error)
	// partitions is how many there are, 0 if there is no such topic.
	partitions int32
}

// addHeartbeats finds what moves stream time in a sub-topology: the heartbeats of its
// databases, if a node depends on time.
func (e *Engine) addHeartbeats(sub *subTopology) {
	timed := slices.ContainsFunc(sub.parts, (*share).timed)
	seen := map[string]bool{}
	for _, in := range sub.inputs {
		from, ok := in.reader.(sources.HeartbeatReader)
		if !timed || !ok {
			continue
		}
		if topic, of := from.Heartbeats(); topic != "" && !seen[topic] {
			seen[topic] = true
			sub.beats = append(sub.beats, heartbeats{
				input: input{topic: topic, database: in.database, beats: true, undecodable: in.undecodable}, of: of,
			})
		}
	}
}

// timed reports whether a node depends on stream time.
func (s *share) timed() bool {
	return slices.ContainsFunc(s.nodes(), func(n *topology.Node) bool { return n.UsesTime })
}

// lookAtHeartbeats sees which of the topics there are.
func (e *Engine) lookAtHeartbeats(ctx context.Context) error {
	names := map[string]bool{}
	for _, sub := range e.subs {
		for i := range sub.beats {
			names[sub.beats[i].topic] = true
		}
	}
	if len(names) == 0 {
		return nil
	}
	infos, err := kafka.NewLog(e.admin).Topics(ctx, slices.Sorted(maps.Keys(names)))
	if err != nil {
		return err
	}
	for _, sub := range e.subs {
		for i := range sub.beats {
			b := &sub.beats[i]
			if b.partitions = infos[b.topic].Partitions; b.partitions == 0 {
				e.log.Info("there is no topic of heartbeats: windows of an idle input close with its next record",
					"topic", b.topic, "sub_topology", sub.name)
			}
		}
	}
	return nil
}

// addBeats makes a task's buffers of heartbeats.
func (r *taskRun) addBeats() {
	for i := range r.sub.beats {
		h := &r.sub.beats[i]
		for n := range h.partitions {
			p := kafka.Partition{Topic: h.topic, Number: n}
			r.beats = append(r.beats, newBuffer(&h.input, p, nil, kafka.Offset{Next: -1}))
		}
	}
	r.all = append(slices.Clip(r.inputs), r.beats...)
}

// openBeats begins where the task has left off.
func (r *taskRun) openBeats(from map[string]int64) {
	for _, b := range r.beats {
		if at, ok := from[b.partition.String()]; ok {
			b.committed.Next = at
			b.reset()
		}
		for _, p := range r.parts {
			if p.share.timed() && p.share.readsDatabase(b.input.database) {
				b.parts = append(b.parts, p)
			}
		}
	}
}

func (s *share) readsDatabase(name string) bool {
	return slices.ContainsFunc(s.nodes(), func(n *topology.Node) bool {
		spec, ok := n.Source.(*sources.Spec)
		return ok && spec.Database.Name() == name
	})
}

// beatsAt is how far the task has come in the topics of heartbeats.
func (r *taskRun) beatsAt() map[string]int64 {
	var at map[string]int64
	for _, b := range r.beats {
		if b.next.Next < 0 {
			continue
		}
		if at == nil {
			at = map[string]int64{}
		}
		at[b.partition.String()] = b.next.Next
	}
	return at
}

// pollBeats puts heartbeats that have come into the buffers of the tasks. The client begins
// with the first that one of them lacks.
func (e *Engine) pollBeats() error {
	from := map[string]map[int32]kgo.Offset{}
	for _, r := range e.tasks {
		if !r.ready {
			continue
		}
		for _, b := range r.beats {
			if from[b.partition.Topic] == nil {
				from[b.partition.Topic] = map[int32]kgo.Offset{}
			}
			at := b.polled
			if before, ok := from[b.partition.Topic][b.partition.Number]; ok {
				at = min(at, before.EpochOffset().Offset)
			}
			from[b.partition.Topic][b.partition.Number] = kgo.NewOffset().At(at)
		}
	}
	if len(from) == 0 {
		return nil
	}
	if e.beats == nil {
		var err error
		if e.beats, err = kgo.NewClient(append([]kgo.Opt{
			kgo.SeedBrokers(e.cfg.Brokers...), kgo.ClientID("tailrace"), kgo.ConsumePartitions(from),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
			// A heartbeat that is gone is time that passes with the next one.
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		}, e.cfg.Options...)...); err != nil {
			return err
		}
	}
	var now context.Context // nil takes what has come, without waiting
	fetches := e.beats.PollFetches(now)
	var errs []error
	fetches.EachError(func(topic string, partition int32, err error) {
		errs = append(errs, fmt.Errorf("kafka: heartbeats: topic %s partition %d: %w", topic, partition, err))
	})
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		for _, r := range e.tasks {
			for _, b := range r.beats {
				if r.ready && b.partition.Topic == p.Topic && b.partition.Number == p.Partition {
					had := b.polled
					b.add(p.FetchPartition)
					r.asked = r.asked && b.polled == had
				}
			}
		}
	})
	return errors.Join(errs...)
}

// restartBeats has the next poll begin with what the tasks lack then: they are others, or
// have gone back.
func (e *Engine) restartBeats() {
	if e.beats != nil {
		e.beats.Close()
		e.beats = nil
	}
}

// feedBeat lets time pass. Where nothing was ever read there is nothing that waits for it,
// and no offset to keep the position with.
func (r *taskRun) feedBeat(b *buffer, rec *kgo.Record) error {
	if !slices.ContainsFunc(r.inputs, func(in *buffer) bool { return in.next.Next >= 0 }) {
		return nil
	}
	var of func(*sources.TopicRecord) (int64, error)
	for i := range r.sub.beats {
		if &r.sub.beats[i].input == b.input {
			of = r.sub.beats[i].of
		}
	}
	at, err := of(b.record(rec))
	if err != nil {
		return r.refuse(b, rec, err)
	}
	tx := b.newTx()
	*tx = record.Tx{
		Source: b.input.database, Log: r.log(b.partition),
		Position: uint64(rec.Offset) + 1, CommitStart: uint64(rec.Offset), CommitTime: at,
	}
	for _, p := range b.parts {
		p.origins = append(p.origins, origin{partition: b.partition, offset: rec.Offset, at: rec.Timestamp})
		p.task.Begin(tx)
		p.task.AdvanceTime(b.input.database, at)
		if err := p.task.End(tx); err != nil {
			return err
		}
		p.out.flush()
	}
	r.fed++
	return nil
}
