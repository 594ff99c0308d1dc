package tailrace

import (
	"time"

	"github.com/tailrace/tailrace/internal/engine/kafka"
)

// KafkaOption is an option of the Kafka client, a kgo.Opt of franz-go.
type KafkaOption = kafka.Option

// Kafka says how an app runs as a member of a consumer group: Kafka mode. All members of
// the group, which is named for the app, run the same topologies, each over a state
// directory of its own; tables are read from topics (sources/debezium, sources/kafka) and
// outputs go to topics of the same cluster (sinks/kafka). Zero fields take their defaults.
type Kafka struct {
	// Brokers are the addresses, host:port, to begin with. At least one.
	Brokers []string
	// Options go to every client: TLS, SASL, timeouts. They may carry secrets and are
	// never logged.
	Options []KafkaOption
	// InstanceID makes the member static: it keeps its partitions through a restart that is
	// shorter than the session timeout. It has to be unique in the group. Defaults to "", a
	// member that is not static.
	InstanceID string
	// CommitInterval is how long a transaction gathers records: readers of the outputs see
	// results about that much later. Defaults to 100 ms.
	CommitInterval time.Duration
	// SessionTimeout is after how long without a sign of life a member counts as gone.
	// Defaults to 45 s.
	SessionTimeout time.Duration
	// TransactionTimeout is how long readers of the outputs wait for a transaction that a
	// dead member left open. Defaults to 15 s.
	TransactionTimeout time.Duration
	// MaxIdle is how long a task waits for records that one partition holds, or for its
	// broker's word that it holds none, before it goes on with those of others. What was in
	// the topics before a record is processed before it unless that takes longer.
	// Defaults to 10 s.
	MaxIdle time.Duration
}

func (k *Kafka) limits(c *Config) kafka.Limits {
	return kafka.Limits{
		CommitInterval: k.CommitInterval, Records: c.EpochRows, Memory: c.Memory,
		SessionTimeout: k.SessionTimeout, TransactionTimeout: k.TransactionTimeout, MaxIdle: k.MaxIdle,
	}
}
