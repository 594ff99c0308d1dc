package walsender

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tailrace/tailrace/internal/pgoutput"
)

// Table is a table whose first column is its primary key.
type Table struct {
	OID     uint32
	Name    string // in schema public
	Columns []Column
	// Full says that the replica identity is FULL, otherwise it is DEFAULT.
	Full bool
}

// Column is a column, which is never NULL.
type Column struct {
	Name string
	Int  bool // a bigint, otherwise text
}

// Row are the values of a row's columns.
type Row []string

// Change is a row that was written, or a message.
type Change struct {
	Kind     pgoutput.Kind // Insert, Update, Delete, Truncate or Message
	Table    *Table
	Old, New Row
	// Same are the columns, by bits, that an update of a large value did not touch, so that
	// the log does not have them.
	Same uint
	// Sub is the subtransaction, 0 for none.
	Sub             uint32
	Prefix, Content string
}

// Tx is a transaction.
type Tx struct {
	XID     uint32
	Changes []Change
	// gone are the subtransactions that were rolled back.
	gone map[uint32]bool
	// CommitLSN is where its commit record begins, End where that ends, 0 while it is open.
	CommitLSN, End uint64
	Time           time.Time
	begun          uint64
}

// Rows returns the changes that were not rolled back.
func (t *Tx) Rows() []Change {
	return slices.DeleteFunc(slices.Clone(t.Changes), func(c Change) bool { return t.gone[c.Sub] })
}

// entry is a part of the log that matters to who decodes it.
type entry struct {
	at, end uint64
	kind    entryKind
	tx      *Tx
	upTo    int    // changes of tx that lie before
	sub     uint32 // that is rolled back
}

type entryKind uint8

const (
	piece entryKind = iota // a large transaction has more
	rollbackSub
	rollback
	commit
	saying // a message outside of a transaction
)

// Server is the server. Its methods may be called from everywhere.
type Server struct {
	tables []*Table
	rng    *rand.Rand

	mu      sync.Mutex
	head    uint64 // where the log ends
	xid     uint32
	log     []entry
	open    []*Tx
	more    chan struct{} // closed, and made anew, when something has changed
	pubs    []*publication
	slot    *slot
	pid     int32
	backs   map[*backend]bool
	locks   map[string]*backend
	exports map[string]uint64
	down    bool
	closed  bool
	unknown []error
	harm    harm
	counts  Counts
	wg      sync.WaitGroup
}

// Counts are what has happened.
type Counts struct {
	Streams, Pieces, Aborted, Resent, Cut, Unchanged int
	// Confirmed is the highest position that was ever acknowledged.
	Confirmed uint64
}

type publication struct {
	name, comment string
	tables        []string
	insertOnly    bool
}

type slot struct {
	name string
	// point is where it began.
	point uint64
	// confirmed is what the reader has acknowledged, written what a restart knows of that.
	confirmed, written uint64
	reader             *backend
	// until is how long a reader whose connection is gone still counts.
	until time.Time
	pid   int32
	lost  bool
}

// New makes a server with these tables, which are empty.
func New(seed uint64, tables ...*Table) *Server {
	return &Server{
		tables: tables, rng: rand.New(rand.NewPCG(seed, 6)), head: 0x1500000, xid: 1000,
		more: make(chan struct{}), backs: map[*backend]bool{}, locks: map[string]*backend{},
		exports: map[string]uint64{},
	}
}

// tell lets all who wait look again. s.mu is held.
func (s *Server) tell() {
	close(s.more)
	s.more = make(chan struct{})
}

// write moves the end of the log, and returns where it was. s.mu is held.
func (s *Server) write(max int) uint64 {
	at := s.head
	s.head += 8 * uint64(1+s.rng.IntN(max))
	return at
}

// Idle writes something that nobody reads.
func (s *Server) Idle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(1000)
	s.tell()
}

// Begin begins a transaction.
func (s *Server) Begin() *Tx {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.xid++
	tx := &Tx{XID: s.xid, gone: map[uint32]bool{}, begun: s.head}
	s.open = append(s.open, tx)
	return tx
}

