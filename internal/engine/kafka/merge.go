package kafka

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// buffer holds what was polled of one partition and has not been processed.
type buffer struct {
	input     *input
	partition kafka.Partition
	decoder   sources.TopicDecoder
	parts     []*part // those that read it
	// committed is what the group holds, next what a commit would make of it.
	committed, next kafka.Offset
	records         []*kgo.Record // from at on
	at              int
	// polled is behind the last record polled, stable up to where the broker could have
	// delivered when that was asked last.
	polled, stable int64
	// missing is since when others wait for records that the broker holds; zero if none do.
	missing time.Time
	// handover is of exchanges.
	handover handover

	aside setAside

	txs    []record.Tx // a slab
	source sources.TopicRecord
}

func newBuffer(in *input, p kafka.Partition, d sources.TopicDecoder, o kafka.Offset) *buffer {
	b := &buffer{input: in, partition: p, decoder: d, committed: o}
	b.source.Topic, b.source.Partition = p.Topic, p.Number
	b.reset()
	return b
}

// reset goes back to the committed offset.
func (b *buffer) reset() {
	b.next, b.polled = b.committed, max(b.committed.Next, 0)
	b.records, b.at, b.missing, b.aside = nil, 0, time.Time{}, setAside{}
	b.handover = handover{until: unknown}
}

// add takes what was polled.
func (b *buffer) add(p kgo.FetchPartition) {
	if b.at > 0 {
		b.records = append(b.records[:0:0], b.records[b.at:]...)
		b.at = 0
	}
	b.stable = max(b.stable, p.LastStableOffset)
	for _, r := range p.Records {
		if r.Offset < b.polled {
			continue // a heartbeat that another task of the member lacked
		}
		b.polled = r.Offset + 1
		b.records = append(b.records, r)
	}
	b.skipMarkers()
}

// skipMarkers moves past the ends of transactions, which are polled only so that it is
// known that nothing is missing before them.
func (b *buffer) skipMarkers() {
	for b.at < len(b.records) && b.records[b.at].Attrs.IsControl() {
		b.pass(b.records[b.at])
	}
}

func (b *buffer) pass(r *kgo.Record) {
	b.next.Next, b.next.Epoch = r.Offset+1, r.LeaderEpoch
	b.records[b.at] = nil
	b.at++
}

func (b *buffer) head() *kgo.Record {
	if b.at < len(b.records) {
		return b.records[b.at]
	}
	if len(b.handover.waiting) > 0 && b.reached() {
		return b.handover.waiting[0]
	}
	return nil
}

// take removes the head.
func (b *buffer) take() {
	if b.at == len(b.records) {
		b.takeHanded()
		return
	}
	b.pass(b.records[b.at])
	b.skipMarkers()
}

// record is a polled record as decoders take it.
func (b *buffer) record(r *kgo.Record) *sources.TopicRecord {
	s := &b.source
	s.Offset, s.Time, s.Key, s.Value = r.Offset, r.Timestamp.UnixMicro(), r.Key, r.Value
	s.Headers = s.Headers[:0]
	for _, h := range r.Headers {
		s.Headers = append(s.Headers, sources.TopicHeader(h))
	}
	return s
}

// newTx returns a transaction of a slab.
func (b *buffer) newTx() *record.Tx {
	if len(b.txs) == 0 {
		b.txs = make([]record.Tx, 256)
	}
	tx := &b.txs[0]
	b.txs = b.txs[1:]
	return tx
}

// nextInput returns the input whose head is processed next: that of the smallest
// timestamp, of equal ones a table's before a stream's and heartbeats last, then by topic.
// It returns nil where there is none, or where it is to be waited for an input that may hold
// records which have not come yet, but not for longer than patience.
//
// An empty buffer says nothing by itself: the broker that leads it may not have answered
// yet while another one delivered. What may be processed is known only once the ends of the
// inputs were asked for after the newest record came (see Engine.ask): then all that was
// committed before that record is here.
func (r *taskRun) nextInput(now time.Time, patience time.Duration) *buffer {
	var first *buffer
	for _, b := range r.all {
		if h := b.head(); h != nil && (first == nil || before(h, b, first.head(), first)) {
			first = b
		}
	}
	if first == nil {
		return nil
	}
	for _, b := range r.all {
		if b.head() != nil || r.asked && b.polled >= b.stable {
			b.missing = time.Time{}
			continue
		}
		if b.missing.IsZero() {
			b.missing = now
		}
		if now.Sub(b.missing) < patience {
			return nil
		}
	}
	return first
}

// unasked adds the inputs whose ends have to be known before the task goes on: all of
// several where one has a record, since each of them may be the next without.
func (r *taskRun) unasked(parts []kafka.Partition) []kafka.Partition {
	if r.asked || len(r.all) == 1 || !r.holds() {
		return parts
	}
	for _, b := range r.all {
		parts = append(parts, b.partition)
	}
	return parts
}

// holds reports whether a record waits to be processed.
func (r *taskRun) holds() bool {
	return slices.ContainsFunc(r.all, func(b *buffer) bool { return b.head() != nil })
}

func before(a *kgo.Record, inA *buffer, b *kgo.Record, inB *buffer) bool {
	if c := a.Timestamp.Compare(b.Timestamp); c != 0 {
		return c < 0
	}
	return inA.input.rank() < inB.input.rank()
}
