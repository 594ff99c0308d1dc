package state

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
	"unsafe"

	"github.com/cockroachdb/apd/v3"
)

// planner makes the plans of a type and of all it contains, each type once, so that
// types may contain themselves behind a pointer, slice or map.
type planner struct {
	plans map[reflect.Type]*plan
	depth int
	later []func() // run when all plans are complete
}

func (b *planner) plan(t reflect.Type, path string) (*plan, error) {
	if p, ok := b.plans[t]; ok {
		return p, nil
	}
	p := &plan{}
	b.plans[t] = p
	b.depth++
	err := b.fill(t, path, p)
	b.depth--
	if err != nil {
		delete(b.plans, t)
		return nil, err
	}
	if b.depth == 0 {
		for _, fn := range b.later {
			fn()
		}
		b.later = nil
	}
	return p, nil
}

func (b *planner) fill(t reflect.Type, path string, p *plan) error {
	switch {
	case implements(t, typeStateAppender, typeStateDecoder):
		*p = hookPlan(t)
		return nil
	case t == typeTime:
		*p = timePlan
		return nil
	case t == typeDecimal:
		*p = decimalPlan
		return nil
	case isNull(t):
		return b.nullPlan(t, path, p)
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		*p = uintPlan(t)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		*p = intPlan(t)
	case reflect.Float32:
		*p = float32Plan
	case reflect.Float64:
		*p = float64Plan
	case reflect.String:
		*p = stringPlan
	case reflect.Pointer:
		return b.pointerPlan(t, path, p)
	case reflect.Slice:
		return b.slicePlan(t, path, p)
	case reflect.Array:
		return b.arrayPlan(t, path, p)
	case reflect.Map:
		return b.mapPlan(t, path, p)
	case reflect.Struct:
		switch {
		case implements(t, typeOrderedKey, typeOrderedKeyDecoder):
			*p = orderedPlan(t)
		case implements(t, typeBinaryMarshaler, typeBinaryUnmarshaler):
			*p = binaryPlan(t)
		case implements(t, typeTextMarshaler, typeTextUnmarshaler):
			*p = textPlan(t)
		case strings.HasPrefix(t.PkgPath(), "sync") || t.PkgPath() == "unique" || t.PkgPath() == "weak":
			return fmt.Errorf("state: %s of type %s cannot be stored: %s", path, t, storeRemedy)
		default:
			return b.structPlan(t, path, p)
		}
	default:
		return fmt.Errorf("state: %s of type %s cannot be stored: %s", path, t, storeRemedy)
	}
	return nil
}

const storeRemedy = "use a concrete type, leave the field out with the tag `state:\"-\"`, " +
	"or implement AppendState and DecodeState on the type that has it"

// implements reports whether *t has both interfaces by itself.
func implements(t, enc, dec reflect.Type) bool {
	pt := reflect.PointerTo(t)
	return pt.Implements(enc) && pt.Implements(dec) && !promoted(t, enc)
}

// leafShape names types that are stored in a form of their own.
func leafShape(t reflect.Type) string {
	switch {
	case implements(t, typeStateAppender, typeStateDecoder):
		return "state:" + t.String()
	case t == typeTime:
		return "time"
	case t == typeDecimal:
		return "decimal"
	case t.Kind() != reflect.Struct:
		return ""
	case implements(t, typeOrderedKey, typeOrderedKeyDecoder):
		return "ordered:" + t.String()
	case implements(t, typeBinaryMarshaler, typeBinaryUnmarshaler):
		return "binary:" + t.String()
	case implements(t, typeTextMarshaler, typeTextUnmarshaler):
		return "text:" + t.String()
	}
	return ""
}

