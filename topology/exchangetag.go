package topology

import (
	"encoding/binary"
	"fmt"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// appendTag encodes a record's place in its transaction, and its time:
//
//	time i64, ordinal u32, path
//
// The path has its length before it, as a varint. The transaction is the message's.
func appendTag(dst []byte, t *record.Tag, time int64) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(time))
	dst = binary.BigEndian.AppendUint32(dst, t.Ordinal)
	return append(binary.AppendUvarint(dst, uint64(len(t.Path))), t.Path...)
}

// decodeTag reads what appendTag has written and returns what follows it.
func decodeTag(src []byte, t *record.Tag, time *int64) ([]byte, error) {
	d := tagDecoder{src: src}
	*time = int64(d.number(8))
	t.Ordinal, t.Path = uint32(d.number(4)), d.text()
	if d.short {
		return nil, fmt.Errorf("%w: exchanged record of %d bytes", state.ErrCorrupt, len(src))
	}
	return d.src, nil
}

type tagDecoder struct {
	src   []byte
	short bool
}

func (d *tagDecoder) take(n uint64) []byte {
	if d.short = d.short || n > uint64(len(d.src)); d.short {
		return nil
	}
	out := d.src[:n]
	d.src = d.src[n:]
	return out
}

func (d *tagDecoder) number(size uint64) (n uint64) {
	for _, b := range d.take(size) {
		n = n<<8 | uint64(b)
	}
	return n
}

func (d *tagDecoder) text() string {
	n, size := binary.Uvarint(d.src)
	if size <= 0 {
		d.short = true
		return ""
	}
	d.src = d.src[size:]
	return string(d.take(n))
}
