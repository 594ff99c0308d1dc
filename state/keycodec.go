package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"unsafe"
)

// KeyCodec is the order-preserving encoding of a key type: encoded keys compare
// as bytes the way the keys do, field by field, and are equal exactly when the
// keys are. Encoded keys are self-delimiting, so they can be concatenated.
type KeyCodec[K comparable] struct {
	// Append appends the encoding of k to dst.
	Append func(dst []byte, k K) []byte
	// Decode reads one key and returns what follows it. The key does not alias src.
	Decode func(src []byte) (k K, rest []byte, err error)
	// Normalize maps every spelling of a key to the one that Decode returns: an
	// invalid sql.Null loses its value. It is nil where each key has one spelling.
	Normalize func(k K) K
	// AppendFields appends the encoding of the first n fields of a struct key: what
	// the encodings of all keys with the same first fields begin with. It is nil for
	// keys of other types.
	AppendFields func(dst []byte, k K, n int) []byte
}

// OrderedKey is implemented by leaf types of keys that bring their own encoding,
// such as an exact decimal or a civil timestamp. Decoding is a method of the
// pointer, see [OrderedKeyDecoder]. The encoding has to be self-delimiting, has to
// sort as the values do, and has to be equal exactly when the values are == .
type OrderedKey interface {
	AppendOrdered(dst []byte) []byte
}

// OrderedKeyDecoder is the other half of [OrderedKey], implemented by the pointer.
// It returns what follows the encoded value, and must not keep src.
type OrderedKeyDecoder interface {
	DecodeOrdered(src []byte) (rest []byte, err error)
}

// KeyCodecOf makes the codec of a key type. Allowed are bool, integers, string,
// [N]byte, types that implement OrderedKey, sql.Null of these (NULL sorts first),
// structs of these with exported fields only, and named types of these. Anything
// else is an error that names every offending field and what to use instead.
func KeyCodecOf[K comparable]() (KeyCodec[K], error) {
	t := reflect.TypeFor[K]()
	p, err := keyPlanOf(t, typeLabel(t))
	if err != nil {
		return KeyCodec[K]{}, err
	}
	c := KeyCodec[K]{
		Append: func(dst []byte, k K) []byte {
			dst = p.append(dst, noescape(unsafe.Pointer(&k)))
			runtime.KeepAlive(&k)
			return dst
		},
		Decode: func(src []byte) (k K, rest []byte, err error) {
			rest, err = p.decode(src, noescape(unsafe.Pointer(&k)))
			return k, rest, err
		},
	}
	if p.normalize != nil {
		c.Normalize = func(k K) K {
			p.normalize(noescape(unsafe.Pointer(&k)))
			return k
		}
	}
	if p.fields != nil {
		c.AppendFields = func(dst []byte, k K, n int) []byte {
			at := noescape(unsafe.Pointer(&k))
			for _, f := range p.fields[:n] {
				dst = f.append(dst, unsafe.Add(at, f.offset))
			}
			runtime.KeepAlive(&k)
			return dst
		}
	}
	return c, nil
}

// keyPlan encodes a part of a key that lies at a pointer. The functions do not
// keep the pointer.
type keyPlan struct {
	append    func(dst []byte, p unsafe.Pointer) []byte
	decode    func(src []byte, p unsafe.Pointer) ([]byte, error)
	normalize func(p unsafe.Pointer) // nil: nothing to do
	fields    []keyField             // of a struct
}

func keyPlanOf(t reflect.Type, path string) (keyPlan, error) {
	pt := reflect.PointerTo(t)
	if pt.Implements(typeOrderedKey) && pt.Implements(typeOrderedKeyDecoder) && !promoted(t, typeOrderedKey) {
		return orderedKeyPlan(t), nil
	}
	if isNull(t) {
		return nullKeyPlan(t, path)
	}
	if t == typeJSON || t == typeInterval {
		return keyPlan{}, fmt.Errorf("state: %s of type %s cannot be part of a key: %s", path, t, keyRemedy(t))
	}
	switch t.Kind() {
	case reflect.Bool:
		return boolKeyPlan, nil
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		return intKeyPlan(t.Size(), true), nil
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		return intKeyPlan(t.Size(), false), nil
	case reflect.String:
		return stringKeyPlan, nil
	case reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return bytesKeyPlan(t.Len()), nil
		}
	case reflect.Struct:
		if t != typeTime {
			return structKeyPlan(t, path)
		}
	}
	return keyPlan{}, fmt.Errorf("state: %s of type %s cannot be part of a key: %s", path, t, keyRemedy(t))
}

