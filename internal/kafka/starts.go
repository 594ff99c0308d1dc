package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tailrace/tailrace/changelog"
)

// Start is where a group begins in a topic in which it has no offsets.
type Start struct {
	// Latest is behind what is there; otherwise it is the first record from Time on.
	Latest bool
	Time   time.Time
}

// CommitStarts gives a group offsets in those partitions of topics in which it has none. It
// does so before the group has members, so that where they begin does not depend on when
// the first of them got to its first commit.
func (t *Topics) CommitStarts(ctx context.Context, group string, starts map[string]Start) error {
	if len(starts) == 0 {
		return nil
	}
	committed, err := t.Committed(ctx, group)
	if err != nil {
		return err
	}
	var offsets kadm.Offsets
	var missing []changelog.Partition
	for _, topic := range slices.Sorted(maps.Keys(starts)) {
		at, err := t.startOf(ctx, topic, starts[topic])
		if err != nil {
			return fmt.Errorf("kafka: where to begin with topic %q: %w", topic, explain(err))
		}
		at.Each(func(o kadm.ListedOffset) {
			p := changelog.Partition{Topic: o.Topic, Number: o.Partition}
			if _, has := committed[p]; !has {
				offsets.AddOffset(o.Topic, o.Partition, o.Offset, -1)
				missing = append(missing, p)
			}
		})
	}
	if len(missing) == 0 {
		return nil
	}
	answers, err := t.admin.CommitOffsets(ctx, group, offsets)
	if err == nil {
		err = answers.Error()
	}
	if errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.IllegalGeneration) ||
		errors.Is(err, kerr.RebalanceInProgress) {
		// Another member was faster, and the group is at work.
		if committed, err = t.Committed(ctx, group); err == nil {
			for _, p := range missing {
				if _, has := committed[p]; !has {
					return fmt.Errorf("kafka: group %q has members and no offset in %s, whose start it does not take "+
						"now; stop all members once: %w", group, p, kerr.UnknownMemberID)
				}
			}
		}
	}
	if err != nil {
		return fmt.Errorf("kafka: commit where group %q begins: %w", group, explain(err))
	}
	t.logger().Info("the group begins with these offsets", "partitions", len(missing))
	return nil
}

func (t *Topics) startOf(ctx context.Context, topic string, s Start) (at kadm.ListedOffsets, err error) {
	err = retry(ctx, func() error {
		if s.Latest {
			at, err = t.admin.ListCommittedOffsets(ctx, topic)
		} else {
			at, err = t.admin.ListOffsetsAfterMilli(ctx, s.Time.Add(time.Millisecond-1).UnixMilli(), topic)
		}
		if err == nil {
			err = at.Error()
		}
		return err
	})
	return at, err
}
