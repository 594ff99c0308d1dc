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
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ErrMoved says that the broker's offsets are not those that this member committed last:
// what it holds is not to be trusted.
var ErrMoved = errors.New("kafka: the group's offsets are not where this member left them")

// Rewind asks the broker for the committed offsets, waiting until no transaction is open
// on them, and lets the next Poll begin there. It fails where they are not what this
// member committed last, and then only a new session is safe (invariant K7).
func (s *Session) Rewind(ctx context.Context) error {
	owned, _ := s.Owned()
	maps.DeleteFunc(owned, func(_ Partition, o Owned) bool { return !o.Lease.given() })
	if len(owned) == 0 {
		return nil
	}
	if err := s.unmoved(ctx, owned); err != nil {
		return err
	}
	starts, err := s.starts(ctx, owned)
	if err != nil {
		return err
	}
	set := map[string]map[int32]kgo.EpochOffset{}
	for p, o := range owned {
		if set[p.Topic] == nil {
			set[p.Topic] = map[int32]kgo.EpochOffset{}
		}
		set[p.Topic][p.Number] = kgo.EpochOffset{Epoch: o.Epoch, Offset: o.Next}
		if o.Next < 0 {
			set[p.Topic][p.Number] = kgo.EpochOffset{Epoch: -1, Offset: starts[p]}
		}
	}
	s.gts.Client().SetOffsets(set)
	return nil
}

// unmoved returns ErrMoved where the broker's offsets are not what this member committed last.
func (s *Session) unmoved(ctx context.Context, owned map[Partition]Owned) error {
	now, err := s.stableOffsets(ctx, slices.Collect(maps.Keys(owned)))
	if err != nil {
		return err
	}
	for p, o := range owned {
		if now[p].Next != o.Next {
			return fmt.Errorf("%w: %s is at %d, not %d", ErrMoved, p, now[p].Next, o.Next)
		}
	}
	return nil
}

// Judge returns ErrMoved in place of Poll's error that a log no longer holds what comes next,
// where others have gone on from there since: those who have consumed records of an exchange
// delete them, and a member that was stopped meanwhile still asks for them.
func (s *Session) Judge(ctx context.Context, polled error) error {
	if !errors.Is(polled, kerr.OffsetOutOfRange) {
		return polled
	}
	owned, _ := s.Owned()
	if err := s.unmoved(ctx, owned); err != nil {
		return err
	}
	return polled
}

// starts asks where those partitions begin of which no offset was ever committed.
func (s *Session) starts(ctx context.Context, owned map[Partition]Owned) (map[Partition]int64, error) {
	topics := map[string]bool{}
	for p, o := range owned {
		if o.Next < 0 {
			topics[p.Topic] = true
		}
	}
	out := map[Partition]int64{}
	if len(topics) == 0 {
		return out, nil
	}
	listed, err := kadm.NewClient(s.gts.Client()).ListStartOffsets(ctx, slices.Sorted(maps.Keys(topics))...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("kafka: read where topics begin: %w", err)
	}
	listed.Each(func(o kadm.ListedOffset) { out[Partition{Topic: o.Topic, Number: o.Partition}] = o.Offset })
	return out, nil
}

// stableOffsets reads committed offsets once no transaction is open on them.
func (s *Session) stableOffsets(ctx context.Context, parts []Partition) (map[Partition]Offset, error) {
	for {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Group, req.RequireStable = s.cfg.Group, true
		for topic, numbers := range byTopic(parts) {
			t := kmsg.NewOffsetFetchRequestTopic()
			t.Topic, t.Partitions = topic, numbers
			req.Topics = append(req.Topics, t)
		}
		resp, err := req.RequestWith(ctx, s.gts.Client())
		if err != nil {
			return nil, fmt.Errorf("kafka: read the offsets of group %q: %w", s.cfg.Group, err)
		}
		if err = fetchError(resp); err == nil {
			return offsetsOf(resp), nil
		}
		if !errors.Is(err, kerr.UnstableOffsetCommit) {
			return nil, fmt.Errorf("kafka: read the offsets of group %q: %w", s.cfg.Group, err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func fetchError(resp *kmsg.OffsetFetchResponse) error {
	codes := []int16{resp.ErrorCode}
	for i := range resp.Topics {
		for _, p := range resp.Topics[i].Partitions {
			codes = append(codes, p.ErrorCode)
		}
	}
	for i := range resp.Groups {
		codes = append(codes, resp.Groups[i].ErrorCode)
		for j := range resp.Groups[i].Topics {
			for _, p := range resp.Groups[i].Topics[j].Partitions {
				codes = append(codes, p.ErrorCode)
			}
		}
	}
	for _, c := range codes {
		if err := kerr.ErrorForCode(c); err != nil {
			return err
		}
	}
	return nil
}
