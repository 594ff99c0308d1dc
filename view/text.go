package view

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/tailrace/tailrace/serde"
	"github.com/tailrace/tailrace/state"
)

// keyText turns encoded keys of one type into JSON, and the texts of requests into
// encoded keys.
type keyText struct {
	// append appends the JSON of the key that enc begins with.
	append func(dst, enc []byte, strings bool) ([]byte, error)
	// parse reads a key as Handler describes it, prefix the beginning of one. Their
	// errors are answers to the client.
	parse, prefix func(text string) ([]byte, error)
}

// keyParser reads the keys of one type.
type keyParser[K comparable] struct {
	codec state.KeyCodec[K]
	json  *serde.JSON[K]
	kind  reflect.Type
	// fields are the JSON names of a composite key's fields, nil for a scalar.
	fields []string
}

func keyTextOf[K comparable](codec state.KeyCodec[K]) (keyText, error) {
	j, err := serde.JSONOf[K]()
	if err != nil {
		return keyText{}, err
	}
	p := keyParser[K]{codec: codec, json: j, kind: reflect.TypeFor[K](), fields: fieldNames(j)}
	return keyText{
		append: func(dst, enc []byte, strings bool) ([]byte, error) {
			k, _, err := codec.Decode(enc)
			if err != nil {
				return nil, err
			}
			return j.Append(dst, &k, serde.JSONOptions{NumbersAsStrings: strings}), nil
		},
		parse:  p.parse,
		prefix: p.prefix,
	}, nil
}

// fieldNames returns the names of a type's fields as its JSON has them, nil for a
// type that is no object.
func fieldNames[K comparable](j *serde.JSON[K]) (names []string) {
	var zero K
	d := json.NewDecoder(bytes.NewReader(j.Append(nil, &zero, serde.JSONOptions{})))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	names = []string{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			return nil
		}
		names = append(names, name)
	}
	return names
}

var errUTF8 = errors.New("it is not valid UTF-8")

// nullText stands for NULL, as in COPY.
const nullText = `\N`

func (p *keyParser[K]) parse(text string) ([]byte, error) {
	k, n, err := p.read(text)
	if err == nil && p.fields != nil && n != len(p.fields) {
		err = fmt.Errorf("%d of %d fields", n, len(p.fields))
	}
	if err != nil {
		return nil, p.bad(text, err)
	}
	return p.codec.Append(nil, k), nil
}

func (p *keyParser[K]) prefix(text string) ([]byte, error) {
	if p.fields == nil {
		if !utf8.ValidString(text) {
			return nil, p.bad(text, errUTF8)
		}
		if p.kind.Kind() != reflect.String {
			return nil, badRequest(fmt.Sprintf("keys of type %s have no prefix", p.kind),
				"use from= and to=; prefix= is for strings and for the first fields of composite keys")
		}
		return stringPrefix(text), nil
	}
	k, n, err := p.read(text)
	if err != nil {
		return nil, p.bad(text, err)
	}
	if n == len(p.fields) {
		return p.codec.Append(nil, k), nil
	}
	if p.codec.AppendFields == nil || p.kind.NumField() != len(p.fields) {
		return nil, badRequest(fmt.Sprintf("keys of type %s have no prefix", p.kind), "use from= and to=")
	}
	return p.codec.AppendFields(nil, k, n), nil
}

// bad is the answer to a key that cannot be read.
func (p *keyParser[K]) bad(text string, err error) error {
	remedy := "write it as plain text"
	if p.fields != nil {
		remedy = fmt.Sprintf("write its fields %s in this order, separated by commas, or as a JSON array",
			strings.Join(p.fields, ", "))
	}
	return badRequest(fmt.Sprintf("%q is not a key of type %s: %s", text, p.kind, trimPackage(err)), remedy)
}

