package view

import (
	"fmt"
	"reflect"

	"github.com/tailrace/tailrace/state"
)

// Span selects rows by their keys, in the order of keys: integers by value, strings
// by bytes, false before true, NULL first, structs field by field. The zero Span is
// the whole view.
type Span[K comparable] struct {
	from, to K
	has      spanParts
	prefix   string
	fields   int
}

type spanParts uint8

const (
	spanFrom spanParts = 1 << iota
	spanTo
	spanPrefix
	spanFields
)

// All selects every row.
func All[K comparable]() Span[K] { return Span[K]{} }

// Between selects from <= key < to.
func Between[K comparable](from, to K) Span[K] {
	return Span[K]{from: from, to: to, has: spanFrom | spanTo}
}

// AtLeast selects key >= from.
func AtLeast[K comparable](from K) Span[K] { return Span[K]{from: from, has: spanFrom} }

// Below selects key < to.
func Below[K comparable](to K) Span[K] { return Span[K]{to: to, has: spanTo} }

// Prefix selects the strings that begin with p.
func Prefix[K ~string](p K) Span[K] { return Span[K]{prefix: string(p), has: spanPrefix} }

// Leading selects the composite keys whose first n fields are those of key.
func Leading[K comparable](key K, n int) Span[K] {
	return Span[K]{from: key, fields: n, has: spanFields}
}

// bounds returns the encoded bounds: nil upper for none.
func (s Span[K]) bounds(keys state.KeyCodec[K]) (lower, upper []byte, err error) {
	if s.has&spanFields != 0 {
		t := reflect.TypeFor[K]()
		if keys.AppendFields == nil || s.fields < 0 || s.fields > t.NumField() {
			return nil, nil, fmt.Errorf("view: a key of type %s does not have %d leading fields; "+
				"Leading is for struct keys", t, s.fields)
		}
		lower = keys.AppendFields(nil, s.from, s.fields)
		return lower, state.PrefixEnd(lower), nil
	}
	if s.has&spanPrefix != 0 {
		lower = stringPrefix(s.prefix)
		return lower, state.PrefixEnd(lower), nil
	}
	if s.has&spanFrom != 0 {
		lower = keys.Append(nil, s.from)
	}
	if s.has&spanTo != 0 {
		upper = keys.Append(nil, s.to)
	}
	return lower, upper, nil
}

// stringPrefix is what the encodings of all strings that begin with p begin with.
func stringPrefix(p string) []byte {
	enc := state.AppendKeyString(nil, p)
	return enc[:len(enc)-stringEnd]
}

// stringEnd is the length of the mark that ends an encoded string.
const stringEnd = 2
