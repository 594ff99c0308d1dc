package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tailrace/tailrace/changelog"
)

// errBatch says that a record batch cannot be read.
var errBatch = errors.New("kafka: malformed record batch")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The header of a record batch: where its parts are.
const (
	batchLength     = 8  // int32: of what follows
	batchEpoch      = 12 // int32
	batchMagic      = 16 // int8
	batchCRC        = 17 // uint32: of what follows
	batchAttributes = 21 // int16
	batchLastDelta  = 23 // int32
	batchProducer   = 43 // int64
	batchCount      = 57 // int32
	batchHeader     = 61
)

// The attributes of a record batch.
const (
	attrCodec         = 0x07
	attrTransactional = 0x10
	attrControl       = 0x20
)

// batchReader turns the record batches of a fetch into records: it leaves out what was
// aborted and control records, and knows behind which offset it stands then. Records
// point into the batches.
type batchReader struct {
	decompressor kgo.Decompressor
	next         int64
	epoch        int32
	records      []changelog.Record
	// aborted are the first offsets of a producer's aborted transactions, ascending.
	aborted map[int64][]int64
}

// read reads the batches that a partition's answer holds. The last may be cut off.
func (b *batchReader) read(resp *kmsg.FetchResponseTopicPartition) error {
	clear(b.aborted)
	for _, a := range resp.AbortedTransactions {
		if b.aborted == nil {
			b.aborted = map[int64][]int64{}
		}
		b.aborted[a.ProducerID] = append(b.aborted[a.ProducerID], a.FirstOffset)
	}
	for _, offsets := range b.aborted {
		slices.Sort(offsets)
	}
	for in := resp.RecordBatches; len(in) >= batchHeader; {
		size := int64(int32(binary.BigEndian.Uint32(in[batchLength:]))) + batchEpoch
		if size < batchHeader {
			return fmt.Errorf("%w: at offset %d it has %d bytes", errBatch, b.next, size)
		}
		if size > int64(len(in)) {
			return nil
		}
		if err := b.batch(in[:size]); err != nil {
			return err
		}
		in = in[size:]
	}
	return nil
}

func (b *batchReader) batch(in []byte) error {
	first := int64(binary.BigEndian.Uint64(in))
	if in[batchMagic] != 2 {
		return fmt.Errorf("%w: at offset %d it has version %d, and 2 is what can be read",
			errBatch, first, in[batchMagic])
	}
	if crc32.Checksum(in[batchAttributes:], castagnoli) != binary.BigEndian.Uint32(in[batchCRC:]) {
		return fmt.Errorf("%w: at offset %d it fails its checksum", errBatch, first)
	}
	last := first + int64(int32(binary.BigEndian.Uint32(in[batchLastDelta:])))
	if last < b.next {
		return nil
	}
	attributes := binary.BigEndian.Uint16(in[batchAttributes:])
	producer := int64(binary.BigEndian.Uint64(in[batchProducer:]))
	count := int32(binary.BigEndian.Uint32(in[batchCount:]))
	if err := b.content(in, first, count, attributes, producer); err != nil {
		return err
	}
	b.next = last + 1
	b.epoch = int32(binary.BigEndian.Uint32(in[batchEpoch:]))
	return nil
}

// content reads the records of a batch, unless they were aborted.
func (b *batchReader) content(in []byte, first int64, count int32, attributes uint16, producer int64) error {
	aborted := b.aborted[producer]
	isAborted := attributes&attrTransactional != 0 && len(aborted) > 0 && first >= aborted[0]
	if isAborted && attributes&attrControl == 0 {
		return nil
	}
	data := in[batchHeader:]
	if codec := attributes & attrCodec; codec != 0 {
		var err error
		if data, err = b.decompressor.Decompress(data, kgo.CompressionCodecType(codec)); err != nil {
			return fmt.Errorf("%w: at offset %d: %w", errBatch, first, err)
		}
	}
	if attributes&attrControl == 0 {
		return b.decode(data, first, count)
	}
	if !isAborted || count == 0 {
		return nil
	}
	_, marker, err := decodeRecord(data)
	if err != nil {
		return fmt.Errorf("%w: control record at offset %d", err, first)
	}
	// Its key is a version and a type, 0 for an abort: the end of the transaction.
	if len(marker.key) >= 4 && binary.BigEndian.Uint16(marker.key[2:]) == 0 {
		b.aborted[producer] = aborted[1:]
	}
	return nil
}

// decode reads the records of a batch from where the reader stands.
func (b *batchReader) decode(data []byte, first int64, count int32) error {
	if int64(count) > int64(len(data)) {
		return fmt.Errorf("%w: at offset %d it has %d records in %d bytes", errBatch, first, count, len(data))
	}
	b.records = slices.Grow(b.records, max(int(count), 0))
	for range count {
		rest, r, err := decodeRecord(data)
		if err != nil {
			return fmt.Errorf("%w: at offset %d", err, first)
		}
		data = rest
		if offset := first + r.offset; offset >= b.next {
			b.records = append(b.records, changelog.Record{Offset: offset, Key: r.key, Value: r.value})
		}
	}
	return nil
}

// rawRecord is what counts of a record as it lies in a batch.
type rawRecord struct {
	offset     int64 // behind the batch's first
	key, value []byte
}

// decodeRecord reads a record: length, attributes, time, offset, key, value, headers.
func decodeRecord(in []byte) (rest []byte, r rawRecord, err error) {
	size, n := binary.Varint(in)
	if n <= 0 || size < 1 || size > int64(len(in)-n) {
		return nil, r, errBatch
	}
	body := in[n : n+int(size)]
	rest = in[n+int(size):]
	body = body[1:]
	var ok [4]bool
	_, body, ok[0] = takeVarint(body)
	r.offset, body, ok[1] = takeVarint(body)
	r.key, body, ok[2] = takeBytes(body)
	r.value, _, ok[3] = takeBytes(body)
	if ok != [4]bool{true, true, true, true} {
		return nil, r, errBatch
	}
	return rest, r, nil
}

func takeVarint(in []byte) (v int64, rest []byte, ok bool) {
	v, n := binary.Varint(in)
	if n <= 0 {
		return 0, nil, false
	}
	return v, in[n:], true
}

// takeBytes reads a length and so many bytes; -1 is nil.
func takeBytes(in []byte) (b, rest []byte, ok bool) {
	size, n := binary.Varint(in)
	if n <= 0 || size < -1 || size > int64(len(in)-n) {
		return nil, nil, false
	}
	in = in[n:]
	if size == -1 {
		return nil, in, true
	}
	return in[:size:size], in[size:], true
}
