package postgres

import (
	"fmt"

	"github.com/tailrace/tailrace/internal/pgoutput"
	"github.com/tailrace/tailrace/record"
)

// assembler turns the log's messages into batches of whole transactions. It owns no
// goroutine: the stream calls it under the session's lock.
type assembler struct {
	source   string
	prefixes map[string]bool
	rels     map[uint32]relation
	describe describer

	// from is the position everything before which has been handed over or was
	// covered by the state: a transaction whose commit record begins there or later
	// is new. Servers resend whole transactions.
	from uint64
	// head is where the server's log ended when the stream began.
	head uint64
	cur  *batch
	// root is the table that the description before was of, 0 if it was no description.
	root uint32
	// unknown is a description that nothing goes on behind until the catalog was asked about
	// it; nil mostly.
	unknown *unknown
	// tx is the open transaction, nil between transactions.
	tx        *record.Tx
	commitLSN uint64
	skip      bool
	ordinal   uint32
	// part is the transaction that a lost connection left half handed over.
	part part

	// sent is the server's clock of the message at hand, in Unix microseconds.
	sent     int64
	slab     []record.Tx
	oids     []uint32
	received uint64
}

// part is what has been handed over of an open transaction.
type part struct {
	tx        *record.Tx
	commitLSN uint64
	// ordinals counts the rows and messages handed over.
	ordinals uint32
}

// relationsReset forgets the descriptions of tables: each connection gets them anew.
func (a *assembler) relationsReset() {
	clear(a.rels)
	a.unknown = nil
}

// connectionLost drops what of an open transaction hasn't been handed over; the next
// connection brings it again.
func (a *assembler) connectionLost() {
	if a.tx == nil {
		return
	}
	if !a.skip {
		a.cur.dropTail()
	}
	a.tx, a.skip, a.ordinal = nil, false, 0
}

// message takes one message of a transaction, and blk, which it lies in.
func (a *assembler) message(kind pgoutput.Kind, body []byte, blk *block) error {
	if kind != pgoutput.Relation && kind != pgoutput.Type {
		a.root = 0
	}
	switch kind {
	case pgoutput.Begin:
		m, err := pgoutput.ParseBegin(body)
		if err != nil {
			return err
		}
		return a.begin(m)
	case pgoutput.Commit:
		m, err := pgoutput.ParseCommit(body)
		if err != nil {
			return err
		}
		return a.commit(m)
	case pgoutput.Relation:
		return a.relation(body)
	case pgoutput.Insert, pgoutput.Update, pgoutput.Delete:
		return a.change(kind, body, blk)
	case pgoutput.Truncate:
		return a.truncate(body)
	case pgoutput.Message:
		return a.logical(body, blk)
	case pgoutput.Origin:
		name, err := pgoutput.ParseOrigin(body)
		if err == nil && a.tx != nil {
			a.tx.Origin = name
		}
		return err
	case pgoutput.Type:
		return nil // Types are described from the catalog.
	}
	return fmt.Errorf("%w: message %q", pgoutput.ErrMalformed, byte(kind))
}

func (a *assembler) begin(m pgoutput.BeginMessage) error {
	if a.tx != nil {
		return fmt.Errorf("%w: a transaction begins inside another", pgoutput.ErrMalformed)
	}
	a.ordinal, a.commitLSN = 0, m.CommitLSN
	a.skip = m.CommitLSN < a.from
	if p := a.part; p.tx != nil && !a.skip {
		if p.commitLSN != m.CommitLSN || p.tx.XID != m.XID {
			return errForked
		}
		a.tx = p.tx
		return nil
	}
	if len(a.slab) == 0 {
		a.slab = make([]record.Tx, 64)
	}
	a.tx, a.slab = &a.slab[0], a.slab[1:]
	*a.tx = record.Tx{Source: a.source, CommitStart: m.CommitLSN, XID: m.XID, CommitTime: m.CommitTime}
	return nil
}

