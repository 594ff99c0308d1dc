package postgres

import (
	"sync"
	"sync/atomic"

	"github.com/tailrace/tailrace/record"
)

// Sizes of the memory that rows live in.
const (
	blockBytes  = 256 << 10
	chunkValues = 4096
)

// block is memory that bytes are read into and that rows alias. It goes back to the
// pool when neither the connection nor a batch uses it any more.
type block struct {
	buf  []byte
	refs atomic.Int32
}

var blockPool = sync.Pool{New: func() any { return &block{buf: make([]byte, blockBytes)} }}

// newBlock returns a block of at least size bytes with one reference.
func newBlock(size int) *block {
	if size > blockBytes {
		b := &block{buf: make([]byte, size)}
		b.refs.Store(1)
		return b
	}
	b := blockPool.Get().(*block)
	b.refs.Store(1)
	return b
}

func (b *block) retain() { b.refs.Add(1) }

func (b *block) release() {
	switch n := b.refs.Add(-1); {
	case n == 0 && len(b.buf) == blockBytes:
		blockPool.Put(b)
	case n < 0:
		panic("postgres: a batch was released twice")
	}
}

// chunk is memory for the values of tuples, shared like a block.
type chunk struct {
	vals []record.Value
	used int
	refs atomic.Int32
}

var chunkPool = sync.Pool{New: func() any { return &chunk{vals: make([]record.Value, chunkValues)} }}

// newChunk returns a chunk with room for n values and one reference.
func newChunk(n int) *chunk {
	var c *chunk
	if n > chunkValues {
		c = &chunk{vals: make([]record.Value, n)}
	} else {
		c = chunkPool.Get().(*chunk)
	}
	c.used = 0
	c.refs.Store(1)
	return c
}

func (c *chunk) room(n int) bool { return len(c.vals)-c.used >= n }

// take returns n values, which hold anything until they are set.
func (c *chunk) take(n int) []record.Value {
	v := c.vals[c.used : c.used+n : c.used+n]
	c.used += n
	return v
}

func (c *chunk) retain() { c.refs.Add(1) }

func (c *chunk) release() {
	switch n := c.refs.Add(-1); {
	case n == 0 && len(c.vals) == chunkValues:
		// The values would keep their blocks alive for the collector.
		clear(c.vals[:c.used])
		chunkPool.Put(c)
	case n < 0:
		panic("postgres: a batch was released twice")
	}
}
