package kafka

import "github.com/twmb/franz-go/pkg/kgo"

// partitioner puts a record into the partition that it names, and one that names none (a
// negative number) by its key as Kafka's own clients do.
type partitioner struct{}

// AnyPartition in Record.Partition leaves the choice to the key.
const AnyPartition = -1

// ForTopic implements kgo.Partitioner.
func (partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return topicPartitioner{byKey: kgo.StickyKeyPartitioner(nil).ForTopic(topic)}
}

type topicPartitioner struct{ byKey kgo.TopicPartitioner }

// RequiresConsistency implements kgo.TopicPartitioner: where a record goes does not
// depend on which partitions can be written at the moment.
func (topicPartitioner) RequiresConsistency(*kgo.Record) bool { return true }

// Partition implements kgo.TopicPartitioner.
func (p topicPartitioner) Partition(r *kgo.Record, n int) int {
	if r.Partition != AnyPartition {
		return int(r.Partition)
	}
	return p.byKey.Partition(r, n)
}