// mayHoldMemory reports whether values of t keep memory alive beside themselves.
func mayHoldMemory(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Pointer, reflect.Slice, reflect.Map:
		return true
	case reflect.Array:
		return t.Len() > 0 && mayHoldMemory(t.Elem())
	case reflect.Struct:
		if t == typeTime {
			return false
		}
		for i := range t.NumField() {
			if mayHoldMemory(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}

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

// framed makes the plan of a type whose stored form is a run of bytes.
func framed(
	enc func(dst []byte, p unsafe.Pointer) []byte, dec func(src []byte, p unsafe.Pointer) error,
	equal func(a, b unsafe.Pointer) bool, zero func(p unsafe.Pointer) bool, size func(p unsafe.Pointer) int,
) plan {
	return plan{
		wire: wireBytes,
		append: func(dst []byte, p unsafe.Pointer) []byte {
			start := len(dst)
			return appendLengthOf(enc(dst, p), start)
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			b, rest, err := cutBytes(src)
			if err != nil {
				return nil, err
			}
			return rest, dec(b, p)
		},
		equal: equal, zero: zero, size: size,
	}
}

// encodedPlan makes the plan of a type that is known only through its encoding:
// equal means the same bytes, and no value is left out.
func encodedPlan(
	t reflect.Type, enc func(dst []byte, p unsafe.Pointer) []byte, dec func(src []byte, p unsafe.Pointer) error,
) plan {
	equal := func(a, b unsafe.Pointer) bool {
		x := encodeScratch.Get().(*[]byte)
		buf := enc((*x)[:0], a)
		n := len(buf)
		buf = enc(buf, b)
		same := string(buf[:n]) == string(buf[n:])
		*x = buf
		encodeScratch.Put(x)
		return same
	}
	var size func(p unsafe.Pointer) int
	if mayHoldMemory(t) {
		size = func(p unsafe.Pointer) int {
			x := encodeScratch.Get().(*[]byte)
			*x = enc((*x)[:0], p)
			n := len(*x)
			encodeScratch.Put(x)
			return n
		}
	}
	return framed(enc, dec, equal, func(unsafe.Pointer) bool { return false }, size)
}

func hookPlan(t reflect.Type) plan {
	proto := reflect.New(t).Interface()
	enc, dec := proto.(StateAppender), proto.(StateDecoder)
	return encodedPlan(t,
		func(dst []byte, p unsafe.Pointer) []byte { return ifaceAt(enc, p).AppendState(dst) },
		func(src []byte, p unsafe.Pointer) error {
			rest, err := ifaceAt(dec, p).DecodeState(src)
			return customError(t, rest, err)
		})
}

func orderedPlan(t reflect.Type) plan {
	proto := reflect.New(t).Interface()
	enc, dec := proto.(OrderedKey), proto.(OrderedKeyDecoder)
	return encodedPlan(t,
		func(dst []byte, p unsafe.Pointer) []byte { return ifaceAt(enc, p).AppendOrdered(dst) },
		func(src []byte, p unsafe.Pointer) error {
			rest, err := ifaceAt(dec, p).DecodeOrdered(src)
			return customError(t, rest, err)
		})
}

func customError(t reflect.Type, rest []byte, err error) error {
	if err != nil {
		return fmt.Errorf("%w: stored %s: %w", ErrCorrupt, t, err)
	}
	if len(rest) > 0 {
		return errTrailing
	}
	return nil
}

// A marshaler that fails is a value that cannot be represented; there is no way to
// go on without losing it.
func marshalFailed(t reflect.Type, err error) {
	panic(fmt.Errorf("state: %s cannot be stored: %w", t, err))
}

func binaryPlan(t reflect.Type) plan {
	proto := reflect.New(t).Interface()
	enc, dec := proto.(encoding.BinaryMarshaler), proto.(encoding.BinaryUnmarshaler)
	return encodedPlan(t,
		func(dst []byte, p unsafe.Pointer) []byte {
			b, err := ifaceAt(enc, p).MarshalBinary()
			if err != nil {
				marshalFailed(t, err)
			}
			return append(dst, b...)
		},
		func(src []byte, p unsafe.Pointer) error {
			return customError(t, nil, ifaceAt(dec, p).UnmarshalBinary(append([]byte(nil), src...)))
		})
}

func textPlan(t reflect.Type) plan {
	proto := reflect.New(t).Interface()
	enc, dec := proto.(encoding.TextMarshaler), proto.(encoding.TextUnmarshaler)
	return encodedPlan(t,
		func(dst []byte, p unsafe.Pointer) []byte {
			b, err := ifaceAt(enc, p).MarshalText()
			if err != nil {
				marshalFailed(t, err)
			}
			return append(dst, b...)
		},
		func(src []byte, p unsafe.Pointer) error {
			return customError(t, nil, ifaceAt(dec, p).UnmarshalText(append([]byte(nil), src...)))
		})
}
