package kafka

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/topology"
)

// changelogTopic is the topic of a store's changelog.
func (e *Engine) changelogTopic(store string) string { return changelog.Topic(e.cfg.App, store) }

// newBalancer makes the balancer, once the partitions of the inputs are known.
func (e *Engine) newBalancer() (*kafka.Balancer, error) {
	hashes := fnv.New64a()
	var subs []kafka.SubTopology
	for _, s := range e.subs {
		fmt.Fprintf(hashes, "%s %s;", s.name, s.hash)
		sub := kafka.SubTopology{ID: s.name, Whole: s.whole, Stateful: s.stateful()}
		for _, in := range s.inputs {
			sub.Topics = append(sub.Topics, in.topic)
		}
		if !s.whole {
			sub.Tasks = s.tasks()
		}
		subs = append(subs, sub)
	}
	return kafka.NewBalancer(kafka.BalancerConfig{
		Topology: strconv.FormatUint(hashes.Sum64(), 16), SubTopologies: subs, Logger: e.log,
		Process: e.cfg.Dir.Incarnation(), State: e.localState, Assigned: e.assigned,
	})
}

func (s *subTopology) stateful() bool {
	return slices.ContainsFunc(s.parts, func(t *topology.Topology) bool {
		return slices.ContainsFunc(t.Nodes(), func(n *topology.Node) bool { return len(n.Stores) > 0 })
	})
}

// localState says of which tasks there is state on the disk. How far behind it lies is not
// looked up: it is what a member left, so any is better than none.
func (e *Engine) localState() map[kafka.Task]int64 {
	out := map[kafka.Task]int64{}
	for _, s := range e.subs {
		for p := range s.tasks() {
			_, ok, err := e.cfg.Dir.DB.Get(nil, checkpointKey(s.owner(p)))
			if err == nil && ok {
				out[kafka.Task{SubTopology: s.name, Partition: p}] = 0
			}
		}
	}
	return out
}

// assigned notes whether the group has refused this member.
func (e *Engine) assigned(a kafka.Assignment) {
	if a.Err != nil {
		e.refused.Store(&a.Err)
		e.wake()
	}
}

// prepare checks the input topics and makes the internal ones.
func (e *Engine) prepare(ctx context.Context) error {
	admin := kadm.NewClient(e.admin)
	meta, err := admin.Metadata(ctx, e.topics()...)
	if err != nil {
		return fmt.Errorf("kafka: reach the brokers %v: %w", e.cfg.Brokers, err)
	}
	e.cluster = meta.Cluster
	var errs []error
	for _, sub := range e.subs {
		errs = append(errs, sub.copartitioned(meta.Topics))
	}
	for _, t := range e.targets {
		errs = append(errs, t.encoder.Prepare(ctx, e.cluster))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if e.restorer, err = e.newRestorer(); err != nil {
		return err
	}
	return e.makeChangelogs(ctx, admin)
}

// copartitioned notes the partitions of the inputs, and checks that there are as many of
// each, as keys are joined partition by partition.
func (s *subTopology) copartitioned(topics kadm.TopicDetails) error {
	s.partitions = s.partitions[:0]
	var errs []error
	for _, in := range s.inputs {
		d, ok := topics[in.topic]
		if !ok || d.Err != nil {
			errs = append(errs, fmt.Errorf("kafka: topic %q of table %q does not exist or cannot be read (%w); "+
				"create it, or check the connector's prefix and the rights of the user",
				in.topic, in.request.Name, errors.Join(d.Err)))
			continue
		}
		n := int32(len(d.Partitions))
		s.partitions = append(s.partitions, n)
		if first := s.partitions[0]; n != first && !s.whole {
			errs = append(errs, fmt.Errorf("kafka: topology %q reads the topics %q with %d and %q with %d "+
				"partitions together, key by key; give them as many", s.name, s.inputs[0].topic, first, in.topic, n))
		}
	}
	return errors.Join(errs...)
}

func (e *Engine) makeChangelogs(ctx context.Context, admin *kadm.Client) error {
	compact := "compact"
	for _, sub := range e.subs {
		var names []string
		for _, t := range sub.parts {
			for _, n := range t.Nodes() {
				for _, s := range n.Stores {
					names = append(names, e.changelogTopic(n.StoreName(s.Name)))
				}
			}
		}
		slices.Sort(names)
		if len(names) == 0 {
			continue
		}
		have, err := admin.ListTopics(ctx, names...)
		if err != nil {
			return err
		}
		names = slices.DeleteFunc(names, func(n string) bool { return have[n].Err == nil })
		if len(names) == 0 {
			continue
		}
		configs := map[string]*string{"cleanup.policy": &compact}
		made, err := admin.CreateTopics(ctx, sub.tasks(), -1, configs, names...)
		if err != nil {
			return err
		}
		for _, t := range made {
			if t.Err != nil && !errors.Is(t.Err, kerr.TopicAlreadyExists) {
				return fmt.Errorf("kafka: create topic %q: %w", t.Topic, t.Err)
			}
		}
		if err := awaitLeaders(ctx, admin, names); err != nil {
			return err
		}
	}
	return nil
}

// awaitLeaders returns once topics can be used: new ones have no leaders for a moment, and
// the brokers learn of them one by one.
func awaitLeaders(ctx context.Context, admin *kadm.Client, topics []string) error {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		ends, err := admin.ListEndOffsets(ctx, topics...)
		if err == nil {
			err = ends.Error()
		}
		if err == nil || !kerr.IsRetriable(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}
