package walsender

import (
	"encoding/binary"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/tailrace/tailrace/internal/pgoutput"
)

var starts = regexp.MustCompile(
	`^START_REPLICATION SLOT "(\w+)" LOGICAL ([0-9A-F]+)/([0-9A-F]+) \(proto_version '(\d)'`)

// sender sends the log over one connection.
type sender struct {
	b         *backend
	start     uint64
	next      int // entry
	streams   bool
	messages  bool
	described map[uint32]bool
	sent      map[*Tx]*sentTx
	// at is what everything before has been sent of, flushed what the client has confirmed.
	at, flushed uint64
	asked       bool // for a keepalive
	gone        bool // the client
}

// sentTx is what has been sent of a transaction before its commit.
type sentTx struct {
	changes   int
	described map[uint32]bool
	subs      map[uint32]bool
}

// stream sends the log until the connection ends.
func (b *backend) stream(sql string) error {
	s := b.s
	w, err := s.startStream(b, sql)
	if err != nil {
		return err
	}
	b.wire.Send(&pgproto3.CopyBothResponse{})
	if err := b.wire.Flush(); err != nil {
		return err
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	defer b.link.cut()
	reading.Go(w.read)
	for {
		s.mu.Lock()
		data, gone, more := w.step(), w.gone, s.more
		s.mu.Unlock()
		switch {
		case gone:
			return nil
		case data == nil:
			select {
			case <-more:
			case <-b.link.gone:
				return nil
			case <-time.After(30 * time.Second): // half of wal_sender_timeout
				s.mu.Lock()
				w.asked = true
				s.mu.Unlock()
			}
			continue
		}
		for _, d := range data {
			b.wire.Send(&pgproto3.CopyData{Data: d})
		}
		if err := b.wire.Flush(); err != nil {
			return err
		}
	}
}

func (s *Server) startStream(b *backend, sql string) (*sender, error) {
	m := starts.FindStringSubmatch(sql)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m == nil {
		return nil, s.puzzled("a stream that is not known: %s", sql)
	}
	l := s.slot
	switch {
	case l == nil || l.name != m[1]:
		return nil, &fault{"42704", "replication slot does not exist"}
	case l.active():
		return nil, &fault{"55006", "replication slot is active"}
	case l.lost:
		return nil, &fault{"55000", "can no longer get changes from replication slot"}
	}
	high, _ := strconv.ParseUint(m[2], 16, 32)
	low, _ := strconv.ParseUint(m[3], 16, 32)
	w := &sender{
		b: b, start: max(high<<32|low, l.confirmed),
		streams:  m[4] == "2" && strings.Contains(sql, "streaming 'on'"),
		messages: strings.Contains(sql, "messages 'true'"), described: map[uint32]bool{}, sent: map[*Tx]*sentTx{},
	}
	if s.harm.again && l.written < w.start {
		w.start = l.written
		s.counts.Resent++
	}
	s.harm.again = false
	w.at, w.flushed, w.asked = w.start, l.confirmed, true
	l.reader, l.pid, b.link.stream = b, b.pid, true
	s.counts.Streams++
	return w, nil
}

// read takes the client's statuses.
func (w *sender) read() {
	s := w.b.s
	for {
		m, err := w.b.wire.Receive()
		s.mu.Lock()
		d, ok := m.(*pgproto3.CopyData)
		if err != nil || !ok {
			w.gone = true
			s.tell()
			s.mu.Unlock()
			return
		}
		if len(d.Data) == 34 && d.Data[0] == 'r' {
			w.flushed = max(w.flushed, binary.BigEndian.Uint64(d.Data[9:]))
			if l := s.slot; l != nil && l.reader == w.b {
				l.confirmed = max(l.confirmed, w.flushed)
			}
			s.counts.Confirmed = max(s.counts.Confirmed, w.flushed)
			w.asked = w.asked || d.Data[33] != 0
			s.tell()
		} else {
			_ = s.puzzled("a message of %d bytes to the stream", len(d.Data))
		}
		s.mu.Unlock()
	}
}

// step returns what is to be sent next, nil if that is nothing. s.mu is held.
func (w *sender) step() [][]byte {
	s := w.b.s
	if w.asked {
		w.asked = false
		return [][]byte{w.keepalive(w.at)}
	}
	for w.next < len(s.log) {
		e := s.log[w.next]
		w.next++
		data := w.decode(e)
		if e.at >= w.start {
			w.at = e.end
		}
		if len(data) > 0 {
			if s.rng.IntN(8) == 0 { // as when much of no use was read
				data = slices.Insert(data, s.rng.IntN(len(data)), w.keepalive(min(w.at, e.at)))
			}
			return data
		}
	}
	if w.at < s.head {
		w.at = s.head
		return [][]byte{w.keepalive(w.at)}
	}
	return nil
}

// decode returns the messages of an entry.
func (w *sender) decode(e entry) [][]byte {
	sent := w.sent[e.tx]
	switch e.kind {
	case piece:
		if !w.streams || e.at < w.start {
			return nil
		}
		if sent == nil {
			sent = &sentTx{described: map[uint32]bool{}, subs: map[uint32]bool{}}
		}
		return w.pieceOf(e, sent)
	case rollbackSub, rollback:
		if sent == nil || e.kind == rollbackSub && !sent.subs[e.sub] {
			return nil
		}
		sub := e.sub
		if e.kind == rollback {
			sub = e.tx.XID
			delete(w.sent, e.tx)
		}
		return [][]byte{w.wal(e.at, pgoutput.StreamAbort, be32(e.tx.XID), be32(sub))}
	}
	if e.at < w.start {
		return nil
	}
	if e.kind == saying {
		return w.say(e.at, e.tx.Changes[0], nil, 0)
	}
	at := [][]byte{{0}, be64(e.tx.CommitLSN), be64(e.tx.End), when(e.tx.Time)}
	if sent != nil {
		out := w.pieceOf(e, sent)
		for oid := range sent.described {
			w.described[oid] = true
		}
		delete(w.sent, e.tx)
		return append(out, w.wal(e.at, pgoutput.StreamCommit, append([][]byte{be32(e.tx.XID)}, at...)...))
	}
	changes := w.changes(e.tx, e.tx.Rows(), w.described, false, nil)
	if len(changes) == 0 {
		return nil
	}
	out := [][]byte{w.wal(e.at, pgoutput.Begin, be64(e.tx.CommitLSN), when(e.tx.Time), be32(e.tx.XID))}
	return append(append(out, changes...), w.wal(e.at, pgoutput.Commit, at...))
}

// pieceOf returns what a large transaction has written since the last piece, but for what has
// been rolled back by then.
func (w *sender) pieceOf(e entry, sent *sentTx) [][]byte {
	gone := map[uint32]bool{}
	for _, other := range w.b.s.log[:w.next] {
		if other.tx == e.tx && other.kind == rollbackSub {
			gone[other.sub] = true
		}
	}
	rows := slices.DeleteFunc(slices.Clone(e.tx.Changes[sent.changes:e.upTo]), func(c Change) bool {
		return gone[c.Sub]
	})
	first := byte(0)
	if w.sent[e.tx] == nil {
		first = 1
	}
	changes := w.changes(e.tx, rows, sent.described, true, sent.subs)
	sent.changes = e.upTo
	if len(changes) == 0 {
		return nil
	}
	w.sent[e.tx] = sent
	w.b.s.counts.Pieces++
	out := [][]byte{w.wal(e.at, pgoutput.StreamStart, be32(e.tx.XID), []byte{first})}
	return append(append(out, changes...), w.wal(e.at, pgoutput.StreamStop))
}

// changes returns the messages of changes, and of the tables that the client does not know.
func (w *sender) changes(
	tx *Tx, rows []Change, described map[uint32]bool, streamed bool, subs map[uint32]bool,
) (out [][]byte) {
	for _, c := range rows {
		var xid []byte
		if streamed {
			id := tx.XID
			if c.Sub != 0 {
				id = c.Sub
			}
			subs[id] = true
			xid = be32(id)
		}
		if c.Kind == pgoutput.Message {
			out = append(out, w.say(tx.begun, c, xid, 1)...)
			continue
		}
		t := c.Table
		if !w.b.s.published(t) {
			continue
		}
		if !described[t.OID] && !w.described[t.OID] {
			described[t.OID] = true
			out = append(out, w.wal(tx.begun, pgoutput.Relation, xid, t.describe()))
		}
		out = append(out, w.wal(tx.begun, c.Kind, xid, c.encode()))
	}
	return out
}

// say is a message, if the client wants any.
func (w *sender) say(at uint64, c Change, xid []byte, transactional byte) [][]byte {
	if !w.messages {
		return nil
	}
	return [][]byte{w.wal(at, c.Kind, xid, []byte{transactional}, be64(at), []byte(c.Prefix+"\x00"),
		be32(uint32(len(c.Content))), []byte(c.Content))}
}

func (s *Server) published(t *Table) bool {
	return slices.ContainsFunc(s.pubs, func(p *publication) bool { return slices.Contains(p.tables, t.Name) })
}

func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// when is a time on PostgreSQL's clock.
func when(t time.Time) []byte { return be64(uint64(t.UnixMicro() - pgoutput.UnixMicros(0))) }

// wal is a message of the plugin.
func (w *sender) wal(at uint64, kind pgoutput.Kind, parts ...[]byte) []byte {
	out := slices.Concat([]byte{'w'}, be64(at), be64(at), when(time.Now()), []byte{byte(kind)})
	return append(out, slices.Concat(parts...)...)
}

func (w *sender) keepalive(at uint64) []byte {
	ask := byte(w.b.s.rng.IntN(2))
	return slices.Concat([]byte{'k'}, be64(at), when(time.Now()), []byte{ask})
}

// describe is the table's description.
func (t *Table) describe() []byte {
	identity := byte('d')
	if t.Full {
		identity = 'f'
	}
	out := slices.Concat(be32(t.OID), []byte("public\x00"+t.Name+"\x00"), []byte{identity},
		be16(uint16(len(t.Columns))))
	for i, c := range t.Columns {
		key := byte(0)
		if i == 0 || t.Full {
			key = 1
		}
		out = slices.Concat(out, []byte{key}, []byte(c.Name+"\x00"), be32(uint32(c.typeOID())),
			be32(1<<32-1))
	}
	return out
}

// encode is the change without its kind.
func (c *Change) encode() []byte {
	if c.Kind == pgoutput.Truncate {
		return slices.Concat(be32(1), []byte{0}, be32(c.Table.OID))
	}
	out := be32(c.Table.OID)
	if c.Kind != pgoutput.Insert {
		switch {
		case c.Table.Full:
			out = append(append(out, 'O'), tuple(c.Old, 0, false)...)
		case c.Kind == pgoutput.Delete || c.Old[0] != c.New[0]:
			out = append(append(out, 'K'), tuple(c.Old, 0, true)...)
		}
	}
	if c.Kind != pgoutput.Delete {
		out = append(append(out, 'N'), tuple(c.New, c.Same, false)...)
	}
	return out
}

func tuple(r Row, same uint, keyOnly bool) []byte {
	out := be16(uint16(len(r)))
	for i, v := range r {
		switch {
		case keyOnly && i > 0:
			out = append(out, 'n')
		case same&(1<<i) != 0:
			out = append(out, 'u')
		default:
			out = append(slices.Concat(out, []byte{'t'}, be32(uint32(len(v)))), v...)
		}
	}
	return out
}
