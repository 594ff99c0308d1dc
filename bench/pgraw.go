package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// size is a backlog: so many transactions of so many changes.
type size struct{ txs, changes int }

func (s size) String() string { return fmt.Sprintf("%d tx x %d", s.txs, s.changes) }

// sizes is a flag: "200000x1,10000x100".
type sizes []size

func (s *sizes) String() string {
	var parts []string
	for _, x := range *s {
		parts = append(parts, fmt.Sprintf("%dx%d", x.txs, x.changes))
	}
	return strings.Join(parts, ",")
}

// Set is for the flag package.
func (s *sizes) Set(text string) error {
	*s = nil
	for part := range strings.SplitSeq(text, ",") {
		txs, changes, found := strings.Cut(part, "x")
		n, errTxs := strconv.Atoi(txs)
		m, errChanges := strconv.Atoi(changes)
		if !found || errTxs != nil || errChanges != nil || n < 1 || m < 1 {
			return fmt.Errorf("%q is not like 10000x100, transactions x changes", part)
		}
		*s = append(*s, size{n, m})
	}
	return nil
}

func backlogFlag(flags *flag.FlagSet) *sizes {
	backlog := &sizes{{200_000, 1}, {10_000, 100}}
	flags.Var(backlog, "backlog", "sizes of the backlog, `transactions x changes`, comma-separated")
	return backlog
}

func pgrawFlags(flags *flag.FlagSet) runner {
	backlog := backlogFlag(flags)
	return func(ctx context.Context, env *environment) error {
		shop, err := newShop(ctx, env)
		if err != nil {
			return err
		}
		defer shop.close()
		for _, size := range *backlog {
			if err := pgraw(ctx, env, shop, size); err != nil {
				return err
			}
		}
		return nil
	}
}

// pgraw writes one backlog and reads it several times. Nothing is confirmed, so the
// server sends it anew each time; the writers have stopped.
func pgraw(ctx context.Context, env *environment, shop *shop, size size) error {
	const slot = "pgraw"
	if err := shop.createSlot(ctx, slot); err != nil {
		return err
	}
	before := time.Now()
	if err := shop.work(ctx, size.txs, size.changes); err != nil {
		return err
	}
	fmt.Fprintf(env.out, "  backlog %v written in %.1f s\n", size, time.Since(before).Seconds())
	for range env.runs {
		r, err := receiveBacklog(ctx, env, shop, slot, size)
		if err != nil {
			return err
		}
		env.report.add(r)
	}
	return shop.dropSlot(ctx, slot)
}

func receiveBacklog(
	ctx context.Context, env *environment, shop *shop, slot string, size size,
) (result, error) {
	r := result{Case: size.String()}
	if err := shop.awaitFree(ctx, slot); err != nil {
		return r, err
	}
	raw, err := dialRaw(ctx, shop, slot)
	if err != nil {
		return r, err
	}
	defer raw.close()
	m, err := env.startMeter()
	if err != nil {
		return r, err
	}
	if err := raw.start(ctx); err != nil {
		return r, err
	}
	for raw.commits < size.txs {
		if err := raw.next(); err != nil {
			return r, fmt.Errorf("after %d of %d transactions: %w", raw.commits, size.txs, err)
		}
	}
	m.stop(&r)
	r.Records = raw.changes
	r.OtherCPU = raw.serverCPU()
	if want := int64(size.txs) * int64(size.changes); r.Records != want {
		return r, fmt.Errorf("received %d changes, wrote %d", r.Records, want)
	}
	return r, nil
}

// rawReceiver is the least that a client of the replication protocol can do: take
// each message off the wire, see what it is, and keep the connection alive.
type rawReceiver struct {
	conn      *pgconn.PgConn
	slot      string
	frontend  *pgproto3.Frontend
	serverPID uint32
	commits   int
	changes   int64
	last      []byte // the last message's pgoutput part, valid until the next
	replyAt   time.Time
	count     uint
}

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
	return &rawReceiver{conn: conn, slot: slot, frontend: conn.Frontend(), serverPID: conn.PID()}, nil
}

func (r *rawReceiver) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = r.conn.Close(ctx)
}

func (r *rawReceiver) start(ctx context.Context) error {
	return pglogrepl.StartReplication(ctx, r.conn, r.slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names 'shop'"},
	})
}

// xLogDataHeader is start, end and time before the plugin's message; see "Streaming
// Replication Protocol" in PostgreSQL's manual.
const xLogDataHeader = 1 + 3*8

// next takes one message and counts it.
func (r *rawReceiver) next() error {
	message, err := r.frontend.Receive()
	if err != nil {
		return err
	}
	data, ok := message.(*pgproto3.CopyData)
	if !ok {
		if failed, ok := message.(*pgproto3.ErrorResponse); ok {
			return pgconn.ErrorResponseToPgError(failed)
		}
		return fmt.Errorf("unexpected message %T", message)
	}
	r.last = nil
	switch data.Data[0] {
	case pglogrepl.XLogDataByteID:
		r.last = data.Data[xLogDataHeader:]
		switch pglogrepl.MessageType(r.last[0]) {
		case pglogrepl.MessageTypeInsert, pglogrepl.MessageTypeUpdate, pglogrepl.MessageTypeDelete:
			r.changes++
		case pglogrepl.MessageTypeCommit:
			r.commits++
		}
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		if data.Data[len(data.Data)-1] == 1 {
			return r.reply()
		}
	}
	if r.count++; r.count%4096 == 0 && time.Now().After(r.replyAt) {
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
	r.frontend.Send(&pgproto3.CopyData{Data: status})
	return r.frontend.Flush()
}

var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (r *rawReceiver) serverCPU() time.Duration { return pidCPU(r.serverPID) }
