package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/sinks"
)

// Encoder implements sinks.TopicWriter: in Kafka mode the app's own transactions carry the
// records, and there is neither progress nor lease.
func (c *connector) Encoder(req sinks.OpenRequest) (sinks.TopicEncoder, error) {
	w, err := c.newWriter(req)
	if err != nil {
		return nil, err
	}
	for _, o := range w.outputs {
		if o.options.Format != Plain {
			return nil, fmt.Errorf("%w: sinks/kafka: target %q, output %q: Kafka mode writes plain rows; leave "+
				"Format out, or write the topic in direct mode", sinks.ErrTargetSchema, w.target, o.Name)
		}
	}
	return &topicEncoder{writer: w}, nil
}

// topicEncoder makes the same records as a writer does.
type topicEncoder struct {
	writer *writer
	rows   encoder
}

// Prepare implements sinks.TopicEncoder.
func (t *topicEncoder) Prepare(ctx context.Context, cluster string) error {
	w := t.writer
	cl, err := w.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	w.admin = kadm.NewClient(cl)
	meta, err := w.admin.BrokerMetadata(ctx)
	if err != nil {
		return w.wrap("reach the brokers", err)
	}
	if meta.Cluster != cluster {
		return fmt.Errorf("%w: sinks/kafka: target %q is the cluster %s, and the app runs on %s; in Kafka mode "+
			"outputs go to the app's own cluster", sinks.ErrConfig, w.target, meta.Cluster, cluster)
	}
	return w.prepareOnly(ctx, w.outputTopics())
}

// Encode implements sinks.TopicEncoder.
func (t *topicEncoder) Encode(item *sinks.Item, at time.Time) (sinks.TopicRecord, error) {
	o := t.writer.outputs[item.Output]
	if o == nil {
		return sinks.TopicRecord{}, fmt.Errorf("sinks/kafka: target %q: no output %d", t.writer.target, item.Output)
	}
	var r *kgo.Record
	if item.Event != nil {
		r = eventRecord(o, item.Event)
	} else {
		var err error
		if r, err = t.rows.row(o, item); err != nil {
			return sinks.TopicRecord{}, err
		}
		r.Timestamp = at
	}
	out := sinks.TopicRecord{Topic: r.Topic, Key: r.Key, Value: r.Value, Time: r.Timestamp}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, sinks.TopicHeader(h))
	}
	return out, nil
}
