// Package kafka writes tables and event streams into Kafka topics, exactly once: all
// records of an epoch, in all topics of the target, and the target's progress commit
// in one Kafka transaction. So a consumer with isolation.level=read_committed gets every
// record once and none of an epoch that was given up; one that reads uncommitted records
// gets those, too. (Kafka has no moment at which several partitions are read together:
// their parts of a transaction may be met one after the other.)
//
// A table goes to a compacted topic: the key is the JSON of the key columns (of a
// single one its value), the value a JSON object of all columns, a deleted row a
// tombstone. With the Debezium formats, values are Debezium's change envelopes instead. A
// stream goes to a topic with the JSON of its keys and values, and these
// headers:
//
//	tailrace-id        the event's id, the same after every crash
//	tailrace-source    the database that the event is from
//	tailrace-position  its transaction's position (commit end LSN), as X/Y
//	tailrace-last      "true" on the last event of its transaction in the target
//	tailrace-replayed  "true" if it is delivered again after the state was lost
//
// Records carry the event's time (of a row: its transaction's commit time) and are
// partitioned by key as Kafka's own clients do (murmur2).
package kafka

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources/debezium"
)

// Defaults of Config.
const (
	DefaultLease              = 15 * time.Second
	DefaultTransactionTimeout = time.Minute
	DefaultPartitions         = 6
)

// Config says how to reach a cluster and what may be done in it.
type Config struct {
	// Brokers are the addresses, host:port, to begin with. At least one.
	Brokers []string
	// CreateTopics creates the topics of outputs that are missing. The progress topic,
	// <app>-<target>-progress, is always created if it is missing.
	CreateTopics bool
	// Partitions is the number of partitions of topics that are created. Default 6.
	Partitions int32
	// ReplicationFactor is that of topics that are created. Default: the cluster's.
	ReplicationFactor int16
	// TransactionTimeout is how long the cluster leaves a transaction open that nobody
	// ends: after a crash, readers wait that long. The largest epoch has to be written
	// within it. Default one minute; the cluster has an upper bound
	// (transaction.max.timeout.ms, by default 15 minutes).
	TransactionTimeout time.Duration
	// Lease is how long a dead instance keeps another one, with another state
	// directory, from taking over; a restart with the same state directory never
	// waits. Default 15 s.
	Lease time.Duration
	// Options go to every client: TLS, SASL, timeouts. They may carry secrets and are
	// never logged.
	Options []kgo.Opt
}

// String says which configuration it is, without Options.
func (c Config) String() string { return "kafka target " + strings.Join(c.Brokers, ",") }

// GoString is String, so that %#v prints no secret either.
func (c Config) GoString() string { return c.String() }

// LogValue is String, for slog.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Output is what a user may say about one output of a Kafka target.
type Output struct {
	// Topic is the topic's name. Default: the output's name.
	Topic string
	// Partitions and Configs are for the topic if it is created. Defaults: those of
	// Config, and of the cluster.
	Partitions int32
	Configs    map[string]string
	// Format is how the rows of a table are written. Default Plain.
	Format Format
	// Modes are the forms of values under Debezium. The zero value is Debezium's default.
	Modes debezium.Modes
}

// SinkOption implements sinks.Option.
func (Output) SinkOption() {}

// Target writes to a Kafka cluster. Nothing is contacted before it is opened.
func Target(cfg Config) sinks.Connector {
	cfg.Lease = cmp.Or(max(cfg.Lease, 0), DefaultLease)
	cfg.TransactionTimeout = cmp.Or(max(cfg.TransactionTimeout, 0), DefaultTransactionTimeout)
	cfg.Partitions = cmp.Or(max(cfg.Partitions, 0), DefaultPartitions)
	cfg.ReplicationFactor = cmp.Or(max(cfg.ReplicationFactor, 0), -1)
	return &connector{cfg: cfg}
}

type connector struct{ cfg Config }

