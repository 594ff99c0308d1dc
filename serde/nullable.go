package serde

import (
	"reflect"
	"strings"
	"unsafe"
)

// NullGap is a column that can be NULL and whose field cannot: the first NULL in it is
// an ErrNull.
type NullGap struct {
	// Column is the column's name, Field the path of the field, GoType the field's type.
	Column, Field, GoType string
}

// NullGaps returns the columns that can be NULL, as far as the relation tells, and whose
// fields cannot.
func (b *Binding[T]) NullGaps() []NullGap {
	var gaps []NullGap
	for i := range b.fields {
		f := &b.fields[i]
		if c := &b.rel.Columns[f.column]; f.null == nil && !c.NotNull {
			gaps = append(gaps, NullGap{Column: c.Name, Field: f.field.path, GoType: f.field.codec.goType.String()})
		}
	}
	return gaps
}

// isSQLNull reports whether t is sql.Null[T], sql.NullString or another of their
// kin: a value first, then whether it is valid.
func isSQLNull(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.PkgPath() == "database/sql" && strings.HasPrefix(t.Name(), "Null") &&
		t.NumField() == 2 && t.Field(1).Name == "Valid" && t.Field(0).Offset == 0
}

// nullCodec is the codec of sql.Null and its kin over the codec of the value.
func nullCodec(t reflect.Type, inner *codec) *codec {
	off := t.Field(1).Offset
	valid := func(p unsafe.Pointer) *bool { return (*bool)(unsafe.Add(p, off)) }
	c := *inner
	c.goType = t
	c.rangeType = ""
	c.zero = func(p unsafe.Pointer) {
		inner.zero(p)
		*valid(p) = false
	}
	c.alloc = func() unsafe.Pointer { return reflect.New(t).UnsafePointer() }
	c.null = c.zero
	c.isNull = func(p unsafe.Pointer) bool {
		return !*valid(p) || inner.isNull != nil && inner.isNull(p)
	}
	wrap := func(parse parseFunc) parseFunc {
		if parse == nil {
			return nil
		}
		return func(p unsafe.Pointer, src []byte) error {
			if err := parse(p, src); err != nil {
				return err
			}
			*valid(p) = true
			return nil
		}
	}
	c.parse, c.parseJSON = wrap(inner.parse), wrap(inner.parseJSON)
	if inner.parseFor != nil {
		c.parseFor = func(col columnType) parseFunc { return wrap(inner.parseFor(col)) }
	}
	c.json = func(dst []byte, p unsafe.Pointer, o *JSONOptions) []byte {
		if !*valid(p) {
			return append(dst, "null"...)
		}
		return inner.json(dst, p, o)
	}
	return &c
}

// pointerCodec is the codec of *T over the codec of T. Every value that is read is
// a new one: the old may be shared.
func pointerCodec(t reflect.Type, inner *codec) *codec {
	at := func(p unsafe.Pointer) unsafe.Pointer { return *(*unsafe.Pointer)(p) }
	c := *inner
	c.goType = t
	c.rangeType = ""
	c.zero = func(p unsafe.Pointer) { *(*unsafe.Pointer)(p) = nil }
	c.alloc = func() unsafe.Pointer { return unsafe.Pointer(new(unsafe.Pointer)) }
	c.null = c.zero
	c.isNull = func(p unsafe.Pointer) bool {
		return at(p) == nil || inner.isNull != nil && inner.isNull(at(p))
	}
	wrap := func(parse parseFunc) parseFunc {
		if parse == nil {
			return nil
		}
		return func(p unsafe.Pointer, src []byte) error {
			q := inner.alloc()
			if err := parse(q, src); err != nil {
				return err
			}
			*(*unsafe.Pointer)(p) = q
			return nil
		}
	}
	c.parse, c.parseJSON = wrap(inner.parse), wrap(inner.parseJSON)
	if inner.parseFor != nil {
		c.parseFor = func(col columnType) parseFunc { return wrap(inner.parseFor(col)) }
	}
	c.text = func(dst []byte, p unsafe.Pointer) []byte { return inner.text(dst, at(p)) }
	c.json = func(dst []byte, p unsafe.Pointer, o *JSONOptions) []byte {
		if at(p) == nil {
			return append(dst, "null"...)
		}
		return inner.json(dst, at(p), o)
	}
	return &c
}
