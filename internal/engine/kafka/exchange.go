package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Between sub-topologies records and changes go through topics. A record of such a topic
// is what one transaction has for one partition of an exchange, or a piece of it:
//
//	format u8 = 2, stream time i64,
//	origin: topic, partition, offset, piece,
//	transaction: source, position, commit start, xid, commit time i64, origin, snapshot u8,
//	headers: number, then key, whether there is a value u8, value ...
//	messages: key, value ...
//
// Format 1 has no headers.
//
// Numbers without a type are varints; texts, keys and values have their lengths before
// them. The record's timestamp is that of the record of a source that caused it, so that
// tasks behind an exchange read their inputs in the same order as those before it.

// exchangeFormat begins each record of an exchange.
const exchangeFormat = 2

// pieceSize is from how many bytes on what a transaction has for a partition goes on in
// another record.
const pieceSize = 64 << 10

// errExchange says that a record of an exchange is not one.
var errExchange = errors.New("kafka: unreadable record of an exchange")

// route is a partition of an exchange.
type route struct {
	exchange  *topology.Exchange
	partition int
}

// piece is a record of an exchange that is being made.
type piece struct {
	route
	open   bool
	seq    uint32
	number uint64 // among the pieces of the transaction
	at     time.Time
	key    []byte
	count  int
	value  []byte
}

// sender makes records of what a part of a task sends to exchanges.
type sender struct {
	part   *part
	pieces map[route]*piece
	order  []*piece // those that are open
	put    func(x *topology.Exchange, r *kgo.Record)
	topic  func(x *topology.Exchange) string
}

// send takes a message.
func (s *sender) send(m task.Message) error {
	to := route{m.Exchange, m.Partition}
	p := s.pieces[to]
	if p == nil {
		p = &piece{route: to}
		s.pieces[to] = p
	}
	if p.open && (p.seq != m.Seq || len(p.value) >= pieceSize) {
		number := p.number + 1
		if p.seq != m.Seq {
			number = 0
		}
		s.finish(p)
		s.begin(p, &m, number)
	} else if !p.open {
		s.order = append(s.order, p)
		s.begin(p, &m, 0)
	}
	if p.count++; p.count == 1 {
		p.key = append(p.key[:0], m.Key...)
	}
	p.value = appendBytes(appendBytes(p.value, m.Key), m.Value)
	return nil
}

func (s *sender) begin(p *piece, m *task.Message, number uint64) {
	p.open, p.seq, p.number, p.count = true, m.Seq, number, 0
	var from origin
	if int(m.Seq) < len(s.part.origins) {
		from = s.part.origins[m.Seq]
	}
	p.at = from.at
	v := binary.BigEndian.AppendUint64(append(p.value[:0], exchangeFormat), uint64(m.Time))
	v = appendBytes(v, from.partition.Topic)
	v = binary.AppendUvarint(v, uint64(from.partition.Number))
	v = binary.AppendUvarint(v, uint64(from.offset))
	v = binary.AppendUvarint(v, from.piece<<16|number)
	var tx record.Tx
	if m.Tx != nil {
		tx = *m.Tx
	}
	v = appendBytes(v, tx.Source)
	v = binary.AppendUvarint(v, tx.Position)
	v = binary.AppendUvarint(v, tx.CommitStart)
	v = binary.AppendUvarint(v, uint64(tx.XID))
	v = binary.BigEndian.AppendUint64(v, uint64(tx.CommitTime))
	v = appendBytes(v, tx.Origin)
	snapshot := byte(0)
	if tx.Snapshot {
		snapshot = 1
	}
	v = binary.AppendUvarint(append(v, snapshot), uint64(len(tx.Headers)))
	for _, h := range tx.Headers {
		v = appendBytes(v, h.Key)
		if h.Value == nil {
			v = append(v, 0)
		} else {
			v = appendBytes(append(v, 1), h.Value)
		}
	}
	p.value = v
}

// finish sends a piece.
func (s *sender) finish(p *piece) {
	r := &kgo.Record{
		Topic: s.topic(p.exchange), Partition: int32(p.partition), Timestamp: p.at, Value: bytes.Clone(p.value),
	}
	if p.count == 1 {
		r.Key = bytes.Clone(p.key)
	}
	p.open = false
	s.put(p.exchange, r)
}

// flush sends what is open: at the end of a step.
func (s *sender) flush() {
	for _, p := range s.order {
		s.finish(p)
	}
	s.order = s.order[:0]
}

