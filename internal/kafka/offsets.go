package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tailrace/tailrace/changelog"
)

// What listOffsets can be asked for.
const (
	atStart, atEnd                int64 = -2, -1
	committedOrNot, committedOnly int8  = 0, 1
)

// StableEnds asks the leaders of partitions for their last stable offsets: up to there lies
// all that had been committed when they answered.
func (s *Session) StableEnds(ctx context.Context, parts []Partition) (map[Partition]int64, error) {
	ends := make(map[Partition]int64, len(parts))
	err := listOffsets(ctx, s.gts.Client(), parts, committedOnly, atEnd, func(p Partition, offset int64) {
		ends[p] = offset
	})
	if err != nil {
		return nil, fmt.Errorf("kafka: ask for the ends of inputs: %w", err)
	}
	return ends, nil
}

// Ends asks the leaders of partitions for their high watermarks: whatever was written before
// they answered, in a transaction or not, lies before them.
func (s *Session) Ends(ctx context.Context, parts []Partition) (map[Partition]int64, error) {
	ends := make(map[Partition]int64, len(parts))
	err := listOffsets(ctx, s.gts.Client(), parts, committedOrNot, atEnd, func(p Partition, offset int64) {
		ends[p] = offset
	})
	if err != nil {
		return nil, fmt.Errorf("kafka: ask where exchanges end: %w", err)
	}
	return ends, nil
}

// listOffsets asks for all offsets in one go: the first error of a partition is the result.
func listOffsets(
	ctx context.Context, cl *kgo.Client, parts []Partition, isolation int8, timestamp int64,
	got func(p Partition, offset int64),
) error {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, isolation
	for topic, numbers := range byTopic(parts) {
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = topic
		for _, n := range numbers {
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Partition, p.Timestamp = n, timestamp
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	left := len(parts)
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return shard.Err
		}
		resp, ok := shard.Resp.(*kmsg.ListOffsetsResponse)
		if !ok {
			return fmt.Errorf("answer of type %T", shard.Resp)
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				name := Partition{Topic: t.Topic, Number: p.Partition}
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return &changelog.PartitionError{Partition: name, Err: err}
				}
				got(name, p.Offset)
				left--
			}
		}
	}
	if left > 0 {
		return fmt.Errorf("%d partitions are missing in the answer", left)
	}
	return nil
}
