// Package kafka wires Kafka mode to franz-go: the group session whose transactions carry
// changelogs, outputs and offsets together.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tailrace/tailrace/changelog"
)

// Partition names a partition of a topic.
type Partition = changelog.Partition

// Offset is where a partition stands.
type Offset struct {
	// Next is the offset of the next record to read, -1 where none was ever committed.
	Next int64
	// Epoch is the leader epoch of the record before it, -1 if unknown.
	Epoch int32
	// Metadata is what was committed beside it.
	Metadata string
}

// SessionConfig says how to join the group.
type SessionConfig struct {
	Brokers []string
	// Options go to the client: TLS, SASL. They may carry secrets and are never logged.
	Options []kgo.Opt
	// Group is the consumer group. TransactionalID must be of one process alone, and the
	// same after its restart, so that this ends at once what the process left open.
	Group, TransactionalID string
	// InstanceID makes the member static; "" does not.
	InstanceID string
	// Topics are all topics that the group reads.
	Topics []string
	// Balancer assigns the partitions.
	Balancer kgo.GroupBalancer
	// TransactionTimeout and SessionTimeout must be set.
	TransactionTimeout, SessionTimeout time.Duration
	// Woken is called, from any goroutine, when Owned has changed.
	Woken  func()
	Logger *slog.Logger
}

// Session is a member of a consumer group with its transactional producer. Between Poll
// and Release no partition is taken from it. All methods but Owned are of one goroutine.
type Session struct {
	cfg SessionConfig
	gts *kgo.GroupTransactSession

	contact contact

	mu     sync.Mutex
	owned  map[Partition]*ownedPartition
	rounds int
	failed error // the first record of the transaction that was not written
}

// Owned is what a member knows of a partition of its own.
type Owned struct {
	Offset
	Lease *Lease
}

// ownedPartition is one that the group has given to this member.
type ownedPartition struct {
	offset  Offset
	fetched bool // offset is the broker's, read when all transactions on it had ended
	lease   *Lease
	over    bool // the group's last assignment does not have it
}

// OpenSession makes the client and reaches the cluster once. It joins the group with the
// first Poll.
func OpenSession(ctx context.Context, cfg SessionConfig) (*Session, error) {
	s := &Session{cfg: cfg, owned: map[Partition]*ownedPartition{}}
	if s.cfg.Woken == nil {
		s.cfg.Woken = func() {}
	}
	opts := append([]kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...), kgo.ClientID("tailrace"),
		kgo.MetadataMinAge(100 * time.Millisecond), // new topics have no leader for a moment
	}, cfg.Options...)
	opts = append(opts,
		kgo.ConsumerGroup(cfg.Group), kgo.ConsumeTopics(cfg.Topics...),
		kgo.TransactionalID(cfg.TransactionalID),
		kgo.TransactionTimeout(cfg.TransactionTimeout), kgo.SessionTimeout(cfg.SessionTimeout),
		kgo.HeartbeatInterval(cfg.SessionTimeout/15), // as Kafka's defaults are to each other
		kgo.Balancers(synced{cfg.Balancer, s}),
		// The ends of transactions tell that nothing is missing before them.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		// What the log no longer holds is a gap, never skipped silently.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.RecordPartitioner(partitioner{}), kgo.ProducerLinger(0),
		kgo.MaxDecompressBatchBytes(64<<20),
		kgo.BlockRebalanceOnPoll(), kgo.WithHooks(&s.contact),
		kgo.OnPartitionsAssigned(s.assigned), kgo.OnOffsetsFetched(s.offsetsFetched),
		kgo.OnPartitionsRevoked(s.revoked), kgo.OnPartitionsLost(s.revoked),
	)
	if cfg.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(cfg.InstanceID))
	}
	var err error
	if s.gts, err = kgo.NewGroupTransactSession(opts...); err != nil {
		return nil, fmt.Errorf("kafka: group %q: %w", cfg.Group, err)
	}
	if err := s.gts.Client().Ping(ctx); err != nil {
		s.gts.Close()
		return nil, fmt.Errorf("kafka: group %q: reach the brokers %v: %w", cfg.Group, cfg.Brokers, err)
	}
	return s, nil
}

// Client returns the client, for requests of an administrator.
func (s *Session) Client() *kgo.Client { return s.gts.Client() }

// Close leaves the group, unless the member is static. An open transaction is given up.
func (s *Session) Close() {
	s.mu.Lock()
	for _, own := range s.owned {
		own.lease.gone.Store(true)
	}
	s.mu.Unlock()
	s.gts.CloseAllowingRebalance()
}

func (s *Session) assigned(_ context.Context, cl *kgo.Client, parts map[string][]int32) {
	s.mu.Lock()
	for topic, numbers := range parts {
		for _, n := range numbers {
			p := Partition{Topic: topic, Number: n}
			if old := s.owned[p]; old != nil {
				old.lease.gone.Store(true)
			}
			s.owned[p] = &ownedPartition{lease: &Lease{session: s}}
		}
	}
	s.rounds++
	s.mu.Unlock()
	// Nothing of them is to be delivered before the state is restored; see Resume.
	cl.PauseFetchPartitions(parts)
	s.cfg.Woken()
}

func (s *Session) offsetsFetched(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, o := range offsetsOf(resp) {
		if own := s.owned[p]; own != nil && !own.fetched {
			own.offset, own.fetched = o, true
		}
	}
	s.rounds++
	s.cfg.Woken()
	return nil
}

func (s *Session) revoked(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, numbers := range parts {
		for _, n := range numbers {
			p := Partition{Topic: topic, Number: n}
			if own := s.owned[p]; own != nil {
				own.lease.gone.Store(true)
				delete(s.owned, p)
			}
		}
	}
	s.rounds++
	s.cfg.Woken()
}