// Transactional reports true: records and progress commit together.
func (c *connector) Transactional() bool { return true }

// Open implements sinks.Connector.
func (c *connector) Open(ctx context.Context, req sinks.OpenRequest) (sinks.Writer, error) {
	w, err := c.newWriter(req)
	if err != nil {
		return nil, err
	}
	if err := w.open(ctx); err != nil {
		w.close()
		return nil, err
	}
	w.keepLease()
	return w, nil
}

// Check implements sinks.Checker.
func (c *connector) Check(ctx context.Context, req sinks.OpenRequest) error {
	w, err := c.newWriter(req)
	if err != nil {
		return err
	}
	defer w.close()
	return w.check(ctx)
}

// Drop implements sinks.Connector: it removes the progress from the progress topic.
func (c *connector) Drop(ctx context.Context, req sinks.DropRequest) error {
	w, err := c.newWriter(sinks.OpenRequest{App: req.App, Target: req.Target, Logger: req.Logger})
	if err != nil {
		return err
	}
	defer w.close()
	return w.drop(ctx)
}

func (c *connector) newWriter(req sinks.OpenRequest) (*writer, error) {
	log := req.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &writer{
		cfg: c.cfg, app: req.App, target: req.Target, incarnation: req.Incarnation,
		log: log.With("target", req.Target), outputs: map[uint32]*output{},
	}
	if len(c.cfg.Brokers) == 0 {
		return nil, fmt.Errorf("sinks/kafka: target %q: Config.Brokers is empty; give host:port of at least "+
			"one broker: %w", req.Target, sinks.ErrConfig)
	}
	topics := map[string]string{w.progressTopic(): "the progress"}
	for _, o := range req.Outputs {
		out := &output{Output: o, topic: o.Name}
		options, ok := o.Options.(Output)
		if o.Options != nil && !ok {
			return nil, fmt.Errorf("%w: sinks/kafka: target %q, output %q: the option is a %T; give a "+
				"kafka.Output", sinks.ErrTargetSchema, req.Target, o.Name, o.Options)
		}
		if policy, given := options.Configs["cleanup.policy"]; given && !o.Append && policy != "compact" {
			return nil, fmt.Errorf("%w: sinks/kafka: target %q, output %q: Configs has cleanup.policy=%s, and "+
				"rows that stay as they are would be deleted in time; leave it out",
				sinks.ErrTargetSchema, req.Target, o.Name, policy)
		}
		out.options = options
		out.topic = cmp.Or(options.Topic, o.Name)
		if err := out.setFormat(req.Target); err != nil {
			return nil, err
		}
		if other, dup := topics[out.topic]; dup {
			return nil, fmt.Errorf("%w: sinks/kafka: target %q: topic %q is that of %s and of output %q; give "+
				"one another name (kafka.Output.Topic)", sinks.ErrTargetSchema, req.Target, out.topic, other, o.Name)
		}
		topics[out.topic] = fmt.Sprintf("output %q", o.Name)
		w.outputs[o.ID] = out
	}
	return w, nil
}

// client makes a client with the user's options.
func (w *writer) client(opts ...kgo.Opt) (*kgo.Client, error) {
	all := append([]kgo.Opt{
		kgo.SeedBrokers(w.cfg.Brokers...), kgo.ClientID("tailrace"),
		kgo.MetadataMinAge(100 * time.Millisecond), // new topics have no leader for a moment
		// Kafka's own: murmur2 of the key's bytes.
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
	}, w.cfg.Options...)
	cl, err := kgo.NewClient(append(all, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("sinks/kafka: target %q: %w", w.target, err)
	}
	return cl, nil
}

func (w *writer) progressTopic() string { return w.app + "-" + w.target + "-progress" }

// output is one output and its topic.
type output struct {
	sinks.Output
	options Output
	topic   string
	// envelopes writes Debezium's envelopes; nil for plain rows.
	envelopes *envelopes
}