func keyRemedy(t reflect.Type) string {
	switch {
	case t == typeJSON:
		return "texts may differ where the values are equal; use a field of it"
	case t == typeInterval:
		return "1 month and 30 days are equal in SQL; use an integer"
	case t == typeTime:
		return "== compares locations too; use record.Instant"
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		return "floats have no exact equality; use an integer, an exact decimal or a string"
	case t.Kind() == reflect.Pointer:
		return "== compares addresses; use the value itself, or sql.Null for one that may be absent"
	case t.Kind() == reflect.Array:
		return "only arrays of bytes have an order; use a struct with one field an element"
	}
	return "use integers, strings, [N]byte, sql.Null or structs of these, or implement state.OrderedKey"
}

func structKeyPlan(t reflect.Type, path string) (keyPlan, error) {
	var fields []keyField
	var errs []error
	normalize := false
	for i := range t.NumField() {
		f := t.Field(i)
		at := path + "." + f.Name
		if !f.IsExported() {
			errs = append(errs, fmt.Errorf("state: %s is not exported and cannot be part of a key: "+
				"export it or implement state.OrderedKey on %s", at, t))
			continue
		}
		p, err := keyPlanOf(f.Type, at)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		normalize = normalize || p.normalize != nil
		fields = append(fields, keyField{p, f.Offset, at})
	}
	if err := errors.Join(errs...); err != nil {
		return keyPlan{}, err
	}
	plan := keyPlan{
		fields: fields,
		append: func(dst []byte, p unsafe.Pointer) []byte {
			for i := range fields {
				dst = fields[i].append(dst, unsafe.Add(p, fields[i].offset))
			}
			return dst
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			for i := range fields {
				var err error
				if src, err = fields[i].decode(src, unsafe.Add(p, fields[i].offset)); err != nil {
					return nil, fmt.Errorf("%s: %w", fields[i].path, err)
				}
			}
			return src, nil
		},
	}
	if normalize {
		plan.normalize = func(p unsafe.Pointer) {
			for i := range fields {
				if fields[i].normalize != nil {
					fields[i].normalize(unsafe.Add(p, fields[i].offset))
				}
			}
		}
	}
	return plan, nil
}

type keyField struct {
	keyPlan
	offset uintptr
	path   string
}

func nullKeyPlan(t reflect.Type, path string) (keyPlan, error) {
	v, valid := nullFields(t)
	elem, err := keyPlanOf(v.Type, path)
	if err != nil {
		return keyPlan{}, err
	}
	return keyPlan{
		append: func(dst []byte, p unsafe.Pointer) []byte {
			if !*(*bool)(unsafe.Add(p, valid)) {
				return append(dst, 0)
			}
			return elem.append(append(dst, 1), unsafe.Add(p, v.Offset))
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			present, src, err := decodeFlag(src)
			if err != nil || !present {
				return src, err
			}
			*(*bool)(unsafe.Add(p, valid)) = true
			return elem.decode(src, unsafe.Add(p, v.Offset))
		},
		normalize: func(p unsafe.Pointer) {
			switch {
			case !*(*bool)(unsafe.Add(p, valid)):
				reflect.NewAt(v.Type, unsafe.Add(p, v.Offset)).Elem().SetZero()
			case elem.normalize != nil:
				elem.normalize(unsafe.Add(p, v.Offset))
			}
		},
	}, nil
}

func orderedKeyPlan(t reflect.Type) keyPlan {
	proto := reflect.New(t).Interface()
	enc, dec := proto.(OrderedKey), proto.(OrderedKeyDecoder)
	return keyPlan{
		append: func(dst []byte, p unsafe.Pointer) []byte { return ifaceAt(enc, p).AppendOrdered(dst) },
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			rest, err := ifaceAt(dec, p).DecodeOrdered(src)
			if err != nil {
				return nil, fmt.Errorf("%w: %s in a key: %w", ErrCorrupt, t, err)
			}
			return rest, nil
		},
	}
}

