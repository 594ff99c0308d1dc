package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/changelog"
)

// Errors of Topics, besides changelog.ErrTopic (an internal topic is not as it must be),
// changelog.ErrNoTopic and changelog.ErrRecreated; test with errors.Is.
var (
	// ErrCopartition says that topics that are joined have different numbers of partitions.
	ErrCopartition = errors.New("kafka: inputs are not co-partitioned")
	// ErrCreate says that an internal topic cannot be created.
	ErrCreate = errors.New("kafka: cannot create topic")
	// ErrInUse says that the app cannot be dropped: it has running members.
	ErrInUse = errors.New("kafka: the app is running")
)

// Topics administers the topics of an app.
type Topics struct {
	admin *kadm.Client
	log   *Log
	// Replication is the replication factor of topics that are created; 0 means the
	// cluster's default.
	Replication int16
	// Logger takes what is created and deleted; nil discards it.
	Logger *slog.Logger
}

// NewTopics administers the topics that a client reaches.
func NewTopics(cl *kgo.Client) *Topics {
	return &Topics{admin: kadm.NewClient(cl), log: NewLog(cl), Logger: slog.New(slog.DiscardHandler)}
}

func (t *Topics) logger() *slog.Logger {
	if t.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return t.Logger
}

// Input is a topic that the app reads and has not made.
type Input struct {
	Topic string
	// With names the set of topics that have to have the same number of partitions, since
	// records of the same key meet; "" if it is in none.
	With string
	// Partitions is what the topic has to have; 0 takes what it has.
	Partitions int32
}

// Inputs looks at the topics that the app reads and reports everything that is wrong with
// them: changelog.ErrNoTopic, ErrCopartition, changelog.ErrTopic.
func (t *Topics) Inputs(ctx context.Context, inputs []Input) (map[string]changelog.TopicInfo, error) {
	names := map[string]bool{}
	for _, in := range inputs {
		names[in.Topic] = true
	}
	infos, err := t.log.Topics(ctx, slices.Sorted(maps.Keys(names)))
	if err != nil {
		return nil, explain(err)
	}
	var problems []error
	sets := map[string][]Input{}
	for _, in := range inputs {
		info, ok := infos[in.Topic]
		switch {
		case !ok:
			problems = append(problems, fmt.Errorf("%w: input %q; create it, or see whether its name is right and "+
				"this principal may describe it", changelog.ErrNoTopic, in.Topic))
			continue
		case in.Partitions > 0 && info.Partitions != in.Partitions:
			problems = append(problems, fmt.Errorf("%w: input %q has %d partitions and had %d when the state was "+
				"made, which is divided by them; drop the app (tailrace drop) to build it anew",
				changelog.ErrTopic, in.Topic, info.Partitions, in.Partitions))
		}
		if in.With != "" {
			sets[in.With] = append(sets[in.With], in)
		}
	}
	for _, with := range slices.Sorted(maps.Keys(sets)) {
		problems = append(problems, copartitioned(with, sets[with], infos))
	}
	return infos, errors.Join(problems...)
}

func copartitioned(with string, set []Input, infos map[string]changelog.TopicInfo) error {
	equal := true
	var has []string
	for _, in := range set {
		n := infos[in.Topic].Partitions
		equal = equal && n == infos[set[0].Topic].Partitions
		has = append(has, fmt.Sprintf("%q has %d", in.Topic, n))
	}
	if equal {
		return nil
	}
	return fmt.Errorf("%w: for %s the topics need the same number of partitions: %s; put an exchange "+
		"(Repartition) before the one that differs, or copy it into a topic with as many partitions",
		ErrCopartition, with, strings.Join(has, ", "))
}

