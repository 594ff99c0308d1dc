package kafka

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/topology"
)

// What a task sends to a partition of an exchange whose task runs on the same member is
// handed over within the process and never written to the topic: the task behind the
// exchange takes it in the same cycle, and inputs, changelogs and outputs of both commit in
// one transaction. The topic carries what crosses members.
//
// Order is that of the topic, since what is handed over waits until the reader has
// processed the topic up to an offset behind everything that a task of this member, or a
// former owner of its inputs, may have written there (handover.until): the high watermark,
// read after the committed offsets of all inputs of this member were, stable. (The last
// stable offset would not do: a transaction whose offsets have their marker may lack that
// of the topic still.) What waits when the cycle commits is written to the topic after
// all, and until grows behind it.

// maxHanded bounds what is handed over to a task in one transaction, in bytes of records:
// what comes after that goes to the topic.
const maxHanded = 16 << 20

// unknown is handover.until before the topic's end was asked for.
const unknown = -1

// handover is what a partition of an exchange is given by tasks of its own member.
type handover struct {
	// until is the offset that the reader has to come to first.
	until int64
	// waiting are records that were handed over and are not processed.
	waiting []*kgo.Record
	bytes   int // handed over in this transaction
	// written is the newest record that this member has written to the topic in this transaction.
	written *kgo.Record
	// taken counts the records processed in this transaction.
	taken int
}

// reached reports whether the reader is at what was handed over.
func (b *buffer) reached() bool {
	h := &b.handover
	return h.until != unknown && b.at == len(b.records) && max(b.next.Next, 0) >= h.until
}

// takeHanded removes the head where it was handed over.
func (b *buffer) takeHanded() {
	h := &b.handover
	h.waiting[0] = nil
	h.waiting = h.waiting[1:]
	h.taken++
	if b.next.Next < 0 {
		b.next.Next = 0 // so that there is an offset to keep the task's metadata with
	}
}

// forward hands a record of an exchange over to its task, or writes it to the topic.
func (e *Engine) forward(from *subTopology, x *topology.Exchange, r *kgo.Record) {
	b := e.readerHere(from, x, r.Partition)
	if b == nil {
		e.session.Produce(r)
		return
	}
	h := &b.handover
	h.bytes += len(r.Key) + len(r.Value)
	switch {
	case h.until == unknown || h.written != nil:
		e.write(b, r)
	case h.bytes > maxHanded:
		e.writeWaiting(b)
		e.write(b, r)
	default:
		h.waiting = append(h.waiting, r)
	}
}

// readerHere returns the buffer of a partition of an exchange if its task is this member's,
// and runs after that of the sub-topology that feeds it.
func (e *Engine) readerHere(from *subTopology, x *topology.Exchange, partition int32) *buffer {
	to := e.readers[x]
	if to.number <= from.number || !to.handedTo {
		return nil
	}
	r := e.tasks[taskID{to.number, partition}]
	if r == nil || !r.ready {
		return nil
	}
	i := slices.IndexFunc(r.inputs, func(b *buffer) bool { return b.input.exchange == x })
	return r.inputs[i]
}

// write writes a record to the topic although its task is here.
func (e *Engine) write(b *buffer, r *kgo.Record) {
	b.handover.written = r
	e.session.Produce(r)
}

// writeWaiting writes what waits: nothing that was handed over outlives the transaction
// (invariant K14).
func (e *Engine) writeWaiting(b *buffer) {
	for _, r := range b.handover.waiting {
		e.write(b, r)
	}
	b.handover.waiting = nil
}

// drain processes what was handed over to a task, as the cycle ends, and writes what its
// reader has not come to.
func (e *Engine) drain(r *taskRun) error {
	if !r.sub.handedTo {
		return nil
	}
	for {
		var first *buffer
		handed := false
		for _, b := range r.inputs {
			h := b.head()
			if h == nil {
				continue
			}
			handed = handed || b.at == len(b.records)
			if first == nil || before(h, b, first.head(), first) {
				first = b
			}
		}
		if !handed {
			break
		}
		if err := r.feed(first, first.head()); err != nil {
			return err
		}
		first.take()
	}
	for _, b := range r.inputs {
		e.writeWaiting(b)
	}
	return nil
}

// openHandovers asks where the topics end of which that is not known: after tasks have come
// or gone, and after a transaction that did not commit. Without an answer records go to
// the topics, and it is asked again.
func (e *Engine) openHandovers(ctx context.Context) {
	var parts []kafka.Partition
	var buffers []*buffer
	for _, r := range e.tasks {
		if !r.ready || !r.sub.handedTo {
			continue
		}
		for _, b := range r.inputs {
			if b.handover.until == unknown {
				parts, buffers = append(parts, b.partition), append(buffers, b)
			}
		}
	}
	now := time.Now()
	if len(parts) == 0 || e.throughTopics || now.Before(e.handoverNext) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	ends, err := e.session.Ends(ctx, parts)
	if err != nil {
		e.handoverNext = now.Add(askTimeout)
		e.log.Debug("the ends of exchanges are not known; what goes through them is written", "error", err)
		return
	}
	for _, b := range buffers {
		b.handover.until = ends[b.partition]
	}
}

// closeHandovers has what goes through exchanges written until the topics' ends are known anew.
func (e *Engine) closeHandovers() {
	e.handoverNext = time.Time{}
	for _, r := range e.tasks {
		for _, b := range r.inputs {
			b.handover.until = unknown
		}
	}
}

// handedOver is called when a transaction has committed.
func (b *buffer) handedOver() {
	h := &b.handover
	if h.written != nil && h.until != unknown {
		h.until = max(h.until, h.written.Offset+1)
	}
	h.bytes, h.written, h.taken = 0, nil, 0
}
