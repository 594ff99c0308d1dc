package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tailrace/tailrace/changelog"
)

// What a fetch asks for. While one answer is applied, the next is under way.
const (
	fetchBytes          = 8 << 20
	fetchPartitionBytes = 4 << 20
	fetchWait           = 500 * time.Millisecond
)

// logReader reads partitions in rounds: one fetch of each leader, side by side.
type logReader struct {
	log    *Log
	parts  []*readPart
	byID   map[changelog.TopicID]string
	cancel context.CancelFunc
	rounds chan round
	done   chan struct{}
}

// readPart is a partition and where its reading stands.
type readPart struct {
	changelog.Position
	leader int32 // -1 if it has to be looked up
}

type round struct {
	chunks []changelog.Chunk
	err    error
}

// Read implements changelog.Log.
func (l *Log) Read(_ context.Context, from []changelog.Position) (changelog.Reader, error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &logReader{
		log: l, byID: map[changelog.TopicID]string{}, cancel: cancel,
		rounds: make(chan round), done: make(chan struct{}),
	}
	for _, at := range from {
		r.byID[at.ID] = at.Topic
		r.parts = append(r.parts, &readPart{Position: at, leader: -1})
	}
	go r.run(ctx)
	return r, nil
}

// Next implements changelog.Reader.
func (r *logReader) Next(ctx context.Context) ([]changelog.Chunk, error) {
	select {
	case got, ok := <-r.rounds:
		if !ok {
			return nil, errors.New("kafka: the reader has failed before or is closed")
		}
		return got.chunks, got.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close implements changelog.Reader.
func (r *logReader) Close() {
	r.cancel()
	for range r.rounds { // what has been read and nobody wants
	}
	<-r.done
}

// run reads round after round until the context ends or an error does not pass.
func (r *logReader) run(ctx context.Context) {
	defer close(r.done)
	defer close(r.rounds)
	for {
		var got round
		got.err = retry(ctx, func() (err error) {
			got.chunks, err = r.round(ctx)
			return err
		})
		select {
		case <-ctx.Done():
			return
		case r.rounds <- got:
		}
		if got.err != nil {
			return
		}
	}
}

// round fetches once from every leader. A leader that fails costs its partitions' chunks
// only, unless nothing else came.
func (r *logReader) round(ctx context.Context) ([]changelog.Chunk, error) {
	if err := r.findLeaders(ctx); err != nil {
		return nil, err
	}
	var leaders []int32
	for _, p := range r.parts {
		if !slices.Contains(leaders, p.leader) {
			leaders = append(leaders, p.leader)
		}
	}
	results := make([]round, len(leaders))
	var wait sync.WaitGroup
	for i, leader := range leaders {
		wait.Go(func() { results[i].chunks, results[i].err = r.fetch(ctx, leader) })
	}
	wait.Wait()
	var chunks []changelog.Chunk
	var errs []error
	for i := range results {
		chunks = append(chunks, results[i].chunks...)
		if err := results[i].err; err != nil {
			errs = append(errs, err)
			r.forget(leaders[i])
			if !passes(err) {
				return nil, err
			}
		}
	}
	if len(chunks) == 0 {
		return nil, errors.Join(errs...)
	}
	return chunks, nil
}

// forget has the leaders of a broker's partitions looked up again.
func (r *logReader) forget(leader int32) {
	for _, p := range r.parts {
		if p.leader == leader {
			p.leader = -1
		}
	}
}

// findLeaders looks up the leaders that are not known, and compares the topics' ids.
func (r *logReader) findLeaders(ctx context.Context) error {
	var names []string
	for _, p := range r.parts {
		if p.leader < 0 && !slices.Contains(names, p.Topic) {
			names = append(names, p.Topic)
		}
	}
	if len(names) == 0 {
		return nil
	}
	details, err := r.log.admin.ListTopics(ctx, names...)
	if err != nil {
		return err
	}
	for _, p := range r.parts {
		if p.leader >= 0 {
			continue
		}
		d, ok := details[p.Topic]
		if !ok || d.Err != nil {
			if err = d.Err; !ok {
				err = kerr.UnknownTopicOrPartition
			}
			return &changelog.PartitionError{Partition: p.Partition, Err: gone(err)}
		}
		if changelog.TopicID(d.ID) != p.ID {
			return &changelog.PartitionError{Partition: p.Partition, Err: changelog.ErrRecreated}
		}
		detail, ok := d.Partitions[p.Number]
		if !ok || detail.Err != nil || detail.Leader < 0 {
			return &changelog.PartitionError{Partition: p.Partition, Err: kerr.LeaderNotAvailable}
		}
		p.leader = detail.Leader
	}
	return nil
}

// gone translates the answer of a cluster that does not have a topic (any more): the
// metadata comes from the cluster's controller, so that this does not pass.
func gone(err error) error {
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return changelog.ErrNoTopic
	}
	return err
}

// fetch reads once from a leader. What was lost with an error is read again.
func (r *logReader) fetch(ctx context.Context, leader int32) ([]changelog.Chunk, error) {
	resp, err := r.log.cl.Broker(int(leader)).Request(ctx, r.request(leader))
	if err != nil {
		return nil, err
	}
	fetched, ok := resp.(*kmsg.FetchResponse)
	if !ok {
		return nil, fmt.Errorf("answer of type %T", resp)
	}
	if err := kerr.ErrorForCode(fetched.ErrorCode); err != nil {
		return nil, err
	}
	var chunks []changelog.Chunk
	for i := range fetched.Topics {
		t := &fetched.Topics[i]
		name := t.Topic
		if name == "" {
			name = r.byID[t.TopicID]
		}
		for j := range t.Partitions {
			p := r.part(name, t.Partitions[j].Partition)
			if p == nil {
				continue
			}
			chunk, err := r.chunk(p, &t.Partitions[j])
			if err != nil {
				// What came with the others is kept; the error comes again.
				if len(chunks) > 0 && passes(err) {
					p.leader = -1
					continue
				}
				return nil, err
			}
			chunks = append(chunks, chunk)
		}
	}
	return chunks, nil
}

func (r *logReader) part(topic string, number int32) *readPart {
	for _, p := range r.parts {
		if p.Topic == topic && p.Number == number {
			return p
		}
	}
	return nil
}

func (r *logReader) request(leader int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis = int32(fetchWait / time.Millisecond)
	req.MinBytes, req.MaxBytes = 1, fetchBytes
	req.IsolationLevel = 1
	places := map[string]int{}
	for _, p := range r.parts {
		if p.leader != leader {
			continue
		}
		place, ok := places[p.Topic]
		if !ok {
			place = len(req.Topics)
			places[p.Topic] = place
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.TopicID = p.Topic, p.ID
			req.Topics = append(req.Topics, t)
		}
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = p.Number, p.Next, fetchPartitionBytes
		req.Topics[place].Partitions = append(req.Topics[place].Partitions, rp)
	}
	return req
}

// chunk reads one partition of an answer and moves on behind it.
func (r *logReader) chunk(
	p *readPart, resp *kmsg.FetchResponseTopicPartition,
) (changelog.Chunk, error) {
	err := kerr.ErrorForCode(resp.ErrorCode)
	if errors.Is(err, kerr.OffsetOutOfRange) {
		err = changelog.ErrOutOfRange
	}
	if err == nil {
		b := batchReader{decompressor: r.log.decompressor, next: p.Next, epoch: p.Epoch}
		if err = b.read(resp); err == nil {
			p.Next, p.Epoch = b.next, b.epoch
			return changelog.Chunk{
				Partition: p.Partition, Records: b.records, Next: b.next, Epoch: b.epoch,
				Stable: resp.LastStableOffset,
			}, nil
		}
	}
	return changelog.Chunk{}, &changelog.PartitionError{Partition: p.Partition, Err: err}
}
