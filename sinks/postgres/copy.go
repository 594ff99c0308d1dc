package postgres

import (
	"bytes"
	"context"
)

// copyChunkBytes is how much a COPY statement carries. A load is many of them in one
// transaction: each is cheap, and none needs a goroutine between the epoch and the
// socket.
const copyChunkBytes = 1 << 20

// loader streams rows into a table with COPY.
type loader struct {
	table *table
	sql   string
	buf   []byte
	// staged says that the rows go into a staging table.
	staged bool
	// rows counts what was loaded.
	rows int64
}

func (l *loader) put(values [][]byte) {
	for i, v := range values {
		if i > 0 {
			l.buf = append(l.buf, '\t')
		}
		l.buf = appendCopyText(l.buf, v)
	}
	l.buf = append(l.buf, '\n')
	l.rows++
}

func (l *loader) full() bool { return len(l.buf) >= copyChunkBytes }

func (l *loader) flush(ctx context.Context, t *transaction) error {
	if len(l.buf) == 0 {
		return nil
	}
	_, err := t.w.conn.PgConn().CopyFrom(ctx, bytes.NewReader(l.buf), l.sql)
	l.buf = l.buf[:0]
	return t.w.wrap("loading", l.table, err)
}

// appendCopyText appends a value in COPY's text format, where nil is NULL.
func appendCopyText(buf, v []byte) []byte {
	if v == nil {
		return append(buf, '\\', 'N')
	}
	from := 0
	for i, c := range v {
		var escaped byte
		switch c {
		case '\\':
			escaped = '\\'
		case '\n':
			escaped = 'n'
		case '\r':
			escaped = 'r'
		case '\t':
			escaped = 't'
		default:
			continue
		}
		buf = append(append(buf, v[from:i]...), '\\', escaped)
		from = i + 1
	}
	return append(buf, v[from:]...)
}
