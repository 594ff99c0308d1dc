package topology

import (
	"encoding/binary"
	"fmt"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// appendTag encodes where a record belongs, and its time:
//
//	time i64, seq u32, ordinal u32, path, source, position u64, commit start u64, xid u32,
//	commit time i64, origin, snapshot
//
// Strings have their length before them, as a varint.
func appendTag(dst []byte, t record.Tag, time int64) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(time))
	dst = binary.BigEndian.AppendUint32(dst, t.Seq)
	dst = binary.BigEndian.AppendUint32(dst, t.Ordinal)
	dst = appendText(dst, t.Path)
	var tx record.Tx
	if t.Tx != nil {
		tx = *t.Tx
	}
	dst = appendText(dst, tx.Source)
	dst = binary.BigEndian.AppendUint64(dst, tx.Position)
	dst = binary.BigEndian.AppendUint64(dst, tx.CommitStart)
	dst = binary.BigEndian.AppendUint32(dst, tx.XID)
	dst = binary.BigEndian.AppendUint64(dst, uint64(tx.CommitTime))
	dst = appendText(dst, tx.Origin)
	if tx.Snapshot {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// decodeTag reads what appendTag has written and returns what follows it. The transaction
// is the one that tx says.
func decodeTag(
	src []byte, t *record.Tag, time *int64, tx func(seq uint32, tx record.Tx) *record.Tx,
) ([]byte, error) {
	d := tagDecoder{src: src}
	*time = int64(d.number(8))
	t.Seq, t.Ordinal, t.Path = uint32(d.number(4)), uint32(d.number(4)), d.text()
	is := record.Tx{
		Source: d.text(), Position: d.number(8), CommitStart: d.number(8), XID: uint32(d.number(4)),
		CommitTime: int64(d.number(8)), Origin: d.text(), Snapshot: d.number(1) == 1,
	}
	if d.short {
		return nil, fmt.Errorf("%w: exchanged record of %d bytes", state.ErrCorrupt, len(src))
	}
	t.Tx = tx(t.Seq, is)
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