func (a *assembler) commit(m pgoutput.CommitMessage) error {
	if a.tx == nil || m.CommitLSN != a.commitLSN {
		return fmt.Errorf("%w: commit without its begin", pgoutput.ErrMalformed)
	}
	tx := a.tx
	a.tx = nil
	a.received = max(a.received, m.EndLSN)
	if a.skip {
		return nil
	}
	tx.Position = m.EndLSN
	a.from = m.EndLSN
	switch {
	case a.cur.open():
	case a.part.tx != nil:
		a.cur.begin(tx)
	default:
		// Nothing that anybody asked for: the frontier moves all the same.
		a.frontier(m.EndLSN)
		return nil
	}
	a.part = part{}
	a.cur.spans[len(a.cur.spans)-1].last = true
	return nil
}

// frontier takes a position that everything before has been received of.
func (a *assembler) frontier(lsn uint64) {
	a.received = max(a.received, lsn)
	if a.tx == nil && lsn >= a.from {
		a.cur.idle = max(a.cur.idle, lsn)
		a.from = lsn
	}
}

// keepalive takes the position of a server that, for the most part, waits for more to be
// written: it says so when it has sent all there is. But it also sends one when a stream
// begins, which proves nothing before it is where the log ended then, and now and then
// while it decodes what is of no use to us; that is rare, and caughtUp is only a hint.
func (a *assembler) keepalive(lsn uint64) {
	a.frontier(lsn)
	a.cur.caughtUp = a.cur.caughtUp || a.tx == nil && a.cur.idle != 0 && lsn >= a.head
}

func (a *assembler) relation(body []byte) error {
	m, err := pgoutput.ParseRelation(body)
	if err != nil {
		return err
	}
	xid := uint32(0)
	if a.tx != nil {
		xid = a.tx.XID
	}
	rel, known := a.describe.describe(m, xid)
	if !known {
		a.unknown = &unknown{m, xid}
		return nil
	}
	a.described(m, rel)
	return nil
}

// unknown is a description that the catalog has to be asked about.
type unknown struct {
	m   pgoutput.RelationMessage
	xid uint32 // of the transaction it is in
}

// described takes the relation of a description.
func (a *assembler) described(m pgoutput.RelationMessage, rel *record.Relation) {
	a.rels[m.OID] = relation{rel: rel, width: len(m.Columns), oldKeys: a.rels[m.OID].oldKeys}
	if rel != nil {
		a.root = m.OID
		return
	}
	// Behind the description of a root comes that of the partition whose row follows.
	if root, ok := a.rels[a.root]; ok && root.rel != nil {
		var is bool
		root.rel, is = a.describe.partition(root.rel, m)
		root.oldKeys = root.oldKeys || is && m.Identity != 'f'
		a.rels[a.root] = root
	}
}

// place counts a row or message of the open transaction, and reports whether it is
// to be handed over.
func (a *assembler) place() (ordinal uint32, deliver bool, err error) {
	if a.skip {
		return 0, false, nil
	}
	ordinal = a.ordinal
	if ordinal == record.LateOrdinal {
		return 0, false, fmt.Errorf("postgres: transaction %d that commits at %s: %w; to go on behind it: %s",
			a.tx.XID, record.LSN(a.commitLSN), ErrTooManyRows, beginAnew)
	}
	a.ordinal++
	if a.part.tx != nil && ordinal < a.part.ordinals {
		return ordinal, false, nil
	}
	if !a.cur.open() {
		a.cur.begin(a.tx)
	}
	return ordinal, true, nil
}

func (a *assembler) change(kind pgoutput.Kind, body []byte, blk *block) error {
	m, err := pgoutput.ParseChange(kind, body)
	if err != nil {
		return err
	}
	r, ok := a.rels[m.OID]
	if !ok || a.tx == nil {
		return fmt.Errorf("%w: change of table %d that was not announced", pgoutput.ErrMalformed, m.OID)
	}
	if r.rel == nil {
		return nil
	}
	ordinal, deliver, err := a.place()
	if !deliver {
		return err
	}
	row := record.Row{Rel: r.rel, OldKind: m.OldKind, Ordinal: ordinal}
	if r.oldKeys && m.OldKind == record.OldFull {
		row.OldKind = record.OldKey
	}
	if m.OldKind != record.OldNone {
		if row.Old, err = a.tuple(&m, r.width, m.Old); err != nil {
			return err
		}
	}
	switch kind {
	case pgoutput.Delete:
		row.Op = record.Delete
	case pgoutput.Insert:
		row.Op = record.Insert
	default:
		row.Op = record.Update
	}
	if kind != pgoutput.Delete {
		if row.New, err = a.tuple(&m, r.width, m.New); err != nil {
			return err
		}
		if row.OldKind != record.OldNone {
			fillUnchanged(&row)
		}
	}
	a.cur.hold(blk)
	a.cur.bytes += len(body)
	a.cur.rows = append(a.cur.rows, row)
	return nil
}

