package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/pgoutput"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// Pacing of reads: the server sends small transactions one by one, and a read for each
// costs more than decoding it. When reads come fast and small, a nap lets more of
// them gather. A quiet stream is never delayed.
const (
	fastRead  = 100 * time.Microsecond
	smallRead = 16 << 10
	tinyRead  = 512
	fastReads = 8
	nap       = time.Millisecond
)

// streamOnce streams over one connection until it ends, and says why it did.
func (s *session) streamOnce() error {
	ctx, cancel := s.patient()
	defer cancel()
	c, err := connectReplication(ctx, s.conn)
	if err != nil {
		return err
	}
	if err := s.checkAgain(ctx, c); err != nil {
		c.Close(s.ctx)
		return err
	}
	if s.reconnecting {
		if err := failpoint.Hit(failpoint.Reconnect); err != nil {
			c.Close(s.ctx)
			return err
		}
	}
	s.reconnecting = true
	w, err := hijack(ctx, c)
	if err != nil {
		return err
	}
	defer w.close()
	s.mu.Lock()
	from := s.asm.from
	s.mu.Unlock()
	if err := w.startCopy(ctx, s.startCommand(from), 'W'); err != nil {
		return s.explain(err)
	}
	s.unguard()
	s.mended()
	stopStatus := s.status.start(w)
	interrupt := w.interrupt(s.ctx)
	r := &receiver{s: s, w: w, spools: newSpools(s.cfg)}
	err = r.run()
	interrupt()
	stopStatus()
	r.spools.close()
	s.asm.describe.close()
	s.mu.Lock()
	s.asm.connectionLost()
	s.asm.relationsReset()
	s.mu.Unlock()
	if s.ctx.Err() != nil {
		s.status.finish(w)
	}
	return err
}

// startCommand returns START_REPLICATION from a position.
func (s *session) startCommand(from uint64) string {
	names := make([]string, len(s.pubs))
	for i, p := range s.pubs {
		names[i] = ident(p)
	}
	version := "1"
	more := ""
	if s.streams() {
		version = "2"
		more += ", streaming 'on'"
	}
	if len(s.req.Messages) > 0 || s.req.EventTime {
		more += ", messages 'true'"
	}
	if s.cfg.LocalOnly {
		more += ", origin 'none'"
	}
	return fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL %s (proto_version '%s', publication_names %s%s)",
		ident(s.cfg.Slot), record.LSN(from), version, literal(strings.Join(names, ",")), more)
}

// checkAgain looks at the server before a stream begins: it may be another one by now.
func (s *session) checkAgain(ctx context.Context, c *pgconn.PgConn) error {
	id, err := pglogrepl.IdentifySystem(ctx, c)
	if err != nil {
		return fmt.Errorf("postgres: IDENTIFY_SYSTEM: %w", err)
	}
	if got := id.SystemID + "/" + id.DBName; got != s.system {
		return wrongSystem(s.system, got)
	}
	// What a standby lacks or refuses is no loss: it, or another server, is the primary later.
	if err := refuseStandby(ctx, c); err != nil {
		return err
	}
	s.mu.Lock()
	from := s.asm.from
	s.asm.head = uint64(id.XLogPos)
	s.mu.Unlock()
	if err := checkTimeline(ctx, c, uint32(id.Timeline), s.timeline.Load(), from); err != nil {
		return err
	}
	q, err := connect(ctx, s.conn)
	if err != nil {
		return err
	}
	defer q.Close(ctx)
	if err := refuseStandby(ctx, q.PgConn()); err != nil {
		return err
	}
	sl, err := readSlot(ctx, q, s.cfg.Slot)
	if err != nil {
		return err
	}
	if sl == nil {
		return slotMissing(s.cfg.Slot, from)
	}
	if err := sl.mine(s.server.database); err != nil {
		return err
	}
	if err := sl.resumable(from); err != nil {
		return err
	}
	s.timeline.Store(uint32(id.Timeline))
	return nil
}

func wrongSystem(want, got string) error {
	return fmt.Errorf(
		"postgres: the state is from system %s, this is %s: connect to the former, or %s: %w",
		want,
		got,
		beginAnew,
		sources.ErrWrongSystem,
	)
}

// explain gives the permanent errors of the server's stream, and of its start, their names.
func (s *session) explain(err error) error {
	switch sqlState(err) {
	case "42704":
		// The slot was there a moment ago, so it is a publication.
		return fmt.Errorf(
			"postgres: %w: recreating it does not bring back what was not published meanwhile; %s: %w",
			err,
			beginAnew,
			ErrPublicationMissing,
		)
	case "55000":
		return fmt.Errorf("postgres: slot %q: %w; %s: %w", s.cfg.Slot, err, again(s.cfg.Slot), ErrSlotLost)
	case "42501":
		return fmt.Errorf("postgres: %w: ALTER ROLE %s REPLICATION: %w", err, ident(s.conn.User), sources.ErrConfig)
	}
	return decodingFailed(err)
}

