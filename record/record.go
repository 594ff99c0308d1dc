// Package record holds the values that flow through a topology: records of
// streams, changes of tables, and the transactions and positions they come from.
package record

import (
	"slices"
	"strings"
	"time"
)

// Tx is a committed transaction of a source, or a snapshot, which counts as one
// transaction. Every record and change belongs to exactly one.
type Tx struct {
	// Source is the name of the database or topic set the transaction is from.
	Source string
	// Log is the log of the source that Position counts in, where it has several: a
	// partition of a topic, as "topic/partition". Empty for a database.
	Log string `json:",omitempty"`
	// Position is where the source continues after this transaction. For
	// PostgreSQL it is the commit's end LSN: the server resends whole
	// transactions only, so this names the transaction uniquely.
	Position uint64
	// CommitStart is where the transaction's commit begins in the log. It is known
	// from the first piece of a transaction on: a state at position P holds the
	// transaction if CommitStart < P. 0 for a snapshot.
	CommitStart uint64
	// XID is the source's own id of the transaction, 0 if it has none.
	XID uint32
	// CommitTime is the commit time in Unix microseconds.
	CommitTime int64
	// Origin is the replication origin, empty for a local transaction.
	Origin string
	// Snapshot says that the transaction is an initial snapshot.
	Snapshot bool
	// Headers are those of the record of a topic that the transaction is, where its
	// connector passes them on (sources/kafka does). They are not to be changed.
	Headers []Header `json:",omitempty"`
	// Retry is set where inputs that an error policy has set aside are tried again: the
	// number of the replay. Of inputs of a stream the transaction is a copy of theirs. For
	// parked keys there is one that is none of the source's, with Source and Position up to
	// which that has been processed.
	Retry uint64 `json:",omitempty"`
}

// Header is a header of a record of a topic, byte for byte.
type Header struct {
	Key string
	// Value is nil where the header has none.
	Value []byte
}

// Tag places a stream record inside an epoch. Records are ordered by (Seq,
// Ordinal, Path), whatever way they took through the topology, so that order and
// event ids never depend on how work was divided.
type Tag struct {
	// Tx is the transaction the record belongs to.
	Tx *Tx
	// Seq is the transaction's place in the epoch, from 0.
	Seq uint32
	// Ordinal is the row's place in the transaction, from 0.
	Ordinal uint32
	// Path says which of the outputs of one row this is: each operator that can
	// turn one record into several appends four big-endian bytes.
	Path string
}

// LateOrdinal is the ordinal of records that no row is the cause of, such as those made of
// a table's changes: behind every row of the transaction.
const LateOrdinal = 1<<32 - 1

// Again reports whether the record is one of a replay that no row is the cause of. Each
// step of one may bring about another that has the same source, position, ordinal and path.
func (t Tag) Again() bool { return t.Tx != nil && t.Tx.Retry > 0 && t.Ordinal == LateOrdinal }

// Compare orders two tags of one epoch.
func (t Tag) Compare(u Tag) int {
	switch {
	case t.Seq != u.Seq:
		return cmpUint32(t.Seq, u.Seq)
	case t.Ordinal != u.Ordinal:
		return cmpUint32(t.Ordinal, u.Ordinal)
	}
	return strings.Compare(t.Path, u.Path)
}

func cmpUint32(a, b uint32) int {
	if a < b {
		return -1
	}
	return 1
}

// Record is one fact of a stream. A fact is never retracted.
type Record[K comparable, V any] struct {
	Key   K
	Value V
	// Time is the event time in Unix microseconds.
	Time int64
	Tag  Tag
}

// Sides says which values of a change exist.
type Sides uint8

// The two values of a change.
const (
	HasOld Sides = 1 << iota
	HasNew
)

// Change is what happened to one key of a table: the value before and the value
// after, either of which may be absent. A net change has values that differ.
type Change[K comparable, V any] struct {
	Key      K
	Old, New V
	Sides    Sides
	// Time is the event time of the change's last contributor in Unix
	// microseconds.
	Time int64
}

// HasOld reports whether the key had a value before the change.
func (c *Change[K, V]) HasOld() bool { return c.Sides&HasOld != 0 }

// HasNew reports whether the key has a value after the change.
func (c *Change[K, V]) HasNew() bool { return c.Sides&HasNew != 0 }

// Narrow leaves the given sides and clears the values of the others.
func (c *Change[K, V]) Narrow(s Sides) {
	var zero V
	c.Sides &= s
	if !c.HasOld() {
		c.Old = zero
	}
	if !c.HasNew() {
		c.New = zero
	}
}

// Versions are the two values of a key around a step.
type Versions[V any] struct {
	Old, New V
	Sides    Sides
	// Time is the event time of the newer value in Unix microseconds.
	Time int64
}

// HasOld reports whether the key had a value before the step.
func (v *Versions[V]) HasOld() bool { return v.Sides&HasOld != 0 }

// HasNew reports whether the key has a value after the step.
func (v *Versions[V]) HasNew() bool { return v.Sides&HasNew != 0 }

// Narrow leaves the given sides and clears the values of the others.
func (v *Versions[V]) Narrow(s Sides) {
	var zero V
	v.Sides &= s
	if !v.HasOld() {
		v.Old = zero
	}
	if !v.HasNew() {
		v.New = zero
	}
}

// Op is what a row event did to its row.
type Op uint8

// The operations of row events.
const (
	Insert Op = iota + 1
	Update
	Delete
	Truncate
)

// String returns the operation's SQL name.
func (o Op) String() string {
	switch o {
	case Insert:
		return "INSERT"
	case Update:
		return "UPDATE"
	case Delete:
		return "DELETE"
	case Truncate:
		return "TRUNCATE"
	}
	return "UNKNOWN"
}

// RowEvent is one row event of a source table as a fact: what a stream of all
// events of a table carries. Old is what the table held before, taken from
// Tailrace's own state, never from the log (contract 5).
type RowEvent[K comparable, V any] struct {
	Op       Op
	Key      K
	Old, New V
	Sides    Sides
}

// Context tells a user function about the input it is called for.
type Context struct {
	// Node is the name of the node that calls.
	Node string
	// Time is the event time.
	Time time.Time
	// Tx is the transaction the input is from; nil for a table change that
	// several transactions contributed to.
	Tx *Tx
}

// Positions says where in each source something stands: source name to position.
type Positions map[string]uint64

// Clone returns a copy.
func (p Positions) Clone() Positions {
	q := make(Positions, len(p))
	for k, v := range p {
		q[k] = v
	}
	return q
}

// Covers reports whether p has reached q in every source of q.
func (p Positions) Covers(q Positions) bool {
	for k, v := range q {
		if p[k] < v {
			return false
		}
	}
	return true
}

// Sources returns the names of the sources in order.
func (p Positions) Sources() []string {
	names := make([]string, 0, len(p))
	for k := range p {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

// String prints the positions in source order as name:X/Y, separated by commas.
func (p Positions) String() string {
	var b strings.Builder
	for i, name := range p.Sources() {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(name)
		b.WriteByte(':')
		b.WriteString(LSN(p[name]).String())
	}
	return b.String()
}