// reset drops what is open.
func (s *sender) reset() {
	for _, p := range s.order {
		p.open = false
	}
	s.order = s.order[:0]
}

func appendBytes[T ~string | ~[]byte](dst []byte, b T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// exchanged reads a record of an exchange.
type exchanged struct {
	time   int64
	origin origin
	rest   []byte // messages
	short  bool
}

// readExchanged reads what is before the messages. texts are the names met so far.
func readExchanged(r *kgo.Record, tx *record.Tx, texts map[string]string) (*exchanged, error) {
	if len(r.Value) == 0 || r.Value[0] == 0 || r.Value[0] > exchangeFormat {
		return nil, fmt.Errorf("%w: its format is above %d; has a newer release written it?",
			errExchange, exchangeFormat)
	}
	x := &exchanged{rest: r.Value[1:]}
	name := func() string {
		b := x.bytes()
		s, ok := texts[string(b)]
		if !ok {
			s = string(b)
			texts[s] = s
		}
		return s
	}
	x.time = x.fixed()
	x.origin.partition = kafka.Partition{Topic: name(), Number: int32(x.number())}
	x.origin.offset, x.origin.piece, x.origin.at = int64(x.number()), x.number(), r.Timestamp
	*tx = record.Tx{
		Source: name(), Position: x.number(), CommitStart: x.number(), XID: uint32(x.number()),
		CommitTime: x.fixed(), Origin: name(),
	}
	if len(x.rest) == 0 || x.short {
		return nil, fmt.Errorf("%w: it ends after %d bytes", errExchange, len(r.Value))
	}
	tx.Snapshot, x.rest = x.rest[0] == 1, x.rest[1:]
	if r.Value[0] > 1 {
		tx.Headers = x.headers()
	}
	if x.short {
		return nil, fmt.Errorf("%w: it ends after %d bytes", errExchange, len(r.Value))
	}
	return x, nil
}

// headers reads those of the transaction.
func (x *exchanged) headers() (out []record.Header) {
	for n := x.number(); n > 0 && !x.short; n-- {
		h := record.Header{Key: string(x.bytes())}
		if x.short = x.short || len(x.rest) == 0; x.short {
			break
		}
		has := x.rest[0] == 1
		if x.rest = x.rest[1:]; has {
			h.Value = x.bytes()
		}
		out = append(out, h)
	}
	return out
}

// next reads a message; ok is false behind the last one.
func (x *exchanged) next() (key, value []byte, ok bool, err error) {
	if len(x.rest) == 0 {
		return nil, nil, false, nil
	}
	key, value = x.bytes(), x.bytes()
	if x.short {
		return nil, nil, false, fmt.Errorf("%w: its last message is cut off", errExchange)
	}
	return key, value, true, nil
}

func (x *exchanged) number() uint64 {
	n, size := binary.Uvarint(x.rest)
	if x.short = x.short || size <= 0; x.short {
		return 0
	}
	x.rest = x.rest[size:]
	return n
}

func (x *exchanged) fixed() int64 {
	if x.short = x.short || len(x.rest) < 8; x.short {
		return 0
	}
	n := binary.BigEndian.Uint64(x.rest)
	x.rest = x.rest[8:]
	return int64(n)
}

func (x *exchanged) bytes() []byte {
	n := x.number()
	if x.short = x.short || n > uint64(len(x.rest)); x.short {
		return nil
	}
	b := x.rest[:n:n]
	x.rest = x.rest[n:]
	return b
}

// feedExchanged gives a record of an exchange to the part that reads it.
func (r *taskRun) feedExchanged(b *buffer, rec *kgo.Record) error {
	tx := b.newTx()
	x, err := readExchanged(rec, tx, r.texts)
	if err != nil {
		return fmt.Errorf("%w: %s offset %d", err, b.partition, rec.Offset)
	}
	tx.Log = r.log(x.origin.partition)
	p := b.parts[0] // one reads an exchange
	p.origins = append(p.origins, x.origin)
	p.task.Begin(tx)
	m := task.Message{Exchange: b.input.exchange, Time: x.time}
	for {
		var ok bool
		if m.Key, m.Value, ok, err = x.next(); err != nil {
			return fmt.Errorf("%w: %s offset %d", err, b.partition, rec.Offset)
		} else if !ok {
			break
		}
		if err := p.task.Receive(m); err != nil {
			return err
		}
		r.fed++
	}
	if err := p.task.End(tx); err != nil {
		return err
	}
	p.out.flush()
	return nil
}
