package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tailrace/tailrace/sinks"
)

// prepareTopics creates the topics that are missing and may be created, and checks
// those that are there. All problems are reported at once.
func (w *writer) prepareTopics(ctx context.Context) error {
	want := w.outputTopics()
	want[w.progressTopic()] = nil
	return w.prepareOnly(ctx, want)
}

// outputTopics are the topics of the outputs.
func (w *writer) outputTopics() map[string]*output {
	topics := map[string]*output{}
	for _, o := range w.outputs {
		topics[o.topic] = o
	}
	return topics
}

// prepareOnly is prepareTopics for the given topics.
func (w *writer) prepareOnly(ctx context.Context, want map[string]*output) error {
	names := slices.Sorted(maps.Keys(want))
	details, err := w.admin.ListTopics(ctx, names...)
	if err != nil {
		return w.wrap("list the topics", err)
	}
	var problems []error
	created := false
	for _, name := range names {
		d, ok := details[name]
		switch {
		case ok && d.Err == nil:
			problems = append(problems, w.checkTopic(ctx, name, want[name], len(d.Partitions)))
		case !ok || errors.Is(d.Err, kerr.UnknownTopicOrPartition):
			problems = append(problems, w.createTopic(ctx, name, want[name]))
			created = true
		default:
			problems = append(problems, w.wrap("topic "+name, d.Err))
		}
	}
	if err := errors.Join(problems...); err != nil || !created || w.tries {
		return err
	}
	return w.waitForLeaders(ctx, names)
}

// waitForLeaders returns once all partitions of topics can be used: a topic that was
// created has no leaders for a moment, and the brokers learn of them one by one.
func (w *writer) waitForLeaders(ctx context.Context, topics []string) error {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		ends, err := w.admin.ListEndOffsets(ctx, topics...)
		if err == nil {
			err = ends.Error()
		}
		if err == nil || !kerr.IsRetriable(err) {
			return w.wrap("wait for new topics", err)
		}
		select {
		case <-ctx.Done():
			return w.wrap("wait for new topics", errors.Join(context.Cause(ctx), err))
		case <-time.After(pause):
		}
	}
}

func (w *writer) createTopic(ctx context.Context, name string, o *output) error {
	partitions, configs := int32(1), map[string]*string{}
	if o == nil || !o.Append {
		configs["cleanup.policy"] = kadm.StringPtr("compact")
	}
	if o == nil {
		// Every commit writes a record here and every Open reads them all, so what is
		// replaced has to go soon: by default only segments of a week or 1 GB are compacted.
		configs["segment.ms"] = kadm.StringPtr("600000")
		configs["segment.bytes"] = kadm.StringPtr("16777216")
		configs["min.cleanable.dirty.ratio"] = kadm.StringPtr("0.01")
	} else {
		if !w.cfg.CreateTopics {
			return fmt.Errorf("%w: sinks/kafka: target %q: there is no topic %q; create it (%s), or set "+
				"Config.CreateTopics", sinks.ErrTargetSchema, w.target, name, policyOf(o))
		}
		partitions = w.cfg.Partitions
		if o.options.Partitions > 0 {
			partitions = o.options.Partitions
		}
		for k, v := range o.options.Configs {
			configs[k] = kadm.StringPtr(v)
		}
	}
	var err error
	if w.tries {
		var would kadm.CreateTopicResponses
		would, err = w.admin.ValidateCreateTopics(ctx, partitions, w.cfg.ReplicationFactor, configs, name)
		err = cmp.Or(err, would[name].Err)
	} else {
		_, err = w.admin.CreateTopic(ctx, partitions, w.cfg.ReplicationFactor, configs, name)
	}
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return w.wrap("create topic "+name, err)
	}
	return nil
}

func policyOf(o *output) string {
	if o.Append {
		return "cleanup.policy=delete"
	}
	return "cleanup.policy=compact"
}

// checkTopic refuses a topic in which a table's rows would be lost, or a progress topic
// that has no one order.
func (w *writer) checkTopic(ctx context.Context, name string, o *output, partitions int) error {
	if o == nil && partitions != 1 {
		return fmt.Errorf("%w: sinks/kafka: target %q: the progress topic %q has %d partitions; it must "+
			"have one", sinks.ErrTargetSchema, w.target, name, partitions)
	}
	if o != nil && o.Append {
		return nil
	}
	configs, err := w.admin.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return w.wrap("read the configuration of topic "+name, err)
	}
	c, err := configs.On(name, nil)
	if err == nil {
		err = c.Err
	}
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		w.log.Warn("the topic's configuration cannot be read: see that cleanup.policy is compact", "topic", name)
		return nil
	}
	if err != nil {
		return w.wrap("read the configuration of topic "+name, err)
	}
	for _, kv := range c.Configs {
		if kv.Key == "cleanup.policy" && strings.Contains(kv.MaybeValue(), "delete") {
			return fmt.Errorf("%w: sinks/kafka: target %q: topic %q has cleanup.policy=%s, so rows that "+
				"stay as they are would be deleted in time; set cleanup.policy=compact",
				sinks.ErrTargetSchema, w.target, name, kv.MaybeValue())
		}
	}
	return nil
}
