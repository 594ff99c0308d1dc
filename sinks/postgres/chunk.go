package postgres

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgtype"
)

// Bounds of what an Apply holds in memory before it is sent: rows of one table, and
// bytes of values of all tables.
const (
	maxChunkRows  = 16 << 10
	maxChunkBytes = 4 << 20
)

// chunk collects rows of one table by key; the last one of a key wins. Its memory is
// used again from chunk to chunk.
type chunk struct {
	width, keyLen int
	index         map[string]int32
	rows          []chunkRow
	cells         []cell
	arena         []byte
}

type chunkRow struct {
	deleted bool
	// mask has bit i set where key column i is NULL.
	mask uint32
}

// cell is where a value lies in the arena; n is -1 for NULL.
type cell struct{ off, n int32 }

func newChunk(width, keyLen int) *chunk {
	return &chunk{width: width, keyLen: keyLen, index: map[string]int32{}}
}

// put takes a row, or for a deleted one its key columns. It returns how many bytes the
// chunk grew by.
func (c *chunk) put(key []byte, values [][]byte, deleted bool) int {
	at, ok := c.index[string(key)]
	if !ok {
		at = int32(len(c.rows))
		c.index[string(key)] = at
		c.rows = append(c.rows, chunkRow{})
		for range c.width {
			c.cells = append(c.cells, cell{n: -1})
		}
	}
	before := len(c.arena)
	row := chunkRow{deleted: deleted}
	cells := c.cells[int(at)*c.width:][:c.width]
	for i, v := range values {
		if v == nil {
			cells[i] = cell{n: -1}
			if i < c.keyLen {
				row.mask |= 1 << i
			}
			continue
		}
		cells[i] = cell{off: int32(len(c.arena)), n: int32(len(v))}
		c.arena = append(c.arena, v...)
	}
	c.rows[at] = row
	return len(c.arena) - before
}

func (c *chunk) reset() {
	clear(c.index)
	c.rows, c.cells, c.arena = c.rows[:0], c.cells[:0], c.arena[:0]
	if cap(c.arena) > 4*maxChunkBytes {
		c.arena = nil // one giant row should not be paid for ever after
	}
}

// groups returns the kinds of rows in the chunk, deletes first, so that a row may take
// over a unique value that another gives up.
func (c *chunk) groups() []chunkRow {
	var kinds []chunkRow
	for _, deleted := range []bool{true, false} {
		for i := range c.rows {
			if r := c.rows[i]; r.deleted == deleted && !has(kinds, r) {
				kinds = append(kinds, r)
			}
		}
	}
	return kinds
}

func has(kinds []chunkRow, r chunkRow) bool {
	for _, k := range kinds {
		if k == r {
			return true
		}
	}
	return false
}

// array appends column i of the rows of a kind as a text[] in PostgreSQL's binary form.
func (c *chunk) array(buf []byte, kind chunkRow, i int) []byte {
	buf = binary.BigEndian.AppendUint32(buf, 1) // dimensions
	buf = binary.BigEndian.AppendUint32(buf, 1) // may hold NULLs
	buf = binary.BigEndian.AppendUint32(buf, pgtype.TextOID)
	count := len(buf)
	buf = binary.BigEndian.AppendUint32(buf, 0)
	buf = binary.BigEndian.AppendUint32(buf, 1) // lower bound
	n := uint32(0)
	for j := range c.rows {
		if c.rows[j] != kind {
			continue
		}
		n++
		v := c.cells[j*c.width+i]
		buf = binary.BigEndian.AppendUint32(buf, uint32(v.n))
		if v.n >= 0 {
			buf = append(buf, c.arena[v.off:v.off+v.n]...)
		}
	}
	binary.BigEndian.PutUint32(buf[count:], n)
	return buf
}
