package serde

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"unsafe"
)

// JSONOptions says how JSON is written.
type JSONOptions struct {
	// NumbersAsStrings writes 64-bit integers and decimals as strings, for readers
	// whose numbers are floats. Defaults to false: as numbers.
	NumbersAsStrings bool
}

// The options as codecs get them: pointers that need no memory per value.
var (
	plainOptions  = &JSONOptions{}
	stringOptions = &JSONOptions{NumbersAsStrings: true}
)

// JSON writes and reads values of one type as JSON.
//
// A struct is an object with its fields in their order; a field has the name of
// its json tag, else that of its column, and is always there: NULL is null, and
// omitempty and the other options are not looked at. `json:"-"` leaves a field
// out. Times are strings in ISO 8601 form, []byte is base64, NaN and the
// infinities are strings. Map keys are sorted.
type JSON[T any] struct{ codec *codec }

// JSONOf makes the JSON form of a type. The error is a TypeError that lists
// everything in it that has none.
func JSONOf[T any]() (*JSON[T], error) {
	t := reflect.TypeFor[T]()
	name := t.Name()
	if name == "" {
		name = t.String()
	}
	b := builder{mode: forJSON}
	c := b.codec(t, name)
	if err := b.err(t); err != nil {
		return nil, err
	}
	return &JSON[T]{codec: c}, nil
}

// Append appends v. It panics with an EncodeError where a type's own MarshalJSON,
// MarshalText or Value fails.
//
//go:noinline
func (j *JSON[T]) Append(dst []byte, v *T, o JSONOptions) []byte {
	options := plainOptions
	if o.NumbersAsStrings {
		options = stringOptions
	}
	return j.codec.json(dst, noescape(unsafe.Pointer(v)), options)
}

// Decode reads what Append wrote, or other JSON of that form. Fields that are
// missing or unknown are errors, so a mistyped key is never another key. Numbers
// may be strings. The error does not hold the value.
func (j *JSON[T]) Decode(src []byte) (T, error) {
	var v T
	if !json.Valid(src) {
		return v, fmt.Errorf("serde: %s: %w", reflect.TypeFor[T](), ErrSyntax)
	}
	if err := decodeJSON(j.codec, unsafe.Pointer(&v), src, reflect.TypeFor[T]().String()); err != nil {
		var zero T
		return zero, err
	}
	return v, nil
}

// DecodeKey reads a key as it stands in a URL: the plain text of a scalar, such as
// 42, 2024-05-01 or any string without quotes; of a struct, the JSON object.
func (j *JSON[T]) DecodeKey(src string) (T, error) {
	if j.codec.parse == nil || j.codec.parseJSON != nil {
		return j.Decode([]byte(src))
	}
	var v T
	if err := j.codec.parse(unsafe.Pointer(&v), []byte(src)); err != nil {
		var zero T
		return zero, &JSONError{Path: reflect.TypeFor[T]().String(), Err: err}
	}
	return v, nil
}

// JSONError says where a JSON text does not fit a type. It does not hold the
// value.
type JSONError struct {
	// Path is the place: the type, then fields and indexes.
	Path string
	Err  error
}

// Error names the place.
func (e *JSONError) Error() string {
	return "serde: " + e.Path + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *JSONError) Unwrap() error { return e.Err }

// decodeJSON reads valid JSON.
func decodeJSON(c *codec, p unsafe.Pointer, src []byte, path string) error {
	src = bytes.TrimSpace(src)
	if string(src) == "null" && c.parseJSON == nil || string(src) == "null" && c.null != nil {
		if c.null == nil {
			return &JSONError{Path: path, Err: ErrNull}
		}
		c.null(p)
		return nil
	}
	var err error
	switch {
	case c.parseJSON != nil:
		err = c.parseJSON(p, src)
	case c.parse == nil:
		err = errUnreadable
	case src[0] == '"':
		var s string
		if json.Unmarshal(src, &s) != nil {
			err = ErrSyntax
		} else {
			err = c.parse(p, []byte(s))
		}
	case src[0] == '{' || src[0] == '[':
		err = ErrSyntax
	case c.goType.Kind() == reflect.String:
		err = ErrSyntax
	default:
		err = c.parse(p, src)
	}
	if err == nil {
		return nil
	}
	//nolint:errorlint // Only the error itself is merged: a wrapper's text must not be lost.
	if inner, ok := err.(*JSONError); ok {
		return &JSONError{Path: path + inner.Path, Err: inner.Err}
	}
	return &JSONError{Path: path, Err: err}
}

