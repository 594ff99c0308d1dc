package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// rawReceiver is the least that a client of the replication protocol can do: take
// each message off the wire, see what it is, and keep the connection alive. It reads
// as the PostgreSQL source does, in large reads, and lets more gather where data comes
// fast in small pieces: reading one message at a time costs both sides twice as much
// and would be a floor that is easy to beat.
type rawReceiver struct {
	conn      net.Conn
	slot      string
	serverPID uint32
	commits   int
	changes   int64
	last      []byte // the last message's pgoutput part, valid until the next

	buf     []byte
	r, w    int // buf[r:w] has been read and not yet been looked at
	fast    int // small reads that came fast, in a row
	readAt  time.Time
	replyAt time.Time
}

// Pacing of reads, as in sources/postgres.
const (
	rawBuffer = 256 << 10
	fastRead  = 100 * time.Microsecond
	smallRead = 16 << 10
	tinyRead  = 512
	fastReads = 8
	nap       = time.Millisecond
)

func dialRaw(ctx context.Context, shop *shop, slot string) (*rawReceiver, error) {
	config, err := pgconn.ParseConfig(shop.url)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	pid := conn.PID()
	if err := conn.SyncConn(ctx); err != nil {
		return nil, err
	}
	hijacked, err := conn.Hijack()
	if err != nil {
		return nil, err
	}
	return &rawReceiver{conn: hijacked.Conn, slot: slot, serverPID: pid, buf: make([]byte, rawBuffer)}, nil
}

func (r *rawReceiver) close() { _ = r.conn.Close() }

func (r *rawReceiver) start(context.Context) error {
	query := &pgproto3.Query{String: "START_REPLICATION SLOT " + pgx.Identifier{r.slot}.Sanitize() +
		" LOGICAL 0/0 (proto_version '1', publication_names 'shop')"}
	if err := r.send(query); err != nil {
		return err
	}
	for {
		kind, body, err := r.message()
		switch {
		case err != nil:
			return err
		case kind == 'W':
			return nil
		case kind == 'E':
			return serverError(body)
		}
	}
}

func serverError(body []byte) error {
	var failed pgproto3.ErrorResponse
	if err := failed.Decode(body); err != nil {
		return err
	}
	return pgconn.ErrorResponseToPgError(&failed)
}

// xLogDataHeader is start, end and time before the plugin's message; see "Streaming
// Replication Protocol" in PostgreSQL's manual.
const xLogDataHeader = 1 + 3*8

// next takes one message and counts it.
func (r *rawReceiver) next() error {
	kind, body, err := r.message()
	switch {
	case err != nil:
		return err
	case kind == 'E':
		return serverError(body)
	case kind != 'd':
		return fmt.Errorf("unexpected message %q", kind)
	}
	r.last = nil
	switch body[0] {
	case pglogrepl.XLogDataByteID:
		r.last = body[xLogDataHeader:]
		switch pglogrepl.MessageType(r.last[0]) {
		case pglogrepl.MessageTypeInsert, pglogrepl.MessageTypeUpdate, pglogrepl.MessageTypeDelete:
			r.changes++
		case pglogrepl.MessageTypeCommit:
			r.commits++
		}
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		if body[len(body)-1] == 1 {
			return r.reply()
		}
	}
	return nil
}

// message returns the next message of the protocol, in place.
func (r *rawReceiver) message() (kind byte, body []byte, err error) {
	for {
		have := r.buf[r.r:r.w]
		if len(have) >= 5 {
			n := 1 + int(binary.BigEndian.Uint32(have[1:]))
			if n > len(r.buf) {
				return 0, nil, fmt.Errorf("a message of %d bytes", n)
			}
			if n <= len(have) {
				r.r += n
				return have[0], have[5:n], nil
			}
		}
		if err := r.fill(); err != nil {
			return 0, nil, err
		}
	}
}

// fill reads once.
func (r *rawReceiver) fill() error {
	if r.fast >= fastReads {
		lowWater(r.conn, smallRead)
		time.Sleep(nap)
		lowWater(r.conn, 1)
	}
	r.w = copy(r.buf, r.buf[r.r:r.w])
	r.r = 0
	n, err := r.conn.Read(r.buf[r.w:])
	if err != nil {
		return err
	}
	r.w += n
	now := time.Now()
	switch {
	case n >= smallRead, r.fast >= fastReads && n < tinyRead:
		r.fast = 0
	case r.fast < fastReads && now.Sub(r.readAt) < fastRead:
		r.fast++
	case r.fast < fastReads:
		r.fast = 0
	}
	r.readAt = now
	if now.After(r.replyAt) {
		return r.reply()
	}
	return nil
}

// reply says that we live and have nothing to confirm.
func (r *rawReceiver) reply() error {
	r.replyAt = time.Now().Add(5 * time.Second)
	status := make([]byte, 1+3*8+8+1)
	status[0] = pglogrepl.StandbyStatusUpdateByteID
	binary.BigEndian.PutUint64(status[25:], uint64(time.Since(postgresEpoch).Microseconds()))
	return r.send(&pgproto3.CopyData{Data: status})
}

func (r *rawReceiver) send(message pgproto3.FrontendMessage) error {
	encoded, err := message.Encode(nil)
	if err != nil {
		return err
	}
	_, err = r.conn.Write(encoded)
	return err
}

var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (r *rawReceiver) serverCPU() time.Duration { return pidCPU(r.serverPID) }