var boolKeyPlan = keyPlan{
	append: func(dst []byte, p unsafe.Pointer) []byte { return append(dst, *(*byte)(p)) },
	decode: func(src []byte, p unsafe.Pointer) (_ []byte, err error) {
		*(*bool)(p), src, err = decodeFlag(src)
		return src, err
	},
}

func decodeFlag(src []byte) (bool, []byte, error) {
	if len(src) == 0 || src[0] > 1 {
		return false, nil, errShortKey
	}
	return src[0] == 1, src[1:], nil
}

var errShortKey = fmt.Errorf("%w: key is cut short or malformed", ErrCorrupt)

// intKeyPlan stores integers big-endian; the sign bit is flipped so that negative
// ones sort first.
func intKeyPlan(size uintptr, signed bool) keyPlan {
	var flip uint64
	if signed {
		flip = 1 << (8*size - 1)
	}
	load := func(p unsafe.Pointer) uint64 { return loadUint(p, size) }
	plan := keyPlan{
		append: func(dst []byte, p unsafe.Pointer) []byte {
			x := (load(p) ^ flip) << (64 - 8*size)
			return binary.BigEndian.AppendUint64(dst, x)[:len(dst)+int(size)]
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			if uintptr(len(src)) < size {
				return nil, errShortKey
			}
			var x uint64
			for _, b := range src[:size] {
				x = x<<8 | uint64(b)
			}
			storeUint(p, size, x^flip)
			return src[size:], nil
		},
	}
	if size == 8 {
		plan.append = func(dst []byte, p unsafe.Pointer) []byte {
			return binary.BigEndian.AppendUint64(dst, *(*uint64)(p)^flip)
		}
	}
	return plan
}

func loadUint(p unsafe.Pointer, size uintptr) uint64 {
	switch size {
	case 1:
		return uint64(*(*uint8)(p))
	case 2:
		return uint64(*(*uint16)(p))
	case 4:
		return uint64(*(*uint32)(p))
	}
	return *(*uint64)(p)
}

func storeUint(p unsafe.Pointer, size uintptr, x uint64) {
	switch size {
	case 1:
		*(*uint8)(p) = uint8(x)
	case 2:
		*(*uint16)(p) = uint16(x)
	case 4:
		*(*uint32)(p) = uint32(x)
	default:
		*(*uint64)(p) = x
	}
}

// Strings end with 00 01 and a zero byte inside is written 00 FF, so that a string
// sorts before every longer one that it begins.
var stringKeyPlan = keyPlan{
	append: func(dst []byte, p unsafe.Pointer) []byte { return AppendKeyString(dst, *(*string)(p)) },
	decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
		s, rest, err := DecodeKeyString(src)
		if err == nil {
			*(*string)(p) = s
		}
		return rest, err
	},
}

// AppendKeyString appends the order-preserving, self-delimiting encoding that keys
// use for strings.
func AppendKeyString(dst []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, 0)
		if i < 0 {
			dst = append(dst, s...)
			return append(dst, 0, 1)
		}
		dst = append(dst, s[:i]...)
		dst = append(dst, 0, 0xff)
		s = s[i+1:]
	}
}

// DecodeKeyString takes what AppendKeyString appended off the front of src.
func DecodeKeyString(src []byte) (string, []byte, error) {
	var b []byte
	for start := src; ; {
		i := bytes.IndexByte(src, 0)
		if i < 0 || i+1 >= len(src) {
			return "", nil, errShortKey
		}
		switch {
		case src[i+1] == 1 && b == nil:
			return string(start[:i]), src[i+2:], nil
		case src[i+1] == 1:
			return string(append(b, src[:i]...)), src[i+2:], nil
		case src[i+1] != 0xff:
			return "", nil, errShortKey
		}
		b = append(append(b, src[:i]...), 0)
		src = src[i+2:]
	}
}

func bytesKeyPlan(n int) keyPlan {
	return keyPlan{
		append: func(dst []byte, p unsafe.Pointer) []byte {
			return append(dst, unsafe.Slice((*byte)(p), n)...)
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			if len(src) < n {
				return nil, errShortKey
			}
			copy(unsafe.Slice((*byte)(p), n), src)
			return src[n:], nil
		},
	}
}