// read reads a key. Of a composite key, n of its first fields may be given; the
// others are zero.
func (p *keyParser[K]) read(text string) (k K, n int, err error) {
	if !utf8.ValidString(text) {
		return k, 0, errUTF8
	}
	if p.fields == nil {
		if text == nullText {
			k, err = p.json.Decode([]byte("null"))
			return k, 1, err
		}
		if k, err = p.json.DecodeKey(text); err != nil { // bytes are listed in base64
			if quoted, failed := p.json.Decode(serde.AppendJSONString(nil, text)); failed == nil {
				return quoted, 1, nil
			}
		}
		return k, 1, err
	}
	if strings.HasPrefix(text, "{") {
		k, err = p.json.Decode([]byte(text))
		return k, len(p.fields), err
	}
	parts, err := splitKey(text)
	if err != nil {
		return k, 0, err
	}
	if len(parts) > len(p.fields) {
		return k, 0, fmt.Errorf("%d of %d fields", len(parts), len(p.fields))
	}
	k, err = p.compose(parts)
	return k, len(parts), err
}

// splitKey returns the JSON values of the fields of a composite key.
func splitKey(text string) ([]json.RawMessage, error) {
	var parts []json.RawMessage
	if strings.HasPrefix(text, "[") {
		if err := json.Unmarshal([]byte(text), &parts); err != nil {
			return nil, errors.New("it is not a JSON array")
		}
		return parts, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		if part == nullText {
			parts = append(parts, json.RawMessage("null"))
		} else {
			parts = append(parts, serde.AppendJSONString(nil, part))
		}
	}
	return parts, nil
}

// compose makes a key of its first fields. The others come from the zero key.
func (p *keyParser[K]) compose(parts []json.RawMessage) (k K, err error) {
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(p.json.Append(nil, &k, serde.JSONOptions{}), &members); err != nil {
		return k, err
	}
	for i, part := range parts {
		members[p.fields[i]] = part
	}
	object, err := json.Marshal(members)
	if err != nil {
		return k, err
	}
	return p.json.Decode(object)
}

// rowText turns stored rows into JSON.
type rowText struct {
	key   keyText
	value func(dst, stored []byte, strings bool) ([]byte, error)
}

func rowTextOf[K comparable, V any](keys state.KeyCodec[K], values state.Codec[V]) (t rowText, err error) {
	var keyErr, valueErr error
	t.key, keyErr = keyTextOf(keys)
	j, valueErr := serde.JSONOf[V]()
	if err := errors.Join(keyErr, valueErr); err != nil {
		return t, err
	}
	t.value = func(dst, stored []byte, strings bool) ([]byte, error) {
		var v V
		if err := values.Decode(stored, &v); err != nil {
			return nil, err
		}
		return j.Append(dst, &v, serde.JSONOptions{NumbersAsStrings: strings}), nil
	}
	return t, nil
}

// appendRow appends {"key":...,"value":...}.
func (t *rowText) appendRow(dst, key, value []byte, strings bool) ([]byte, error) {
	dst, err := t.appendFields(append(dst, '{'), key, value, strings)
	if err != nil {
		return nil, err
	}
	return append(dst, '}'), nil
}

// appendFields appends "key":...,"value":... .
func (t *rowText) appendFields(dst, key, value []byte, strings bool) ([]byte, error) {
	dst, err := t.key.append(append(dst, `"key":`...), key, strings)
	if err != nil {
		return nil, err
	}
	return t.value(append(dst, `,"value":`...), value, strings)
}

// appendChange appends {"op":...,"key":...,"old":...,"value":...}; a side that does
// not exist is left out, since null can be a value.
func (t *rowText) appendChange(dst []byte, c rawChange, strings bool) ([]byte, error) {
	op := "update"
	switch {
	case c.old == nil:
		op = "insert"
	case c.new == nil:
		op = "delete"
	}
	dst = append(append(append(dst, `{"op":"`...), op...), `","key":`...)
	dst, err := t.key.append(dst, c.key, strings)
	if err == nil && c.old != nil {
		dst, err = t.value(append(dst, `,"old":`...), c.old, strings)
	}
	if err == nil && c.new != nil {
		dst, err = t.value(append(dst, `,"value":`...), c.new, strings)
	}
	return append(dst, '}'), err
}
