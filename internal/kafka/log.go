// Package kafka wires Kafka mode to franz-go: the group session, its balancer, internal
// topics and the logs that state is restored from.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/changelog"
)

// Log reads the logs of a cluster for restoring state: a changelog.Log. It asks the
// leaders by topic id, with requests of its own: a consumer does not tell how far it has
// come where the end of a log is nothing but markers, or batches that compaction has
// emptied, and it would go on with a topic that was created anew.
type Log struct {
	cl           *kgo.Client
	admin        *kadm.Client
	decompressor kgo.Decompressor
}

var _ changelog.Log = (*Log)(nil)

// NewLog returns the logs that a client reaches. The client may have any other use.
func NewLog(cl *kgo.Client) *Log {
	return &Log{cl: cl, admin: kadm.NewClient(cl), decompressor: kgo.DefaultDecompressor()}
}

// retryPause is how long an answer that can pass is waited out, at first and at most.
const (
	retryPause    = 20 * time.Millisecond
	maxRetryPause = time.Second
)

// retry calls fn until it gives no error that can pass. A context that ends has the last
// one with it.
func retry(ctx context.Context, fn func() error) error {
	for pause := retryPause; ; pause = min(2*pause, maxRetryPause) {
		err := fn()
		if err == nil || !passes(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

// passes reports whether an error can pass by itself: a leader that moves, a connection
// that is lost.
func passes(err error) bool {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, kgo.ErrClientClosed), errors.Is(err, errBatch),
		errors.Is(err, changelog.ErrOutOfRange), errors.Is(err, changelog.ErrRecreated),
		errors.Is(err, changelog.ErrNoTopic):
		return false
	case errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.UnknownTopicOrPartition):
		return true
	}
	var answer *kerr.Error
	if errors.As(err, &answer) {
		return answer.Retriable
	}
	return true
}

// Cluster implements changelog.Log.
func (l *Log) Cluster(ctx context.Context) (id string, err error) {
	err = retry(ctx, func() error {
		m, err := l.admin.BrokerMetadata(ctx)
		id = m.Cluster
		return err
	})
	if err != nil {
		return "", fmt.Errorf("kafka: ask for the cluster's id: %w", err)
	}
	return id, nil
}

// Topics implements changelog.Log.
func (l *Log) Topics(
	ctx context.Context, names []string,
) (infos map[string]changelog.TopicInfo, err error) {
	if len(names) == 0 {
		return map[string]changelog.TopicInfo{}, nil
	}
	err = retry(ctx, func() error {
		infos, err = l.topics(ctx, names)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("kafka: describe topics: %w", err)
	}
	return infos, nil
}

func (l *Log) topics(ctx context.Context, names []string) (map[string]changelog.TopicInfo, error) {
	infos := map[string]changelog.TopicInfo{}
	details, err := l.admin.ListTopics(ctx, names...)
	if err != nil {
		return nil, err
	}
	var there []string
	for name, d := range details {
		switch {
		case errors.Is(d.Err, kerr.UnknownTopicOrPartition):
		case d.Err != nil:
			return nil, fmt.Errorf("topic %q: %w", name, d.Err)
		default:
			there = append(there, name)
			infos[name] = changelog.TopicInfo{
				ID: changelog.TopicID(d.ID), Partitions: int32(len(d.Partitions)),
				DeleteRetention: changelog.DefaultDeleteRetention, Compacted: true,
			}
		}
	}
	if len(there) == 0 {
		return infos, nil
	}
	configs, err := l.admin.DescribeTopicConfigs(ctx, there...)
	if err != nil {
		return nil, err
	}
	for _, c := range configs {
		if c.Err != nil {
			if errors.Is(c.Err, kerr.TopicAuthorizationFailed) {
				continue
			}
			return nil, fmt.Errorf("settings of topic %q: %w", c.Name, c.Err)
		}
		info := infos[c.Name]
		for _, kv := range c.Configs {
			switch kv.Key {
			case "delete.retention.ms":
				if ms, err := strconv.ParseInt(kv.MaybeValue(), 10, 64); err == nil {
					info.DeleteRetention = time.Duration(ms) * time.Millisecond
				}
			case "cleanup.policy":
				info.Compacted = strings.Contains(kv.MaybeValue(), "compact")
			}
		}
		infos[c.Name] = info
	}
	return infos, nil
}

// Bounds implements changelog.Log.
func (l *Log) Bounds(ctx context.Context, at []changelog.Position) ([]changelog.Bounds, error) {
	out := make([]changelog.Bounds, len(at))
	if len(at) == 0 {
		return out, nil
	}
	places := make(map[Partition]int, len(at))
	parts := make([]Partition, len(at))
	for i := range at {
		places[at[i].Partition], parts[i] = i, at[i].Partition
		out[i].EpochEnd = -1
	}
	for _, ask := range []struct {
		timestamp int64
		set       func(b *changelog.Bounds, offset int64)
	}{
		// The end is asked for last: the later, the more it covers.
		{atStart, func(b *changelog.Bounds, offset int64) { b.Start = offset }},
		{atEnd, func(b *changelog.Bounds, offset int64) { b.End = offset }},
	} {
		err := retry(ctx, func() error {
			return listOffsets(ctx, l.cl, parts, committedOrNot, ask.timestamp, func(p Partition, offset int64) {
				if i, ok := places[p]; ok {
					ask.set(&out[i], offset)
				}
			})
		})
		if err != nil {
			return nil, fmt.Errorf("kafka: list offsets: %w", err)
		}
	}
	if err := l.epochEnds(ctx, at, out); err != nil {
		return nil, fmt.Errorf("kafka: list the ends of leader epochs: %w", err)
	}
	return out, nil
}

// epochEnds fills in EpochEnd for the positions that know their epoch.
func (l *Log) epochEnds(ctx context.Context, at []changelog.Position, out []changelog.Bounds) error {
	ask := kadm.OffsetForLeaderEpochRequest{}
	for i := range at {
		if at[i].Epoch >= 0 {
			ask.Add(at[i].Topic, at[i].Number, at[i].Epoch)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	return retry(ctx, func() error {
		ends, err := l.admin.OffsetForLeaderEpoch(ctx, ask)
		if err != nil {
			return err
		}
		for i := range at {
			if at[i].Epoch < 0 {
				continue
			}
			end, ok := ends[at[i].Topic][at[i].Number]
			if !ok {
				return fmt.Errorf("%v is missing in the answer", at[i].Partition)
			}
			if end.Err != nil {
				return &changelog.PartitionError{Partition: at[i].Partition, Err: end.Err}
			}
			out[i].EpochEnd = end.EndOffset
		}
		return nil
	})
}