// Ensure looks at internal topics, creates those that are missing if create says so, and
// returns when all can be used. Only an app that has committed nothing may have them
// created: a changelog that is missing later is state that is lost, a repartition topic
// records that are. All problems are reported at once.
func (t *Topics) Ensure(
	ctx context.Context, want []changelog.Config, create bool,
) (map[string]changelog.TopicInfo, error) {
	names := make([]string, len(want))
	for i, c := range want {
		names[i] = c.Topic
	}
	existing, err := t.existing(ctx, names)
	if err != nil {
		return nil, explain(err)
	}
	var problems []error
	created := false
	for _, c := range want {
		switch is, ok := existing[c.Topic]; {
		case ok:
			problems = append(problems, c.Check(is))
		case !create:
			problems = append(problems, fmt.Errorf("%w: internal topic %q, and the app has committed work that it "+
				"belongs to, so what it held is lost; drop the app (tailrace drop) to build its state anew",
				changelog.ErrNoTopic, c.Topic))
		default:
			created = true
			problems = append(problems, t.create(ctx, c))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if created {
		if err := t.waitForLeaders(ctx, names); err != nil {
			return nil, err
		}
	}
	infos, err := t.log.Topics(ctx, names)
	return infos, explain(err)
}

// Make creates a topic if it is missing, and returns what it is like; how it was made by
// others is theirs.
func (t *Topics) Make(ctx context.Context, c changelog.Config) (changelog.Existing, error) {
	for {
		is, err := t.existing(ctx, []string{c.Topic})
		if err != nil {
			return changelog.Existing{}, explain(err)
		}
		if found, ok := is[c.Topic]; ok {
			return found, nil
		}
		if err := t.create(ctx, c); err != nil {
			return changelog.Existing{}, err
		}
		if err := t.waitForLeaders(ctx, []string{c.Topic}); err != nil {
			return changelog.Existing{}, err
		}
	}
}

// existing describes those of the topics that are there.
func (t *Topics) existing(ctx context.Context, names []string) (map[string]changelog.Existing, error) {
	infos, err := t.log.Topics(ctx, names)
	if err != nil {
		return nil, err
	}
	out := map[string]changelog.Existing{}
	for name, info := range infos {
		out[name] = changelog.Existing{Partitions: info.Partitions}
	}
	if len(out) == 0 {
		return out, nil
	}
	configs, err := t.admin.DescribeTopicConfigs(ctx, slices.Sorted(maps.Keys(out))...)
	if err != nil {
		return nil, err
	}
	for _, c := range configs {
		if errors.Is(c.Err, kerr.TopicAuthorizationFailed) {
			t.logger().Warn("the topic's settings cannot be read, so they are not checked", "topic", c.Name)
			continue
		}
		if c.Err != nil {
			return nil, fmt.Errorf("kafka: settings of topic %q: %w", c.Name, c.Err)
		}
		is := out[c.Name]
		is.Settings = map[string]string{}
		for _, kv := range c.Configs {
			is.Settings[kv.Key] = kv.MaybeValue()
		}
		out[c.Name] = is
	}
	return out, nil
}

func (t *Topics) create(ctx context.Context, c changelog.Config) error {
	settings := map[string]*string{}
	for k, v := range c.Settings {
		settings[k] = kadm.StringPtr(v)
	}
	replication := t.Replication
	if replication == 0 {
		replication = -1
	}
	_, err := t.admin.CreateTopic(ctx, c.Partitions, replication, settings, c.Topic)
	switch {
	case err == nil:
		t.logger().Info("created topic", "topic", c.Topic, "partitions", c.Partitions)
		return nil
	case errors.Is(err, kerr.TopicAlreadyExists): // another member was faster
		is, err := t.existing(ctx, []string{c.Topic})
		if err != nil {
			return err
		}
		if found, ok := is[c.Topic]; ok {
			return c.Check(found)
		}
		return nil
	}
	return fmt.Errorf("%w %q (%d partitions, %s): %w; create it by hand, or give this principal Create on it",
		ErrCreate, c.Topic, c.Partitions, settingsText(c.Settings), err)
}

func settingsText(settings map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		parts = append(parts, k+"="+settings[k])
	}
	return strings.Join(parts, ", ")
}

// waitForLeaders returns once all partitions can be used: a topic that was created has no
// leaders for a moment, and the brokers learn of them one by one.
func (t *Topics) waitForLeaders(ctx context.Context, topics []string) error {
	err := retry(ctx, func() error {
		ends, err := t.admin.ListEndOffsets(ctx, topics...)
		if err == nil {
			err = ends.Error()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("kafka: wait for new topics: %w", err)
	}
	return nil
}

// Committed returns the offsets that a group has committed.
func (t *Topics) Committed(ctx context.Context, group string) (map[changelog.Partition]int64, error) {
	offsets, err := t.Offsets(ctx, group)
	if err != nil {
		return nil, err
	}
	out := map[changelog.Partition]int64{}
	for p, o := range offsets {
		out[p] = o.Next
	}
	return out, nil
}

// Offsets is Committed with what was committed beside the offsets.
func (t *Topics) Offsets(ctx context.Context, group string) (map[Partition]Offset, error) {
	out := map[Partition]Offset{}
	err := retry(ctx, func() error {
		offsets, err := t.admin.FetchOffsets(ctx, group)
		if errors.Is(err, kerr.GroupIDNotFound) {
			return nil // it has committed nothing; Apache Kafka says so without an error
		}
		if err != nil {
			return err
		}
		offsets.Each(func(o kadm.OffsetResponse) {
			if o.Err == nil && o.At >= 0 {
				out[Partition{Topic: o.Topic, Number: o.Partition}] = Offset{o.At, o.LeaderEpoch, o.Metadata}
			}
		})
		return offsets.Error()
	})
	if err != nil {
		return nil, fmt.Errorf("kafka: read the offsets of group %q: %w", group, explain(err))
	}
	return out, nil
}

// Drop deletes an app's group, which must have no members, and then its internal topics.
// What does not exist is no error. It returns the topics that it has deleted.
func (t *Topics) Drop(ctx context.Context, group string, topics []string) (deleted []string, err error) {
	err = retry(ctx, func() error {
		_, err := t.admin.DeleteGroup(ctx, group)
		return err
	})
	switch {
	case errors.Is(err, kerr.NonEmptyGroup):
		return nil, fmt.Errorf("%w: group %q has members; stop them all, or wait until the group has taken those "+
			"that were killed for dead (the session timeout)", ErrInUse, group)
	case err != nil && !errors.Is(err, kerr.GroupIDNotFound):
		return nil, fmt.Errorf("kafka: delete group %q: %w", group, explain(err))
	}
	results, err := t.admin.DeleteTopics(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("kafka: delete the internal topics: %w", explain(err))
	}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(results)) {
		switch err := results[name].Err; {
		case err == nil:
			deleted = append(deleted, name)
			t.logger().Info("deleted topic", "topic", name)
		case !errors.Is(err, kerr.UnknownTopicOrPartition):
			problems = append(problems, fmt.Errorf("kafka: delete topic %q: %w", name, explain(err)))
		}
	}
	return deleted, errors.Join(append(problems, t.waitForDeletion(ctx, deleted))...)
}

// waitForDeletion returns once no broker that is asked has the topics any more, so that a
// start right afterwards can create them anew.
func (t *Topics) waitForDeletion(ctx context.Context, topics []string) error {
	for pause := retryPause; len(topics) > 0; pause = min(2*pause, maxRetryPause) {
		infos, err := t.log.Topics(ctx, topics)
		if err != nil || len(infos) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kafka: wait for the deletion of topics: %w", context.Cause(ctx))
		case <-time.After(pause):
		}
	}
	return nil
}

// explain adds the remedy to answers that need somebody's rights.
func explain(err error) error {
	for _, c := range []struct {
		err    error
		remedy string
	}{
		{kerr.TopicAuthorizationFailed, "give this principal Describe, Read, Write, Create and Delete on the " +
			"app's topics, and Describe and Read on its inputs"},
		{kerr.GroupAuthorizationFailed, "give this principal Describe, Read and Delete on the app's group"},
		{kerr.ClusterAuthorizationFailed, "give this principal Describe on the cluster"},
		{kerr.SaslAuthenticationFailed, "see user and password"},
	} {
		if errors.Is(err, c.err) {
			return fmt.Errorf("%w; %s", err, c.remedy)
		}
	}
	return err
}
