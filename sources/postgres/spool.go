package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tailrace/tailrace/internal/pgoutput"
)

// spools are the transactions that the server streams before they commit. They stay in
// memory up to a bound together, the largest goes to a temporary file beyond it. What is
// known of subtransactions counts too, and stays: it is less than a byte for each where they
// are many.
type spools struct {
	byXID map[uint32]*spool
	bytes int64 // messages in memory
	marks int64 // what the sets of subtransactions take
	limit int64
	dir   string
}

func newSpools(cfg Config) *spools {
	return &spools{byXID: map[uint32]*spool{}, limit: cfg.StreamMemory, dir: cfg.TempDir}
}

// spool is one transaction: its messages in order, framed as on the wire and with the ids of
// their subtransactions, first those in the file, then those in memory.
type spool struct {
	xid    uint32
	mem    []byte
	file   *os.File
	inFile int64
	// gone are the subtransactions that were rolled back. The server tells of each, also of
	// those that had ended well inside of it.
	gone   xidSet
	origin []byte
}

func (p *spool) size() int64 { return p.inFile + int64(len(p.mem)) }

// xidSet is a set of transaction ids. Those of one transaction's subtransactions lie close
// together, so it has a bit for each of a page.
type xidSet map[uint32]*[4]uint64

// xidPage is what a page takes in memory, roughly.
const xidPage = 64

// add returns by how much the set has grown.
func (s xidSet) add(xid uint32) (grown int64) {
	page := s[xid>>8]
	if page == nil {
		page, grown = new([4]uint64), xidPage
		s[xid>>8] = page
	}
	page[xid>>6&3] |= 1 << (xid & 63)
	return grown
}

func (s xidSet) has(xid uint32) bool {
	page := s[xid>>8]
	return page != nil && page[xid>>6&3]&(1<<(xid&63)) != 0
}

// add keeps a message of an open transaction.
func (s *spools) add(xid uint32, kind pgoutput.Kind, body []byte) error {
	p := s.byXID[xid]
	if p == nil {
		p = &spool{xid: xid, gone: xidSet{}}
		s.byXID[xid] = p
	}
	if kind == pgoutput.Origin { // The only message without the subtransaction's id.
		p.origin = bytes.Clone(body)
		return nil
	}
	before := len(p.mem)
	p.mem = append(p.mem, byte(kind))
	p.mem = binary.BigEndian.AppendUint32(p.mem, uint32(len(body)+4))
	p.mem = append(p.mem, body...)
	s.bytes += int64(len(p.mem) - before)
	for s.bytes > s.room() {
		if err := s.spill(); err != nil {
			return err
		}
	}
	return nil
}

// room is how much of the messages may be in memory. A part of the bound always is for them:
// they go to the file in large pieces.
func (s *spools) room() int64 { return max(s.limit-s.marks, s.limit/8) }

// spill writes the transaction with most memory to its file.
func (s *spools) spill() error {
	var big *spool
	for _, p := range s.byXID {
		if big == nil || len(p.mem) > len(big.mem) || len(p.mem) == len(big.mem) && p.xid < big.xid {
			big = p
		}
	}
	if big.file == nil {
		f, err := os.CreateTemp(s.dir, "tailrace-tx-*")
		if err != nil {
			return fmt.Errorf("postgres: %w: %w", ErrTempDir, err)
		}
		// Without a name it is gone when the process is, however that ends. Where that is
		// not possible, close removes it.
		_ = os.Remove(f.Name())
		big.file = f
	}
	if _, err := big.file.Write(big.mem); err != nil {
		return fmt.Errorf("postgres: %w: %w", ErrTempDir, err)
	}
	big.inFile += int64(len(big.mem))
	s.bytes -= int64(len(big.mem))
	big.mem = nil
	return nil
}

// abort forgets a transaction, or notes that a subtransaction's messages are not wanted.
func (s *spools) abort(xid, subxid uint32) {
	p := s.byXID[xid]
	switch {
	case p == nil:
	case xid == subxid:
		s.drop(p)
	default:
		s.marks += p.gone.add(subxid)
	}
}

func (s *spools) drop(p *spool) {
	s.bytes -= int64(len(p.mem))
	s.marks -= int64(len(p.gone)) * xidPage
	p.mem, p.gone = nil, nil
	p.close()
	delete(s.byXID, p.xid)
}

func (p *spool) close() {
	if p.file != nil {
		name := p.file.Name()
		p.file.Close()
		_ = os.Remove(name)
		p.file = nil
	}
}

// close forgets everything: the next connection streams it again.
func (s *spools) close() {
	for _, p := range s.byXID {
		p.close()
	}
	clear(s.byXID)
	s.bytes, s.marks = 0, 0
}

// replay gives a committed transaction's messages to the assembler.
type replay struct {
	p      *spool
	w      *wire
	at     int64
	commit pgoutput.CommitMessage
}

// startReplay begins the delivery of a streamed transaction.
func (r *receiver) startReplay(m pgoutput.CommitMessage) error {
	p := r.spools.byXID[m.XID]
	if p == nil {
		p = &spool{xid: m.XID} // All of it was rolled back.
	}
	asm := r.s.asm
	err := asm.begin(pgoutput.BeginMessage{CommitLSN: m.CommitLSN, CommitTime: m.CommitTime, XID: m.XID})
	if err == nil && p.origin != nil {
		err = asm.message(pgoutput.Origin, p.origin, nil)
	}
	if err != nil {
		return err
	}
	var src io.Reader = bytes.NewReader(p.mem)
	if p.file != nil {
		src = io.MultiReader(io.NewSectionReader(p.file, 0, p.inFile), src)
	}
	r.replay = &replay{p: p, w: &wire{src: src, blk: newBlock(blockBytes)}, commit: m}
	return nil
}

// replayStep delivers one message, or the commit when there are no more.
func (r *receiver) replayStep() error {
	y := r.replay
	kind, body, err := y.w.next()
	if errors.Is(err, io.EOF) && y.at == y.p.size() {
		y.w.blk.release()
		r.replay = nil
		r.spools.drop(y.p)
		return r.s.asm.commit(y.commit)
	}
	if err != nil {
		return fmt.Errorf("postgres: read it back: %w: %w", ErrTempDir, err)
	}
	y.at += int64(len(body)) + 5
	subxid, body, err := pgoutput.ParseXID(body)
	if err != nil {
		return err
	}
	// The server believes that we know the tables it described, even where the rows
	// after the description were rolled back.
	if y.p.gone.has(subxid) && pgoutput.Kind(kind) != pgoutput.Relation {
		return nil
	}
	return r.s.asm.message(pgoutput.Kind(kind), body, y.w.blk)
}
