// Package pgoutput decodes the messages of PostgreSQL's pgoutput plugin, protocol
// versions 1 and 2, without allocating: values alias the message. It trusts nothing:
// every length is checked against what is there, so hostile bytes give an error.
package pgoutput

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tailrace/tailrace/record"
)

// ErrMalformed says that a message is not what the protocol allows.
var ErrMalformed = errors.New("pgoutput: malformed message")

// Kind is the first byte of a message.
type Kind byte

// The kinds of messages.
const (
	Begin        Kind = 'B'
	Commit       Kind = 'C'
	Origin       Kind = 'O'
	Relation     Kind = 'R'
	Type         Kind = 'Y'
	Insert       Kind = 'I'
	Update       Kind = 'U'
	Delete       Kind = 'D'
	Truncate     Kind = 'T'
	Message      Kind = 'M'
	StreamStart  Kind = 'S'
	StreamStop   Kind = 'E'
	StreamCommit Kind = 'c'
	StreamAbort  Kind = 'A'
)

// epoch is 2000-01-01 UTC in Unix microseconds, the zero of PostgreSQL's clock.
const epoch = 946_684_800_000_000

// UnixMicros converts PostgreSQL's time to Unix microseconds.
func UnixMicros(pg int64) int64 { return pg + epoch }

// cursor reads a message from front to back. After a failed read all further reads
// give zero values, so that one check at the end is enough.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) u8() byte {
	if p := c.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if p := c.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if p := c.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if p := c.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (c *cursor) str() string {
	i := bytes.IndexByte(c.b, 0)
	if i < 0 {
		c.bad, c.b = true, nil
		return ""
	}
	s := string(c.b[:i])
	c.b = c.b[i+1:]
	return s
}

// end returns the error of a message that has to be used up by now.
func (c *cursor) end(kind Kind) error {
	if c.bad {
		return fmt.Errorf("%w: %q is too short", ErrMalformed, byte(kind))
	}
	if len(c.b) != 0 {
		return fmt.Errorf("%w: %q has %d bytes too many", ErrMalformed, byte(kind), len(c.b))
	}
	return nil
}

// BeginMessage opens a transaction.
type BeginMessage struct {
	// CommitLSN is where the commit record begins.
	CommitLSN uint64
	// CommitTime is in Unix microseconds.
	CommitTime int64
	XID        uint32
}

// ParseBegin decodes the body of a Begin, without its kind byte, as all Parse
// functions do.
func ParseBegin(body []byte) (BeginMessage, error) {
	c := cursor{b: body}
	m := BeginMessage{CommitLSN: c.u64(), CommitTime: UnixMicros(int64(c.u64())), XID: c.u32()}
	return m, c.end(Begin)
}

// CommitMessage closes a transaction; XID is set in a StreamCommit only.
type CommitMessage struct {
	XID uint32
	// CommitLSN is where the commit record begins, EndLSN where it ends.
	CommitLSN, EndLSN uint64
	// CommitTime is in Unix microseconds.
	CommitTime int64
}

// ParseCommit decodes a Commit.
func ParseCommit(body []byte) (CommitMessage, error) {
	c := cursor{b: body}
	m := parseCommit(&c)
	return m, c.end(Commit)
}

// ParseStreamCommit decodes a StreamCommit.
func ParseStreamCommit(body []byte) (CommitMessage, error) {
	c := cursor{b: body}
	xid := c.u32()
	m := parseCommit(&c)
	m.XID = xid
	return m, c.end(StreamCommit)
}

func parseCommit(c *cursor) CommitMessage {
	c.u8() // Flags, not used by any version.
	return CommitMessage{CommitLSN: c.u64(), EndLSN: c.u64(), CommitTime: UnixMicros(int64(c.u64()))}
}

// ParseStreamStart decodes a StreamStart: the transaction whose changes follow, and
// whether this is its first part.
func ParseStreamStart(body []byte) (xid uint32, first bool, err error) {
	c := cursor{b: body}
	xid, first = c.u32(), c.u8() == 1
	return xid, first, c.end(StreamStart)
}

// ParseStreamAbort decodes a StreamAbort of protocol 2: the transaction, and the
// subtransaction that was rolled back, which is the same id when all of it was.
func ParseStreamAbort(body []byte) (xid, subxid uint32, err error) {
	c := cursor{b: body}
	xid, subxid = c.u32(), c.u32()
	return xid, subxid, c.end(StreamAbort)
}

// ParseOrigin decodes the name of the replication origin.
func ParseOrigin(body []byte) (string, error) {
	c := cursor{b: body}
	c.u64() // The commit's position at the origin.
	name := c.str()
	return name, c.end(Origin)
}

// RelationMessage describes a table.
type RelationMessage struct {
	OID          uint32
	Schema, Name string
	// Identity is the replica identity: d, n, f or i.
	Identity byte
	Columns  []Column
}

// Column is a column of a table. Key says that it is part of the replica identity.
type Column struct {
	Key     bool
	Name    string
	TypeOID uint32
	TypeMod int32
}

