package state

import (
	"encoding"
	"fmt"
	"reflect"
	"unsafe"
)

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
