package state

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"reflect"
	"unsafe"
)

// Codec stores values of V.
//
// A stored value is a version byte and then the fields by (hashed) name, without
// those that are zero: a field that was added since decodes as zero, one that was
// removed is skipped, and one whose type changed shape is an error. Unexported
// fields are stored like exported ones. The tag `state:"name"` gives a field the
// name it is stored under, `state:"-"` leaves it out of storage and of Equal.
//
// Equal and the stored bytes agree: values are equal exactly when they are stored
// as the same bytes. So all NaNs are equal but -0 and 0 differ, times are equal
// when they are the same instant, the order of a map does not matter, decimals
// differ when they print differently (1.0, 1.00), and a nil slice or map differs
// from an empty one, as it does in JSON.
type Codec[V any] struct {
	// Append appends the stored form of *v to dst.
	Append func(dst []byte, v *V) []byte
	// Decode reads a stored value into *v, replacing what is there. The result does
	// not alias src. Errors wrap ErrCorrupt.
	Decode func(src []byte, v *V) error
	// Equal reports whether two values are the same.
	Equal func(a, b *V) bool
	// Size is the number of bytes that *v keeps alive beside itself, roughly; nil
	// where that is always 0.
	Size func(v *V) int
	// Fingerprint changes when the stored shape does.
	Fingerprint string
}

// StateAppender is implemented by types that bring their own stored form. The
// bytes have to be the same exactly when the values are.
type StateAppender interface {
	AppendState(dst []byte) []byte
}

// StateDecoder is the other half of [StateAppender], implemented by the pointer. It
// is given exactly what AppendState appended, must not keep src, and returns what
// it did not need, which has to be nothing.
type StateDecoder interface {
	DecodeState(src []byte) (rest []byte, err error)
}

// codecVersion is the first byte of each stored value.
const codecVersion = 1

// CodecOf makes the codec of a value type: bool, numbers, string, arrays, slices,
// maps, structs, pointers, sql.Null, time.Time (restored in UTC), apd.Decimal, types with
// AppendState and DecodeState, and structs that marshal themselves as binary or
// text. The error names the path of every field of another type and the remedy.
func CodecOf[V any]() (Codec[V], error) {
	t := reflect.TypeFor[V]()
	b := planner{plans: map[reflect.Type]*plan{}}
	p, err := b.plan(t, typeLabel(t))
	if err != nil {
		return Codec[V]{}, err
	}
	sum := sha256.Sum256([]byte(fmt.Sprintf("%d %s", codecVersion, b.shape(t))))
	c := Codec[V]{Fingerprint: hex.EncodeToString(sum[:8])}
	c.Equal = func(x, y *V) bool { return p.equal(unsafe.Pointer(x), unsafe.Pointer(y)) }
	if p.size != nil {
		c.Size = func(v *V) int { return p.size(unsafe.Pointer(v)) }
	}
	if p.fields != nil {
		c.Append = func(dst []byte, v *V) []byte {
			return p.fields.append(append(dst, codecVersion), unsafe.Pointer(v))
		}
		c.Decode = decoderOf[V](p.fields.decode)
		return c, nil
	}
	c.Append = func(dst []byte, v *V) []byte {
		return p.append(append(dst, codecVersion), unsafe.Pointer(v))
	}
	c.Decode = decoderOf[V](func(src []byte, at unsafe.Pointer) error {
		rest, err := p.decode(src, at)
		if err == nil && len(rest) > 0 {
			err = errTrailing
		}
		return err
	})
	return c, nil
}

func decoderOf[V any](decode func(src []byte, p unsafe.Pointer) error) func([]byte, *V) error {
	return func(src []byte, v *V) error {
		var zero V
		*v = zero
		if len(src) == 0 {
			return errShort
		}
		if src[0] != codecVersion {
			return fmt.Errorf("%w: value has codec version %d, this program reads %d: "+
				"it was written by another release", ErrCorrupt, src[0], codecVersion)
		}
		return decode(src[1:], unsafe.Pointer(v))
	}
}

var (
	errShort    = fmt.Errorf("%w: value is cut short", ErrCorrupt)
	errTrailing = fmt.Errorf("%w: value has bytes left over", ErrCorrupt)
)

// wire says how to skip a stored field that is not known.
type wire byte

const (
	wireVarint  wire = iota // ended by a byte below 0x80
	wireFixed32             // 4 bytes
	wireFixed64             // 8 bytes
	wireBytes               // varint length, then so many bytes
)

// plan stores a part of a value that lies at a pointer. All but decode leave it
// alone; decode finds it zero.
type plan struct {
	// append writes the value in a form that ends itself, as wire says.
	append func(dst []byte, p unsafe.Pointer) []byte
	decode func(src []byte, p unsafe.Pointer) (rest []byte, err error)
	equal  func(a, b unsafe.Pointer) bool
	// zero reports that the value equals the zero value; a field is then left out.
	zero func(p unsafe.Pointer) bool
	// size is what hangs off the value in bytes; nil: nothing ever.
	size func(p unsafe.Pointer) int
	wire wire
	// fields is set for structs that are stored field by field.
	fields *structPlan
	// field is how an optional value (pointer, sql.Null) that is present is stored
	// as a field of a struct; nil: as anywhere else.
	field *plan
}

func skip(src []byte, w wire) ([]byte, error) {
	n := 0
	switch w {
	case wireVarint:
		_, n = binary.Uvarint(src)
	case wireFixed32:
		n = 4
	case wireFixed64:
		n = 8
	case wireBytes:
		_, rest, err := cutBytes(src)
		return rest, err
	}
	if n <= 0 || n > len(src) {
		return nil, errShort
	}
	return src[n:], nil
}

// cutBytes reads a length and so many bytes.
func cutBytes(src []byte) (b, rest []byte, err error) {
	n, k := binary.Uvarint(src)
	if k <= 0 || n > uint64(len(src)-k) {
		return nil, nil, errShort
	}
	return src[k : k+int(n)], src[k+int(n):], nil
}

// appendLengthOf puts the length of dst[start:] in front of it.
func appendLengthOf(dst []byte, start int) []byte {
	n := len(dst) - start
	if n < 0x80 {
		dst = append(dst, 0)
		copy(dst[start+1:], dst[start:])
		dst[start] = byte(n)
		return dst
	}
	var head [binary.MaxVarintLen64]byte
	k := binary.PutUvarint(head[:], uint64(n))
	dst = append(dst, head[:k]...)
	copy(dst[start+k:], dst[start:start+n])
	copy(dst[start:], head[:k])
	return dst
}