// ParseRelation decodes a Relation.
func ParseRelation(body []byte) (RelationMessage, error) {
	c := cursor{b: body}
	m := RelationMessage{OID: c.u32(), Schema: c.str(), Name: c.str(), Identity: c.u8()}
	if m.Schema == "" {
		m.Schema = "pg_catalog" // What the protocol leaves out.
	}
	n := int(c.u16())
	// A column takes 10 bytes at least: no allocation for what cannot be there.
	if c.bad || n*10 > len(c.b) {
		return m, fmt.Errorf("%w: relation with %d columns in %d bytes", ErrMalformed, n, len(c.b))
	}
	m.Columns = make([]Column, n)
	for i := range m.Columns {
		m.Columns[i] = Column{Key: c.u8()&1 != 0, Name: c.str(), TypeOID: c.u32(), TypeMod: int32(c.u32())}
	}
	return m, c.end(Relation)
}

// ParseTruncate appends the truncated tables' ids to dst.
func ParseTruncate(body []byte, dst []uint32) ([]uint32, error) {
	c := cursor{b: body}
	n := c.u32()
	c.u8() // Options: CASCADE, RESTART IDENTITY. Cascaded tables are listed themselves.
	if c.bad || uint64(n)*4 != uint64(len(c.b)) {
		return dst, fmt.Errorf("%w: truncate of %d tables in %d bytes", ErrMalformed, n, len(c.b))
	}
	for range n {
		dst = append(dst, c.u32())
	}
	return dst, nil
}

// LogicalMessage is what pg_logical_emit_message wrote. Content aliases the message.
type LogicalMessage struct {
	Transactional bool
	LSN           uint64
	Prefix        string
	Content       []byte
}

// ParseMessage decodes a Message.
func ParseMessage(body []byte) (LogicalMessage, error) {
	c := cursor{b: body}
	m := LogicalMessage{Transactional: c.u8()&1 != 0, LSN: c.u64(), Prefix: c.str()}
	m.Content = c.take(int(c.u32()))
	return m, c.end(Message)
}

// ParseXID takes the id of a subtransaction off a message inside a stream.
func ParseXID(body []byte) (xid uint32, rest []byte, err error) {
	c := cursor{b: body}
	xid = c.u32()
	if c.bad {
		return 0, nil, fmt.Errorf("%w: no transaction id in a streamed message", ErrMalformed)
	}
	return xid, c.b, nil
}

// Change is the head of an Insert, Update or Delete: which table, and the tuples,
// still encoded.
type Change struct {
	OID     uint32
	OldKind record.OldKind
	rest    []byte
	kind    Kind
}

// ParseChange decodes the head of a row change. The tuples follow by Old, if OldKind
// is not OldNone, and New, if kind is not Delete, in this order.
func ParseChange(kind Kind, body []byte) (Change, error) {
	c := cursor{b: body}
	m := Change{OID: c.u32(), kind: kind}
	tag := c.u8()
	switch {
	case kind != Insert && tag == 'K':
		m.OldKind = record.OldKey
	case kind != Insert && tag == 'O':
		m.OldKind = record.OldFull
	case kind != Delete && tag == 'N':
	default:
		return m, fmt.Errorf("%w: tuple %q in %q", ErrMalformed, tag, byte(kind))
	}
	m.rest = c.b
	return m, nil
}

// Width returns how many columns the next tuple has.
func (m *Change) Width() int {
	if len(m.rest) < 2 {
		return 0
	}
	return int(binary.BigEndian.Uint16(m.rest))
}

// Old decodes the old tuple into dst, which must have Width values.
func (m *Change) Old(dst []record.Value) error {
	if err := m.tuple(dst); err != nil {
		return err
	}
	if m.kind == Update {
		c := cursor{b: m.rest}
		if tag := c.u8(); tag != 'N' {
			return fmt.Errorf("%w: tuple %q after the old one", ErrMalformed, tag)
		}
		m.rest = c.b
		return nil
	}
	return m.done()
}

// New decodes the new tuple into dst, which must have Width values.
func (m *Change) New(dst []record.Value) error {
	if err := m.tuple(dst); err != nil {
		return err
	}
	return m.done()
}

func (m *Change) done() error {
	if len(m.rest) != 0 {
		return fmt.Errorf("%w: %q has %d bytes too many", ErrMalformed, byte(m.kind), len(m.rest))
	}
	return nil
}

func (m *Change) tuple(dst []record.Value) error {
	b := m.rest
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) != len(dst) {
		return fmt.Errorf("%w: tuple of another width than %d", ErrMalformed, len(dst))
	}
	b = b[2:]
	for i := range dst {
		if len(b) == 0 {
			return fmt.Errorf("%w: tuple ends at column %d", ErrMalformed, i)
		}
		switch b[0] {
		case 'n':
			dst[i] = record.Value{Kind: record.Null}
			b = b[1:]
		case 'u':
			dst[i] = record.Value{Kind: record.Unchanged}
			b = b[1:]
		case 't':
			if len(b) < 5 {
				return fmt.Errorf("%w: tuple ends at column %d", ErrMalformed, i)
			}
			n := int(int32(binary.BigEndian.Uint32(b[1:])))
			if n < 0 || n > len(b)-5 {
				return fmt.Errorf("%w: column %d of %d bytes", ErrMalformed, i, n)
			}
			dst[i] = record.Value{Kind: record.Text, Data: b[5 : 5+n : 5+n]}
			b = b[5+n:]
		default:
			return fmt.Errorf("%w: column %d of kind %q", ErrMalformed, i, b[0])
		}
	}
	m.rest = b
	return nil
}
