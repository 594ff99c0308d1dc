package state

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"time"
	"unsafe"

	"github.com/cockroachdb/apd/v3"
)

func uintPlan(t reflect.Type) plan {
	size := t.Size()
	isBool := t.Kind() == reflect.Bool
	limit := uint64(1)<<(8*size) - 1
	switch {
	case isBool:
		limit = 1
	case size == 8:
		limit = math.MaxUint64
	}
	return plan{
		wire:   wireVarint,
		append: func(dst []byte, p unsafe.Pointer) []byte { return binary.AppendUvarint(dst, loadUint(p, size)) },
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			x, n := binary.Uvarint(src)
			if n <= 0 {
				return nil, errShort
			}
			if x > limit {
				return nil, fmt.Errorf("%w: %d does not fit %s", ErrCorrupt, x, t)
			}
			storeUint(p, size, x)
			return src[n:], nil
		},
		equal: func(a, b unsafe.Pointer) bool { return loadUint(a, size) == loadUint(b, size) },
		zero:  func(p unsafe.Pointer) bool { return loadUint(p, size) == 0 },
	}
}

func intPlan(t reflect.Type) plan {
	size := t.Size()
	shift := 64 - 8*size
	return plan{
		wire: wireVarint,
		append: func(dst []byte, p unsafe.Pointer) []byte {
			return binary.AppendVarint(dst, int64(loadUint(p, size)<<shift)>>shift)
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			x, n := binary.Varint(src)
			if n <= 0 {
				return nil, errShort
			}
			if x<<shift>>shift != x {
				return nil, fmt.Errorf("%w: %d does not fit %s", ErrCorrupt, x, t)
			}
			storeUint(p, size, uint64(x))
			return src[n:], nil
		},
		equal: func(a, b unsafe.Pointer) bool { return loadUint(a, size) == loadUint(b, size) },
		zero:  func(p unsafe.Pointer) bool { return loadUint(p, size) == 0 },
	}
}

// Floats are stored as their bits, with one pattern for all NaNs.
var float64Plan = plan{
	wire: wireFixed64,
	append: func(dst []byte, p unsafe.Pointer) []byte {
		return binary.LittleEndian.AppendUint64(dst, float64Bits(*(*float64)(p)))
	},
	decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
		if len(src) < 8 {
			return nil, errShort
		}
		*(*float64)(p) = math.Float64frombits(binary.LittleEndian.Uint64(src))
		return src[8:], nil
	},
	equal: func(a, b unsafe.Pointer) bool {
		return float64Bits(*(*float64)(a)) == float64Bits(*(*float64)(b))
	},
	zero: func(p unsafe.Pointer) bool { return *(*uint64)(p) == 0 },
}

func float64Bits(f float64) uint64 {
	if f != f {
		return math.Float64bits(math.NaN())
	}
	return math.Float64bits(f)
}

var float32Plan = plan{
	wire: wireFixed32,
	append: func(dst []byte, p unsafe.Pointer) []byte {
		return binary.LittleEndian.AppendUint32(dst, float32Bits(*(*float32)(p)))
	},
	decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
		if len(src) < 4 {
			return nil, errShort
		}
		*(*float32)(p) = math.Float32frombits(binary.LittleEndian.Uint32(src))
		return src[4:], nil
	},
	equal: func(a, b unsafe.Pointer) bool {
		return float32Bits(*(*float32)(a)) == float32Bits(*(*float32)(b))
	},
	zero: func(p unsafe.Pointer) bool { return *(*uint32)(p) == 0 },
}

func float32Bits(f float32) uint32 {
	if f != f {
		return math.Float32bits(float32(math.NaN()))
	}
	return math.Float32bits(f)
}

var stringPlan = plan{
	wire: wireBytes,
	append: func(dst []byte, p unsafe.Pointer) []byte {
		s := *(*string)(p)
		return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	},
	decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
		b, rest, err := cutBytes(src)
		if err == nil {
			*(*string)(p) = string(b)
		}
		return rest, err
	},
	equal: func(a, b unsafe.Pointer) bool { return *(*string)(a) == *(*string)(b) },
	zero:  func(p unsafe.Pointer) bool { return *(*string)(p) == "" },
	size:  func(p unsafe.Pointer) int { return len(*(*string)(p)) },
}

// timePlan stores an instant as seconds and nanoseconds; zone and monotonic clock
// are not part of it.
var timePlan = framed(
	func(dst []byte, p unsafe.Pointer) []byte {
		t := (*time.Time)(p)
		dst = binary.AppendVarint(dst, t.Unix())
		return binary.AppendUvarint(dst, uint64(t.Nanosecond()))
	},
	func(src []byte, p unsafe.Pointer) error {
		sec, n := binary.Varint(src)
		if n <= 0 {
			return errShort
		}
		nsec, m := binary.Uvarint(src[n:])
		if m <= 0 || nsec >= 1e9 || n+m != len(src) {
			return errShort
		}
		*(*time.Time)(p) = time.Unix(sec, int64(nsec)).UTC()
		return nil
	},
	func(a, b unsafe.Pointer) bool { return (*time.Time)(a).Equal(*(*time.Time)(b)) },
	func(p unsafe.Pointer) bool { return (*time.Time)(p).IsZero() },
	nil,
)

var typeDecimal = reflect.TypeFor[apd.Decimal]()

var zeroDecimal apd.Decimal

var decimalPlan = framed(
	func(dst []byte, p unsafe.Pointer) []byte {
		d := (*apd.Decimal)(p)
		dst = append(dst, byte(d.Form)<<1)
		if d.Negative {
			dst[len(dst)-1] |= 1
		}
		if d.Form != apd.Finite {
			return dst
		}
		dst = binary.AppendVarint(dst, int64(d.Exponent))
		start := len(dst)
		n := (d.Coeff.BitLen() + 7) / 8
		dst = append(dst, make([]byte, n)...)
		d.Coeff.FillBytes(dst[start:])
		return dst
	},
	func(src []byte, p unsafe.Pointer) error {
		d := (*apd.Decimal)(p)
		if len(src) == 0 || src[0]>>1 > byte(apd.NaN) {
			return errShort
		}
		d.Form, d.Negative = apd.Form(src[0]>>1), src[0]&1 == 1
		if d.Form != apd.Finite {
			return nil
		}
		exp, n := binary.Varint(src[1:])
		if n <= 0 || int64(int32(exp)) != exp {
			return errShort
		}
		d.Exponent = int32(exp)
		d.Coeff.SetBytes(src[1+n:])
		return nil
	},
	func(a, b unsafe.Pointer) bool { return sameDecimal((*apd.Decimal)(a), (*apd.Decimal)(b)) },
	func(p unsafe.Pointer) bool { return sameDecimal((*apd.Decimal)(p), &zeroDecimal) },
	func(p unsafe.Pointer) int { return (*apd.Decimal)(p).Coeff.BitLen() / 8 },
)

func sameDecimal(a, b *apd.Decimal) bool {
	if a.Form != b.Form || a.Negative != b.Negative {
		return false
	}
	return a.Form != apd.Finite || a.Exponent == b.Exponent && a.Coeff.Cmp(&b.Coeff) == 0
}