func (a *assembler) tuple(
	m *pgoutput.Change,
	width int,
	decode func([]record.Value) error,
) (record.Tuple, error) {
	if m.Width() != width {
		return nil, fmt.Errorf("%w: row of %d columns in a table of %d", pgoutput.ErrMalformed, m.Width(), width)
	}
	t := a.cur.tuple(width)
	return t, decode(t)
}

// fillUnchanged takes large values that an update left alone from the old row, which has
// those of the key, and under REPLICA IDENTITY FULL all of them.
func fillUnchanged(row *record.Row) {
	for i := range row.New {
		if row.New[i].Kind == record.Unchanged && (row.OldKind == record.OldFull || row.Rel.Columns[i].Key) {
			row.New[i] = row.Old[i]
		}
	}
}

func (a *assembler) truncate(body []byte) error {
	var err error
	if a.oids, err = pgoutput.ParseTruncate(body, a.oids[:0]); err != nil {
		return err
	}
	if a.tx == nil {
		return fmt.Errorf("%w: truncate outside of a transaction", pgoutput.ErrMalformed)
	}
	for _, oid := range a.oids {
		r, ok := a.rels[oid]
		if !ok {
			return fmt.Errorf("%w: truncate of table %d that was not announced", pgoutput.ErrMalformed, oid)
		}
		if r.rel == nil {
			continue
		}
		ordinal, deliver, err := a.place()
		if err != nil {
			return err
		}
		if deliver {
			a.cur.bytes += len(body)
			a.cur.rows = append(a.cur.rows, record.Row{Rel: r.rel, Op: record.Truncate, Ordinal: ordinal})
		}
	}
	return nil
}

func (a *assembler) logical(body []byte, blk *block) error {
	m, err := pgoutput.ParseMessage(body)
	if err != nil {
		return err
	}
	if m.Transactional {
		if a.tx == nil {
			return fmt.Errorf("%w: message outside of its transaction", pgoutput.ErrMalformed)
		}
		return a.emit(m, blk)
	}
	return a.single(m, blk)
}

// emit appends a message to the open transaction.
func (a *assembler) emit(m pgoutput.LogicalMessage, blk *block) error {
	if !a.prefixes[m.Prefix] {
		return nil
	}
	ordinal, deliver, err := a.place()
	if !deliver {
		return err
	}
	a.cur.hold(blk)
	a.cur.bytes += len(m.Content) + len(m.Prefix)
	a.cur.msgs = append(a.cur.msgs, record.Message{Prefix: m.Prefix, Content: m.Content,
		Ordinal: ordinal, Transactional: m.Transactional})
	return nil
}

// single makes a transaction of a message that was not part of one. It has no commit
// record; the server skips it if it began before the position asked for, so the
// position after it is one byte further.
func (a *assembler) single(m pgoutput.LogicalMessage, blk *block) error {
	if a.tx != nil {
		// The server sends it when it reads it, and a transaction only when it has
		// read its end.
		return fmt.Errorf("%w: message inside of a transaction it is not part of", pgoutput.ErrMalformed)
	}
	if !a.prefixes[m.Prefix] {
		return nil
	}
	if err := a.begin(pgoutput.BeginMessage{CommitLSN: m.LSN, CommitTime: a.sent}); err != nil {
		return err
	}
	if err := a.emit(m, blk); err != nil {
		return err
	}
	return a.commit(pgoutput.CommitMessage{CommitLSN: m.LSN, EndLSN: m.LSN + 1, CommitTime: a.tx.CommitTime})
}

// handOver notes that the open transaction's rows so far go to the reader.
func (a *assembler) handOver() {
	a.part = part{tx: a.tx, commitLSN: a.commitLSN, ordinals: a.ordinal}
}
