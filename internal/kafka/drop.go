package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/changelog"
)

// OfApp lists the internal topics that an app has left, also those of topologies that it had
// once. What belongs to another app whose name begins with this one's and a hyphen is left
// out as long as that one has a group.
func (t *Topics) OfApp(ctx context.Context, app string) ([]string, error) {
	groups, err := t.admin.ListGroups(ctx)
	if err != nil {
		return nil, fmt.Errorf("kafka: list groups: %w", explain(err))
	}
	topics, err := t.admin.ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("kafka: list topics: %w", explain(err))
	}
	var out []string
	for name, d := range topics {
		others := slices.ContainsFunc(groups.Groups(), func(group string) bool {
			return strings.HasPrefix(group, app+"-") && changelog.Internal(group, name)
		})
		if d.Err == nil && changelog.Internal(app, name) && !others {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// DropApp deletes what an app in Kafka mode has left in a cluster: its group, which must have
// no members (ErrInUse), and then its internal topics, which it returns.
func DropApp(
	ctx context.Context, brokers []string, options []kgo.Opt, app string, log *slog.Logger,
) (deleted []string, err error) {
	cl, err := kgo.NewClient(slices.Concat([]kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.ClientID("tailrace"),
	}, options)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	defer cl.Close()
	if err := cl.Ping(ctx); err != nil {
		return nil, fmt.Errorf("kafka: reach the brokers %v: %w", brokers, err)
	}
	topics := NewTopics(cl)
	topics.Logger = log
	names, err := topics.OfApp(ctx, app)
	if err != nil {
		return nil, err
	}
	return topics.Drop(ctx, app, names)
}
