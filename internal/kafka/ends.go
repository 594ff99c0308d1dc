package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// StableEnds asks the leaders of partitions for their last stable offsets: up to there lies
// all that had been committed when they answered.
func (s *Session) StableEnds(ctx context.Context, parts []Partition) (map[Partition]int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, 1 // read_committed
	for topic, numbers := range byTopic(parts) {
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = topic
		for _, n := range numbers {
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Partition, p.Timestamp = n, -1 // the end
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	ends := make(map[Partition]int64, len(parts))
	for _, shard := range s.gts.Client().RequestSharded(ctx, req) {
		if shard.Err != nil {
			return nil, fmt.Errorf("kafka: ask for the ends of inputs: %w", shard.Err)
		}
		resp, ok := shard.Resp.(*kmsg.ListOffsetsResponse)
		if !ok {
			return nil, fmt.Errorf("kafka: ask for the ends of inputs: answer of type %T", shard.Resp)
		}
		for i := range resp.Topics {
			for _, p := range resp.Topics[i].Partitions {
				name := Partition{resp.Topics[i].Topic, p.Partition}
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return nil, fmt.Errorf("kafka: ask for the end of %s: %w", name, err)
				}
				ends[name] = p.Offset
			}
		}
	}
	if len(ends) < len(parts) {
		return nil, fmt.Errorf("kafka: ask for the ends of inputs: %d partitions are missing in the answer",
			len(parts)-len(ends))
	}
	return ends, nil
}
