package postgres

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// Bounds of a batch: beyond them the reader waits for Next.
const (
	maxBatchBytes = 4 << 20
	maxBatchRows  = 16 << 10
)

// batch collects rows for one Batch. Rows lie in one slice for all transactions, so
// that a full batch costs no allocation once the pool is warm.
type batch struct {
	spans  []span
	rows   []record.Row
	msgs   []record.Message
	blocks []*block
	chunks []*chunk
	// bytes is the size of the messages the rows came in.
	bytes int
	// idle is the frontier, 0 where unknown.
	idle uint64
	// caughtUp says that the server had nothing more behind what is in here.
	caughtUp bool
	out      []sources.TxRows
}

// span is the part of a transaction that lies in a batch.
type span struct {
	tx         *record.Tx
	rows, msgs int // where the part begins
	last       bool
}

func (b *batch) empty() bool { return len(b.spans) == 0 && b.idle == 0 }

func (b *batch) full() bool {
	return b.bytes >= maxBatchBytes || len(b.rows)+len(b.msgs) >= maxBatchRows
}

// open reports whether the batch ends inside a transaction.
func (b *batch) open() bool { return len(b.spans) > 0 && !b.spans[len(b.spans)-1].last }

// hold keeps a block for as long as the batch lives.
func (b *batch) hold(blk *block) {
	if n := len(b.blocks); n == 0 || b.blocks[n-1] != blk {
		blk.retain()
		b.blocks = append(b.blocks, blk)
	}
}

// tuple returns n values that live as long as the batch.
func (b *batch) tuple(n int) []record.Value {
	if k := len(b.chunks); k == 0 || !b.chunks[k-1].room(n) {
		b.chunks = append(b.chunks, newChunk(n))
	}
	return b.chunks[len(b.chunks)-1].take(n)
}

// begin opens a part of a transaction.
func (b *batch) begin(tx *record.Tx) {
	b.spans = append(b.spans, span{tx: tx, rows: len(b.rows), msgs: len(b.msgs)})
	b.caughtUp = false
}

// splitTail moves the open transaction at the end to next, when something stands before
// it: that need not wait for it, and it arrives in larger pieces.
func (b *batch) splitTail(next *batch) {
	if !b.open() || len(b.spans) == 1 && (b.idle == 0 || b.full()) {
		return
	}
	tail := b.spans[len(b.spans)-1]
	next.begin(tail.tx)
	next.rows = append(next.rows, b.rows[tail.rows:]...)
	next.msgs = append(next.msgs, b.msgs[tail.msgs:]...)
	// Which of them the tail uses isn't worth knowing: they are few.
	for _, blk := range b.blocks {
		blk.retain()
	}
	for _, c := range b.chunks {
		c.retain()
	}
	next.blocks = append(next.blocks, b.blocks...)
	next.chunks = append(next.chunks, b.chunks...)
	clear(b.rows[tail.rows:])
	clear(b.msgs[tail.msgs:])
	b.rows, b.msgs = b.rows[:tail.rows], b.msgs[:tail.msgs]
	b.spans = b.spans[:len(b.spans)-1]
}

// dropTail forgets the open transaction's rows in this batch.
func (b *batch) dropTail() {
	if !b.open() {
		return
	}
	tail := b.spans[len(b.spans)-1]
	clear(b.rows[tail.rows:])
	clear(b.msgs[tail.msgs:])
	b.rows, b.msgs = b.rows[:tail.rows], b.msgs[:tail.msgs]
	b.spans = b.spans[:len(b.spans)-1]
}

// seal gives the batch its public form. recycle is called once by its reader.
func (b *batch) seal(recycle func(*batch)) *sources.Batch {
	b.out = b.out[:0]
	for i, s := range b.spans {
		rowEnd, msgEnd := len(b.rows), len(b.msgs)
		if i+1 < len(b.spans) {
			rowEnd, msgEnd = b.spans[i+1].rows, b.spans[i+1].msgs
		}
		t := sources.TxRows{Tx: s.tx, Last: s.last}
		if rowEnd > s.rows {
			t.Rows = b.rows[s.rows:rowEnd:rowEnd]
		}
		if msgEnd > s.msgs {
			t.Messages = b.msgs[s.msgs:msgEnd:msgEnd]
		}
		b.out = append(b.out, t)
	}
	return &sources.Batch{Txs: b.out, Idle: b.idle, CaughtUp: b.caughtUp, Release: func() {
		b.reset()
		recycle(b)
	}}
}

// reset gives all memory back.
func (b *batch) reset() {
	for _, blk := range b.blocks {
		blk.release()
	}
	for _, c := range b.chunks {
		c.release()
	}
	clear(b.blocks)
	clear(b.chunks)
	clear(b.rows)
	clear(b.msgs)
	clear(b.spans)
	clear(b.out)
	*b = batch{spans: b.spans[:0], rows: b.rows[:0], msgs: b.msgs[:0],
		blocks: b.blocks[:0], chunks: b.chunks[:0], out: b.out[:0]}
}