var (
	errUnreadable = fmt.Errorf("serde: the type can be written as JSON but not read")
	errFields     = fmt.Errorf("serde: the object has not exactly the fields of the type")
)

// structCodec writes a struct as an object.
func structCodec(t reflect.Type, fields []field) *codec {
	c := &codec{goType: t, sqlType: "jsonb"}
	c.alloc = func() unsafe.Pointer { return reflect.New(t).UnsafePointer() }
	c.zero = func(p unsafe.Pointer) { reflect.NewAt(t, p).Elem().SetZero() }
	heads := make([][]byte, len(fields))
	byName := make(map[string]*field, len(fields))
	for i := range fields {
		f := &fields[i]
		heads[i] = append(AppendJSONString([]byte{','}, f.json), ':')
		if i == 0 {
			heads[i][0] = '{'
		}
		byName[f.json] = f
	}
	c.json = func(dst []byte, p unsafe.Pointer, o *JSONOptions) []byte {
		if len(fields) == 0 {
			return append(dst, "{}"...)
		}
		for i := range fields {
			f := &fields[i]
			at := f.at(p)
			dst = append(dst, heads[i]...)
			if f.codec.isNull != nil && f.codec.isNull(at) {
				dst = append(dst, "null"...)
			} else {
				dst = f.codec.json(dst, at, o)
			}
		}
		return append(dst, '}')
	}
	c.parseJSON = func(p unsafe.Pointer, src []byte) error {
		var members map[string]json.RawMessage
		if json.Unmarshal(src, &members) != nil {
			return ErrSyntax
		}
		if len(members) != len(fields) {
			return errFields
		}
		for i := range fields {
			f := &fields[i]
			raw, ok := members[f.json]
			if !ok {
				return errFields
			}
			if err := decodeJSON(f.codec, f.at(p), raw, "."+f.json); err != nil {
				return err
			}
		}
		return nil
	}
	c.text = func(dst []byte, p unsafe.Pointer) []byte { return c.json(dst, p, plainOptions) }
	return c
}

// fixedCodec writes an array of fixed length.
func fixedCodec(t reflect.Type, elem *codec) *codec {
	c := &codec{goType: t, sqlType: "jsonb"}
	size := t.Elem().Size()
	c.alloc = func() unsafe.Pointer { return reflect.New(t).UnsafePointer() }
	c.zero = func(p unsafe.Pointer) { reflect.NewAt(t, p).Elem().SetZero() }
	c.json = func(dst []byte, p unsafe.Pointer, o *JSONOptions) []byte {
		dst = append(dst, '[')
		for i := range t.Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = elem.json(dst, unsafe.Add(p, uintptr(i)*size), o)
		}
		return append(dst, ']')
	}
	c.text = func(dst []byte, p unsafe.Pointer) []byte { return c.json(dst, p, plainOptions) }
	return c
}

// mapCodec writes a map as an object with sorted keys.
func mapCodec(t reflect.Type, key, elem *codec) *codec {
	c := &codec{goType: t, sqlType: "jsonb"}
	c.alloc = func() unsafe.Pointer { return reflect.New(t).UnsafePointer() }
	c.zero = func(p unsafe.Pointer) { reflect.NewAt(t, p).Elem().SetZero() }
	type entry struct {
		key   string
		value unsafe.Pointer
	}
	c.json = func(dst []byte, p unsafe.Pointer, o *JSONOptions) []byte {
		m := copyOf(t, p).Elem()
		entries := make([]entry, 0, m.Len())
		for iter := m.MapRange(); iter.Next(); {
			k, v := reflect.New(t.Key()), reflect.New(t.Elem())
			k.Elem().Set(iter.Key())
			v.Elem().Set(iter.Value())
			entries = append(entries, entry{string(key.text(nil, k.UnsafePointer())), v.UnsafePointer()})
		}
		slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare([]byte(a.key), []byte(b.key)) })
		dst = append(dst, '{')
		for i, e := range entries {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(AppendJSONString(dst, e.key), ':')
			dst = elem.json(dst, e.value, o)
		}
		return append(dst, '}')
	}
	c.text = func(dst []byte, p unsafe.Pointer) []byte { return c.json(dst, p, plainOptions) }
	return c
}
