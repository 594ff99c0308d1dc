package aggregate

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"time"
	"unsafe"

	"github.com/tailrace/tailrace/state"
)

// ordering encodes values of T so that their bytes compare as the values do. The
// encodings end themselves: none is the beginning of another.
type ordering[T comparable] struct {
	append func(dst []byte, v T) []byte
	decode func(src []byte) (v T, rest []byte, err error)
}

// orderingOf finds the order of a type: that of its key encoding, and besides those
// of floats and time.Time, which cannot be keys but have an order.
func orderingOf[T comparable](what string) (ordering[T], error) {
	t := reflect.TypeFor[T]()
	switch {
	case t == reflect.TypeFor[time.Time]():
		return timeOrdering[T](), nil
	case t.Kind() == reflect.Float64:
		return floatOrdering(func(v T) float64 { return *(*float64)(unsafe.Pointer(&v)) },
			func(f float64) (v T) { *(*float64)(unsafe.Pointer(&v)) = f; return v }), nil
	case t.Kind() == reflect.Float32:
		return floatOrdering(func(v T) float64 { return float64(*(*float32)(unsafe.Pointer(&v))) },
			func(f float64) (v T) { *(*float32)(unsafe.Pointer(&v)) = float32(f); return v }), nil
	}
	codec, err := state.KeyCodecOf[T]()
	if err != nil {
		return ordering[T]{}, fmt.Errorf("aggregate: %s: %s has no order: %w", what, t, err)
	}
	return ordering[T]{append: codec.Append, decode: codec.Decode}, nil
}

// floatOrdering orders as PostgreSQL does: NaN is greater than all, and -0 is 0.
func floatOrdering[T comparable](to func(T) float64, from func(float64) T) ordering[T] {
	return ordering[T]{
		append: func(dst []byte, v T) []byte {
			f := to(v)
			bits := math.Float64bits(f)
			switch {
			case f != f:
				bits = math.MaxUint64
			case f == 0:
				bits = 1 << 63
			case f < 0:
				bits = ^bits
			default:
				bits |= 1 << 63
			}
			return binary.BigEndian.AppendUint64(dst, bits)
		},
		decode: func(src []byte) (v T, rest []byte, err error) {
			if len(src) < 8 {
				return v, nil, errEntry
			}
			bits := binary.BigEndian.Uint64(src)
			switch {
			case bits == math.MaxUint64:
				return from(math.NaN()), src[8:], nil
			case bits>>63 == 1:
				bits &^= 1 << 63
			default:
				bits = ^bits
			}
			return from(math.Float64frombits(bits)), src[8:], nil
		},
	}
}

// timeOrdering orders instants, whatever their locations; they come back in UTC.
func timeOrdering[T comparable]() ordering[T] {
	return ordering[T]{
		append: func(dst []byte, v T) []byte {
			at := (*time.Time)(unsafe.Pointer(&v))
			dst = binary.BigEndian.AppendUint64(dst, uint64(at.Unix())^1<<63)
			return binary.BigEndian.AppendUint32(dst, uint32(at.Nanosecond()))
		},
		decode: func(src []byte) (v T, rest []byte, err error) {
			if len(src) < 12 {
				return v, nil, errEntry
			}
			seconds := int64(binary.BigEndian.Uint64(src) ^ 1<<63)
			nanos := int64(binary.BigEndian.Uint32(src[8:]))
			*(*time.Time)(unsafe.Pointer(&v)) = time.Unix(seconds, nanos).UTC()
			return v, src[12:], nil
		},
	}
}

// descending turns an encoding around, so that the greatest value comes first. It
// keeps the encodings free of one another's beginnings.
func descending(b []byte) {
	for i := range b {
		b[i] = ^b[i]
	}
}

var errEntry = fmt.Errorf("%w: an aggregate's entry is cut short", state.ErrCorrupt)
