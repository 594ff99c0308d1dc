package serde

import (
	"fmt"
	"reflect"
	"slices"
	"time"
)

// mode says what the codecs of a type are wanted for.
type mode uint8

const (
	// forRows: values are decoded from columns.
	forRows mode = iota
	// forColumns: values are written into columns, nested ones as jsonb.
	forColumns
	// forJSON: values are written as JSON.
	forJSON
)

// builder makes codecs, and collects everything that stands in their way.
type builder struct {
	mode     mode
	problems []string
	// open are the structs that are being walked, to find types that contain
	// themselves.
	open []reflect.Type
}

func (b *builder) problem(path, format string, args ...any) {
	b.problems = append(b.problems, path+" "+fmt.Sprintf(format, args...))
}

// err returns the problems as a TypeError, nil if there are none.
func (b *builder) err(t reflect.Type) error {
	if len(b.problems) == 0 {
		return nil
	}
	return &TypeError{Type: t.String(), Problems: b.problems}
}

// codec returns the codec of a type, or nil and a problem.
func (b *builder) codec(t reflect.Type, path string) *codec {
	if c := b.single(t, path); c != nil {
		return c
	}
	switch t.Kind() {
	case reflect.Slice:
		elem := b.codec(t.Elem(), path+"[]")
		switch {
		case elem == nil:
			return nil
		case b.mode == forRows:
			return asArray(sliceCodec(t, elem), elem) // as it is read, for tests that write rows
		}
		return sliceCodec(t, elem)
	case reflect.Pointer:
		if inner := b.codec(t.Elem(), path); inner != nil {
			return pointerCodec(t, inner)
		}
		return nil
	}
	if isSQLNull(t) {
		if inner := b.codec(t.Field(0).Type, path); inner != nil {
			return nullCodec(t, inner)
		}
		return nil
	}
	if b.mode == forRows {
		b.problem(path, "is %s, which no column holds; %s", t, rowRemedy(t))
		return nil
	}
	return b.nested(t, path)
}

// single returns the codec of a type that is a value of its own, nil for all
// others.
func (b *builder) single(t reflect.Type, path string) *codec {
	if c, ok := known[t]; ok {
		return c
	}
	if t == reflect.TypeFor[time.Duration]() {
		return nil
	}
	if c := generic(b, t, path); c != nil {
		return c
	}
	if t.Kind() != reflect.Pointer && !isSQLNull(t) {
		if c := foreignCodec(t); c != nil && (b.mode != forRows || c.parse != nil) &&
			(b.mode == forRows || c.text != nil) {
			return c
		}
	}
	if c := scalarCodec(t); c != nil {
		return c
	}
	if t.Kind() == reflect.Array && t.Elem().Kind() == reflect.Uint8 {
		return byteArrayCodec(t)
	}
	if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 && known[t.Elem()] == nil {
		c := *known[reflect.TypeFor[[]byte]()]
		c.goType = t
		return &c
	}
	return nil
}

// generic returns the codec of the generic types of package record.
func generic(b *builder, t reflect.Type, path string) *codec {
	switch {
	case genericOf(t, "Array"):
		if elem := b.codec(t.Field(0).Type.Elem(), path+".Elems[]"); elem != nil {
			return arrayCodec(t, elem)
		}
	case genericOf(t, "Range"):
		if elem := b.codec(t.Field(0).Type, path+".Lower"); elem != nil {
			return rangeCodec(t, elem)
		}
	case genericOf(t, "Multirange"):
		if elem := b.codec(t.Elem().Field(0).Type, path+"[].Lower"); elem != nil {
			return multirangeCodec(t, elem)
		}
	}
	return nil
}

// isSingle reports whether a type is a value of its own, not a struct of columns.
func isSingle(t reflect.Type) bool {
	b := builder{mode: forColumns}
	return t.Kind() != reflect.Struct || isSQLNull(t) || b.single(t, "") != nil
}

func rowRemedy(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "use record.Interval, or int64 for a number"
	case t.Kind() == reflect.Struct:
		return "give it UnmarshalText or Scan, flatten it with `db:\",inline\"`, " +
			"or leave it out with `db:\"-\"`"
	case t.Kind() == reflect.Map || t.Kind() == reflect.Interface:
		return "use record.JSON or json.RawMessage for json columns, or leave it out with `db:\"-\"`"
	}
	return "use a supported type, or leave it out with `db:\"-\"`"
}

// nested returns the codec of a type that is written as JSON.
func (b *builder) nested(t reflect.Type, path string) *codec {
	if slices.Contains(b.open, t) {
		b.problem(path, "is %s, which contains itself; give it MarshalJSON, or leave it out with `db:\"-\"`", t)
		return nil
	}
	b.open = append(b.open, t)
	defer func() { b.open = b.open[:len(b.open)-1] }()
	switch {
	case t == reflect.TypeFor[time.Duration]():
		b.problem(path, "is %s, whose unit a target cannot know; use record.Interval, or int64 for a number", t)
	case t.Kind() == reflect.Struct:
		inner := builder{mode: forJSON, open: b.open}
		fields := inner.fields(t, path)
		b.problems = append(b.problems, inner.problems...)
		if len(inner.problems) == 0 {
			return structCodec(t, fields)
		}
	case t.Kind() == reflect.Array:
		if elem := b.codec(t.Elem(), path+"[]"); elem != nil {
			return fixedCodec(t, elem)
		}
	case t.Kind() == reflect.Map:
		return b.mapOf(t, path)
	default:
		b.problem(path, "is %s, which has no JSON form; give it MarshalJSON or MarshalText, "+
			"or leave it out with `db:\"-\"`", t)
	}
	return nil
}

func (b *builder) mapOf(t reflect.Type, path string) *codec {
	key := b.single(t.Key(), path)
	if key == nil {
		b.problem(path, "is %s, whose keys have no text form; use strings or integers as keys", t)
	}
	elem := b.codec(t.Elem(), path+"[]")
	if key == nil || elem == nil {
		return nil
	}
	return mapCodec(t, key, elem)
}