// offsetsOf reads an answer of either form.
func offsetsOf(resp *kmsg.OffsetFetchResponse) map[Partition]Offset {
	out := map[Partition]Offset{}
	add := func(topic string, partition int32, next int64, epoch int32, metadata *string) {
		o := Offset{Next: next, Epoch: epoch}
		if metadata != nil {
			o.Metadata = *metadata
		}
		out[Partition{Topic: topic, Number: partition}] = o
	}
	for i := range resp.Topics {
		for _, p := range resp.Topics[i].Partitions {
			add(resp.Topics[i].Topic, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata)
		}
	}
	for _, g := range resp.Groups {
		for i := range g.Topics {
			for _, p := range g.Topics[i].Partitions {
				add(g.Topics[i].Topic, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata)
			}
		}
	}
	return out
}

// Owned returns the partitions of this member whose committed offset is known, and a
// number that grows with each change. Each has been paused since it was given; see Resume.
func (s *Session) Owned() (map[Partition]Owned, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[Partition]Owned, len(s.owned))
	for p, own := range s.owned {
		if own.fetched {
			out[p] = Owned{own.offset, own.lease}
		}
	}
	return out, s.rounds
}

// Resume begins, or goes on with, delivering partitions.
func (s *Session) Resume(parts []Partition) { s.gts.Client().ResumeFetchPartitions(byTopic(parts)) }

func byTopic(parts []Partition) map[string][]int32 {
	out := map[string][]int32{}
	for _, p := range parts {
		out[p.Topic] = append(out[p.Topic], p.Number)
	}
	return out
}

// Poll returns what has been fetched, or nothing when ctx ends. From here to Release the
// group takes no partition away.
func (s *Session) Poll(ctx context.Context, most int) (kgo.Fetches, error) {
	fetches := s.gts.PollRecords(ctx, most)
	var errs []error
	fetches.EachError(func(topic string, partition int32, err error) {
		switch {
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		case errors.Is(err, kgo.ErrClientClosed):
			errs = append(errs, err)
		case topic == "": // of the group, not of a partition
			errs = append(errs, fmt.Errorf("kafka: group %q: %w", s.cfg.Group, err))
		default:
			errs = append(errs, fmt.Errorf("kafka: topic %s partition %d: %w", topic, partition, err))
		}
	})
	return fetches, errors.Join(errs...)
}

// Release lets the group rebalance.
func (s *Session) Release() { s.gts.AllowRebalance() }

// Begin begins a transaction.
func (s *Session) Begin() error {
	s.mu.Lock()
	s.failed = nil
	s.mu.Unlock()
	if err := s.gts.Begin(); err != nil {
		return fmt.Errorf("kafka: begin a transaction: %w", err)
	}
	return nil
}

// Produce writes a record in the transaction. A record that fails keeps the transaction
// from committing. Its slices belong to the session from here on.
func (s *Session) Produce(r *kgo.Record) {
	// A context of its own: one that ends would leave the record out and go on.
	s.gts.Produce(context.Background(), r, func(r *kgo.Record, err error) {
		if err == nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.failed == nil {
			s.failed = fmt.Errorf("kafka: topic %s: %w", r.Topic, err)
		}
	})
}

// Commit ends the transaction with the offsets that were processed. Only true says that
// it has committed (invariant K3): after anything else the caller drops what it computed
// and calls Rewind, or Close where that fails.
func (s *Session) Commit(ctx context.Context, offsets map[Partition]Offset) (bool, error) {
	if err := s.gts.Client().Flush(ctx); err != nil {
		return false, fmt.Errorf("kafka: write the records of a transaction: %w", err)
	}
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	if failed != nil {
		// A commit would take in what was written and say nothing of what was not.
		_, err := s.gts.End(ctx, kgo.TryAbort)
		return false, errors.Join(failed, err)
	}
	committed, err := s.gts.End(kgo.PreTxnCommitFnContext(ctx, func(req *kmsg.TxnOffsetCommitRequest) error {
		setOffsets(req, offsets)
		return nil
	}), kgo.TryCommit)
	if err != nil {
		return false, fmt.Errorf("kafka: commit: %w", err)
	}
	if committed {
		s.mu.Lock()
		for p, o := range offsets {
			if own := s.owned[p]; own != nil {
				own.offset = o
			}
		}
		s.mu.Unlock()
	}
	return committed, nil
}

// setOffsets makes a commit one of what was processed, where the client would commit all
// that was polled.
func setOffsets(req *kmsg.TxnOffsetCommitRequest, offsets map[Partition]Offset) {
	byTopic := map[string]*kmsg.TxnOffsetCommitRequestTopic{}
	var order []string
	ids := map[string][16]byte{}
	for i := range req.Topics {
		ids[req.Topics[i].Topic] = req.Topics[i].TopicID
	}
	for p, o := range offsets {
		t := byTopic[p.Topic]
		if t == nil {
			topic := kmsg.NewTxnOffsetCommitRequestTopic()
			topic.Topic, topic.TopicID = p.Topic, ids[p.Topic]
			t = &topic
			byTopic[p.Topic] = t
			order = append(order, p.Topic)
		}
		part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		part.Partition, part.Offset, part.LeaderEpoch = p.Number, o.Next, o.Epoch
		part.Metadata = &o.Metadata
		t.Partitions = append(t.Partitions, part)
	}
	req.Topics = req.Topics[:0]
	for _, name := range order {
		req.Topics = append(req.Topics, *byTopic[name])
	}
}

// Abort gives the transaction up.
func (s *Session) Abort(ctx context.Context) error {
	if _, err := s.gts.End(ctx, kgo.TryAbort); err != nil {
		return fmt.Errorf("kafka: give up a transaction: %w", err)
	}
	return nil
}