// Sub begins a subtransaction.
func (s *Server) Sub(*Tx) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.xid++
	return s.xid
}

// Change writes in a transaction.
func (s *Server) Change(tx *Tx, c Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(20)
	tx.Changes = append(tx.Changes, c)
	if c.Same != 0 {
		s.counts.Unchanged++
	}
}

// add appends to the log what matters to who decodes it. s.mu is held.
func (s *Server) add(kind entryKind, tx *Tx, sub uint32) entry {
	at := s.write(10)
	e := entry{at: at, end: s.head, kind: kind, tx: tx, upTo: len(tx.Changes), sub: sub}
	s.log = append(s.log, e)
	s.tell()
	return e
}

// Piece says that what a transaction has written so far is more than is kept in memory.
func (s *Server) Piece(tx *Tx) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(piece, tx, 0)
}

// RollbackSub rolls a subtransaction back.
func (s *Server) RollbackSub(tx *Tx, sub uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tx.gone[sub] = true
	s.counts.Aborted++
	s.add(rollbackSub, tx, sub)
}

// Rollback rolls a transaction back.
func (s *Server) Rollback(tx *Tx) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rollback(tx)
}

func (s *Server) rollback(tx *Tx) {
	s.open = slices.DeleteFunc(s.open, func(t *Tx) bool { return t == tx })
	s.add(rollback, tx, 0)
}

// Commit commits a transaction.
func (s *Server) Commit(tx *Tx) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.open, tx) {
		return errGone
	}
	s.open = slices.DeleteFunc(s.open, func(t *Tx) bool { return t == tx })
	tx.Time = time.Now()
	e := s.add(commit, tx, 0)
	tx.CommitLSN, tx.End = e.at, e.end
	return nil
}

// Say writes a message outside of transactions.
func (s *Server) Say(prefix, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Change{Kind: pgoutput.Message, Prefix: prefix, Content: content}
	tx := &Tx{Changes: []Change{c}, Time: time.Now()}
	e := s.add(saying, tx, 0)
	tx.CommitLSN, tx.End = e.at, e.at+1
}

// errGone says that a transaction was rolled back when the server ended.
var errGone = errors.New("walsender: the transaction is not open any more")

// Committed returns all transactions in the order of their commits; a message outside of any is
// one of its own, which ends a byte behind its beginning.
func (s *Server) Committed() []*Tx {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Tx
	for _, e := range s.log {
		if e.kind == commit || e.kind == saying {
			out = append(out, e.tx)
		}
	}
	return out
}

// rows are a table's rows as of a position, in the order in which they were written. s.mu is
// held.
func (s *Server) rows(t *Table, at uint64) []Row {
	var rows []Row
	find := func(key string) int {
		return slices.IndexFunc(rows, func(r Row) bool { return r[0] == key })
	}
	for _, e := range s.log {
		if e.kind != commit || e.end > at {
			continue
		}
		for _, c := range e.tx.Rows() {
			if c.Table != t {
				continue
			}
			switch c.Kind {
			case pgoutput.Insert:
				rows = append(rows, c.New)
			case pgoutput.Update:
				rows[find(c.Old[0])] = c.New
			case pgoutput.Delete:
				i := find(c.Old[0])
				rows = slices.Delete(rows, i, i+1)
			case pgoutput.Truncate:
				rows = nil
			}
		}
	}
	return rows
}

// Since is where the slot began, 0 without one.
func (s *Server) Since() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slot == nil {
		return 0
	}
	return s.slot.point
}

// Counts tells what has happened so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Unknown returns an error where something was asked that the server does not know.
func (s *Server) Unknown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.unknown...)
}

// puzzled notes what the server does not know. s.mu is held.
func (s *Server) puzzled(format string, args ...any) error {
	err := fmt.Errorf("walsender: "+format, args...)
	s.unknown = append(s.unknown, err)
	return err
}

// Close ends all connections.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.disconnect()
	s.tell()
	s.mu.Unlock()
	s.wg.Wait()
}

// disconnect ends all connections at once. s.mu is held.
func (s *Server) disconnect() {
	for b := range s.backs {
		b.link.cut()
	}
}
