package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// maxMessage bounds a protocol message: PostgreSQL's own limit for a row is 1 GiB.
const maxMessage = 1<<30 + 1<<20

// minFree is the room in a block below which the next read goes to a new block.
const minFree = 16 << 10

// wire reads PostgreSQL's protocol from a connection that pgconn has set up, in reads
// as large as a block, and gives messages in place. Reading through pgconn costs eight
// times the CPU when transactions are small.
type wire struct {
	conn net.Conn
	// src is conn, or for messages that were kept aside what they were kept in.
	src io.Reader
	blk *block
	// blk.buf[r:w] has been read and not yet been handed out.
	r, w int
}

// hijack takes a connection over from pgconn, which may not be used any more.
func hijack(ctx context.Context, c *pgconn.PgConn) (*wire, error) {
	if err := c.SyncConn(ctx); err != nil {
		return nil, fmt.Errorf("postgres: take over the connection: %w", err)
	}
	h, err := c.Hijack()
	if err != nil {
		return nil, fmt.Errorf("postgres: take over the connection: %w", err)
	}
	if n := h.Frontend.ReadBufferLen(); n > 0 {
		h.Conn.Close()
		return nil, fmt.Errorf("postgres: %d unexpected bytes from the server after connecting", n)
	}
	return &wire{conn: h.Conn, src: h.Conn, blk: newBlock(blockBytes)}, nil
}

// close closes the connection and gives the block back. No other method may be in
// use, except that another goroutine may be waiting in fill, which closing conn ends.
func (c *wire) close() {
	c.conn.Close()
	if c.blk != nil {
		c.blk.release()
		c.blk = nil
	}
}

// query sends a simple query.
func (c *wire) query(sql string) error {
	buf, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	if _, err := c.conn.Write(buf); err != nil {
		return fmt.Errorf("postgres: send: %w", err)
	}
	return nil
}

// buffered returns the next message if all of it has been read.
func (c *wire) buffered() (kind byte, body []byte, ok bool, err error) {
	p := c.blk.buf[c.r:c.w]
	if len(p) < 5 {
		return 0, nil, false, nil
	}
	n, err := messageLen(p)
	if err != nil || len(p) < n {
		return 0, nil, false, err
	}
	c.r += n
	return p[0], p[5:n:n], true, nil
}

// messageLen returns the length of a message with its five-byte head.
func messageLen(head []byte) (int, error) {
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > maxMessage {
		return 0, fmt.Errorf("postgres: the server sent a message of %d bytes: %w", n, errProtocol)
	}
	return int(n) + 1, nil
}

// errProtocol says that what arrived is not PostgreSQL's protocol: the connection is
// useless, a new one may help.
var errProtocol = errors.New("not the PostgreSQL protocol")

// fill reads once. What is not handed out yet moves with it, if its block is full.
func (c *wire) fill() (int, error) {
	c.makeRoom()
	n, err := c.src.Read(c.blk.buf[c.w:])
	c.w += n
	if n > 0 {
		return n, nil
	}
	return 0, fmt.Errorf("postgres: receive: %w", err)
}

func (c *wire) makeRoom() {
	have, room := c.w-c.r, len(c.blk.buf)-c.w
	missing := minFree
	if have >= 5 {
		if n, err := messageLen(c.blk.buf[c.r:]); err == nil {
			if n > blockBytes && room >= minFree {
				return // It is going to move anyway, once this block is full.
			}
			// Doubles as bytes come: a false length alone makes no memory.
			missing = min(max(n-have, minFree), have+blockBytes)
		}
	}
	if room >= missing {
		return
	}
	// Where nobody else looks at this block, the rest moves to its front.
	if alone := c.blk.refs.Load() == 1; alone && len(c.blk.buf) == blockBytes && have+missing <= blockBytes {
		copy(c.blk.buf, c.blk.buf[c.r:c.w])
	} else {
		next := newBlock(have + missing)
		copy(next.buf, c.blk.buf[c.r:c.w])
		c.blk.release()
		c.blk = next
	}
	c.r, c.w = 0, have
}

// next returns the next message, reading as often as it takes.
func (c *wire) next() (kind byte, body []byte, err error) {
	for {
		kind, body, ok, err := c.buffered()
		if ok || err != nil {
			return kind, body, err
		}
		if _, err := c.fill(); err != nil {
			return 0, nil, err
		}
	}
}

// startCopy sends a command and reads up to the answer that begins a copy: 'W' for
// both directions, 'H' for out.
func (c *wire) startCopy(ctx context.Context, sql string, want byte) error {
	stop := c.interrupt(ctx)
	defer stop()
	if err := c.query(sql); err != nil {
		return err
	}
	for {
		kind, body, err := c.next()
		if err != nil {
			return ctxError(ctx, err)
		}
		switch kind {
		case want:
			return nil
		case 'E':
			return serverError(body)
		case 'N', 'S':
		default:
			return fmt.Errorf("postgres: message %q instead of the start of a copy: %w", kind, errProtocol)
		}
	}
}

// interrupt makes reads and writes fail once the context is done, until the function
// returned is called.
func (c *wire) interrupt(ctx context.Context) (stop func()) {
	conn, done := c.conn, make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		conn.SetDeadline(time.Unix(1, 0))
		close(done)
	})
	return func() {
		if !cancel() {
			<-done
		}
	}
}

// ctxError prefers the reason of a cancelled context over the read error it caused.
func ctxError(ctx context.Context, err error) error {
	if e := context.Cause(ctx); e != nil {
		return e
	}
	return err
}

// serverError decodes an ErrorResponse; the result is a *pgconn.PgError.
func serverError(body []byte) error {
	var m pgproto3.ErrorResponse
	if err := m.Decode(body); err != nil {
		return fmt.Errorf("postgres: error message of the server: %w", errProtocol)
	}
	return pgconn.ErrorResponseToPgError(&m)
}
