package operators

import (
	"encoding/binary"

	"github.com/tailrace/tailrace/record"
)

// appendTime encodes a time so that bytes order as times do.
func appendTime(dst []byte, at int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(at)^1<<63)
}

func decodeTime(src []byte) int64 { return int64(binary.BigEndian.Uint64(src) ^ 1<<63) }

// appendTag encodes a record's identity so that ids of one source, made on one way, order as
// records do.
func appendTag(dst []byte, t record.Tag) []byte {
	var pos uint64
	var source, log string
	if t.Tx != nil {
		pos, source, log = t.Tx.Position, t.Tx.Source, t.Tx.Log
	}
	dst = binary.BigEndian.AppendUint64(dst, pos)
	dst = binary.BigEndian.AppendUint32(dst, t.Ordinal)
	dst = append(dst, t.Path...)
	dst = append(append(dst, 0), source...)
	if log != "" {
		dst = append(append(dst, 0), log...)
	}
	return dst
}

// keyRange holds the bounds of a scan over the entries of one group by time.
type keyRange struct{ lower, upper []byte }

// set bounds the entries of a group with times from and to, both included.
func (r *keyRange) set(group []byte, from, to int64) {
	r.lower = appendTime(append(r.lower[:0], group...), from)
	r.upper = append(appendTime(append(r.upper[:0], group...), to), maxSuffix...)
}

// maxSuffix follows all that comes behind a time in an entry's key.
var maxSuffix = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