// receiver reads one connection's stream into the session's assembler.
type receiver struct {
	s *session
	w *wire
	// spools are the transactions that are still open at the server.
	spools *spools
	// streaming is the transaction inside whose stream block we are, 0 outside.
	streaming uint32
	replay    *replay
	last      time.Time
	fast      int
	// until is the deadline of reads.
	until time.Time
}

func (r *receiver) run() error {
	for {
		full, err := r.drain()
		if err != nil {
			return err
		}
		if full {
			select {
			case <-r.s.space:
				continue
			case <-r.s.ctx.Done():
				return context.Cause(r.s.ctx)
			}
		}
		if err := r.read(); err != nil {
			return ctxError(r.s.ctx, err)
		}
	}
}

// read reads once, and lets more gather first when data comes fast in small reads.
func (r *receiver) read() error {
	if r.fast >= fastReads {
		quiet(r.w.conn, smallRead)
		time.Sleep(nap)
		loud(r.w.conn)
	}
	if err := r.patience(); err != nil {
		return err
	}
	n, err := r.w.fill()
	if err != nil {
		return r.s.silent(err)
	}
	now := time.Now()
	r.s.heard.Store(now.UnixNano())
	r.s.asm.describe.rest(now)
	switch {
	case n >= smallRead:
		r.fast = 0
	case r.fast >= fastReads && n < tinyRead:
		r.fast = 0
	case r.fast < fastReads && now.Sub(r.last) < fastRead:
		r.fast++
	case r.fast < fastReads:
		r.fast = 0
	}
	r.last = now
	return nil
}

// drain decodes all that has been read, until the batch is full.
func (r *receiver) drain() (full bool, err error) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.asm.cur.spans)
	for !s.asm.cur.full() {
		ok, err := r.step()
		if err == nil && s.asm.unknown != nil {
			before, err = 0, r.look()
		}
		if err != nil {
			return false, err
		}
		if !ok {
			break
		}
	}
	if len(s.asm.cur.spans) > before {
		s.busy.Store(time.Now().UnixNano())
	}
	s.received.Store(max(s.received.Load(), s.asm.received))
	if !s.asm.cur.empty() {
		signal(s.wake)
	}
	return s.asm.cur.full(), nil
}

// look asks the catalog about what was described last. Who reads goes on meanwhile: the
// session's lock is given away.
func (r *receiver) look() error {
	s := r.s
	what := s.asm.unknown
	if !s.asm.cur.empty() {
		signal(s.wake)
	}
	s.mu.Unlock()
	rel, err := s.asm.describe.look(what.m, what.xid)
	s.mu.Lock()
	s.asm.unknown = nil
	if err == nil {
		s.asm.described(what.m, rel)
	}
	return err
}

// step takes one message, from a streamed transaction that has committed or from the
// connection.
func (r *receiver) step() (ok bool, err error) {
	if r.replay != nil {
		return true, r.replayStep()
	}
	kind, body, ok, err := r.w.buffered()
	if !ok || err != nil {
		return ok, err
	}
	switch kind {
	case 'd':
		return true, r.copyData(body)
	case 'E':
		return true, r.s.explain(serverError(body))
	case 'N', 'S':
		return true, nil
	case 'c', 'C', 'Z':
		return true, fmt.Errorf("postgres: the server ended the stream")
	}
	return true, fmt.Errorf("postgres: message %q in a stream: %w", kind, errProtocol)
}

// Sizes of the heads of what the server sends inside a copy.
const (
	xlogHead      = 25
	keepaliveSize = 18
)

func (r *receiver) copyData(body []byte) error {
	switch {
	case len(body) > xlogHead && body[0] == 'w':
		r.s.asm.sent = pgoutput.UnixMicros(int64(binary.BigEndian.Uint64(body[17:])))
		return r.change(pgoutput.Kind(body[xlogHead]), body[xlogHead+1:])
	case len(body) == keepaliveSize && body[0] == 'k':
		r.s.asm.keepalive(binary.BigEndian.Uint64(body[1:]))
		if body[17] != 0 {
			r.s.status.reply()
		}
		return nil
	}
	return fmt.Errorf("postgres: copy data of %d bytes: %w", len(body), errProtocol)
}

// change takes a message of the plugin: streamed transactions are kept aside until
// they commit, all else goes to the assembler.
func (r *receiver) change(kind pgoutput.Kind, body []byte) error {
	switch kind {
	case pgoutput.StreamStart:
		xid, _, err := pgoutput.ParseStreamStart(body)
		r.streaming = xid
		return err
	case pgoutput.StreamStop:
		r.streaming = 0
		return nil
	case pgoutput.StreamAbort:
		xid, subxid, err := pgoutput.ParseStreamAbort(body)
		if err == nil {
			r.spools.abort(xid, subxid)
		}
		return err
	case pgoutput.StreamCommit:
		m, err := pgoutput.ParseStreamCommit(body)
		if err != nil {
			return err
		}
		return r.startReplay(m)
	}
	if r.streaming != 0 {
		return r.spools.add(r.streaming, kind, body)
	}
	return r.s.asm.message(kind, body, r.w.blk)
}
