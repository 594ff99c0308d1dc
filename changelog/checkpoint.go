package changelog

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/tailrace/tailrace/state"
)

// TopicID is the id that a cluster gives a topic: another one after the topic has been
// deleted and created again.
type TopicID [16]byte

// String is the id in hexadecimal.
func (id TopicID) String() string { return hex.EncodeToString(id[:]) }

// Partition names a partition of a topic.
type Partition struct {
	Topic  string
	Number int32
}

// String is topic/number.
func (p Partition) String() string { return fmt.Sprintf("%s/%d", p.Topic, p.Number) }

func (p Partition) compare(q Partition) int {
	return cmp.Or(cmp.Compare(p.Topic, q.Topic), cmp.Compare(p.Number, q.Number))
}

// Position is up to where a changelog is contained in the state.
type Position struct {
	Partition
	ID TopicID
	// Next is the offset of the first record that is not contained.
	Next int64
	// Epoch is the leader epoch of the last record before Next, -1 if unknown.
	Epoch int32
}

// Identity says whose state something is. State of another identity is never continued
// (K11).
type Identity struct {
	Cluster, App string
	// Topology is the hash of the topology that made the state.
	Topology string
}

// Checkpoint is what is known of a task's local state. It is written in the same batch as
// the data (K2).
type Checkpoint struct {
	Identity
	// Time is when the state was last known to hold all that its changelogs held: the time
	// of a commit, or of having read to their ends. Of tombstones that were written later
	// and have been removed nothing would be known any more, so after half of a changelog's
	// delete.retention.ms the state is not continued. An idle task writes its checkpoint
	// anew before that, see Due.
	Time time.Time
	// Positions are in order of their partitions, one for each changelog of the task.
	Positions []Position
}

// checkpointFormat is the first byte of an encoded checkpoint.
const checkpointFormat = 1

// ErrFormat says that a checkpoint was written by a newer release.
var ErrFormat = errors.New("changelog: checkpoint of a newer format")

// Append appends the encoding of the checkpoint: one value for the state database.
func (c *Checkpoint) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, checkpointFormat)
	for _, s := range []string{c.Cluster, c.App, c.Topology} {
		dst = appendText(dst, s)
	}
	dst = binary.AppendVarint(dst, c.Time.UnixMilli())
	dst = binary.AppendUvarint(dst, uint64(len(c.Positions)))
	for i := range c.Positions {
		p := &c.Positions[i]
		dst = appendText(dst, p.Topic)
		dst = binary.AppendVarint(dst, int64(p.Number))
		dst = append(dst, p.ID[:]...)
		dst = binary.AppendVarint(dst, p.Next)
		dst = binary.AppendVarint(dst, int64(p.Epoch))
	}
	return binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(dst[start:]))
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// DecodeCheckpoint reads what Append has written. Errors are ErrFormat and
// state.ErrCorrupt.
func DecodeCheckpoint(src []byte) (Checkpoint, error) {
	if len(src) > 0 && src[0] > checkpointFormat {
		return Checkpoint{}, fmt.Errorf("%w: it has format %d and this release reads %d; use the release that "+
			"wrote it, or remove the state directory to restore the state from the changelogs",
			ErrFormat, src[0], checkpointFormat)
	}
	body := len(src) - 4
	if body < 1 || src[0] != checkpointFormat ||
		crc32.ChecksumIEEE(src[:body]) != binary.BigEndian.Uint32(src[body:]) {
		return Checkpoint{}, fmt.Errorf("changelog: checkpoint of %d bytes: %w", len(src), state.ErrCorrupt)
	}
	d := decoder{rest: src[1:body]}
	c := Checkpoint{Identity: Identity{Cluster: d.text(), App: d.text(), Topology: d.text()}}
	c.Time = time.UnixMilli(d.varint()).UTC()
	n := d.uvarint()
	for range min(n, uint64(len(d.rest))) {
		p := Position{Partition: Partition{Topic: d.text(), Number: int32(d.varint())}}
		copy(p.ID[:], d.take(uint64(len(p.ID))))
		p.Next, p.Epoch = d.varint(), int32(d.varint())
		c.Positions = append(c.Positions, p)
	}
	if d.bad || len(d.rest) > 0 || uint64(len(c.Positions)) != n {
		return Checkpoint{}, fmt.Errorf("changelog: checkpoint of %d bytes: %w", len(src), state.ErrCorrupt)
	}
	return c, nil
}

// decoder reads the parts of an encoding; bad is set by the first that is not there.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return nil
	}
	out := d.rest[:n]
	d.rest = d.rest[n:]
	return out
}

func (d *decoder) text() string { return string(d.take(d.uvarint())) }

// LoadCheckpoint reads the checkpoint under a key; ok is false where there is none.
func LoadCheckpoint(r state.Reader, key []byte) (c Checkpoint, ok bool, err error) {
	value, ok, err := r.Get(nil, key)
	if err != nil || !ok {
		return Checkpoint{}, false, err
	}
	c, err = DecodeCheckpoint(value)
	return c, err == nil, err
}

// At returns the position in a changelog; ok is false where the checkpoint has none.
func (c *Checkpoint) At(p Partition) (at Position, ok bool) {
	i, ok := c.find(p)
	if !ok {
		return Position{}, false
	}
	return c.Positions[i], true
}

func (c *Checkpoint) find(p Partition) (int, bool) {
	return slices.BinarySearchFunc(c.Positions, p, func(at Position, p Partition) int {
		return at.compare(p)
	})
}

// Advance moves the position in a changelog that the checkpoint has. It never goes back
// (K2): an error says that it would.
func (c *Checkpoint) Advance(p Partition, next int64, epoch int32) error {
	i, ok := c.find(p)
	if !ok {
		return fmt.Errorf("changelog: the checkpoint has no position in %v", p)
	}
	at := &c.Positions[i]
	if next < at.Next {
		return fmt.Errorf("changelog: the position in %v would go back from %d to %d", p, at.Next, next)
	}
	at.Next, at.Epoch = next, max(at.Epoch, epoch)
	return nil
}

// Clone returns a copy that shares nothing with c.
func (c *Checkpoint) Clone() Checkpoint {
	out := *c
	out.Positions = slices.Clone(c.Positions)
	return out
}

// Due reports whether the checkpoint of an idle task has to be written anew, with Time set
// to now: after an eighth of the shortest delete.retention.ms of its changelogs.
func (c *Checkpoint) Due(now time.Time, deleteRetention time.Duration) bool {
	return now.Sub(c.Time) >= deleteRetention/8
}
