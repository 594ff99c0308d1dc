package state

import (
	"encoding"
	"reflect"
	"strings"
	"time"
	"unsafe"

	"github.com/tailrace/tailrace/record"
)

// The types that codecs treat in a way of their own.
var (
	typeOrderedKey        = reflect.TypeFor[OrderedKey]()
	typeOrderedKeyDecoder = reflect.TypeFor[OrderedKeyDecoder]()
	typeStateAppender     = reflect.TypeFor[StateAppender]()
	typeStateDecoder      = reflect.TypeFor[StateDecoder]()
	typeBinaryMarshaler   = reflect.TypeFor[encoding.BinaryMarshaler]()
	typeBinaryUnmarshaler = reflect.TypeFor[encoding.BinaryUnmarshaler]()
	typeTextMarshaler     = reflect.TypeFor[encoding.TextMarshaler]()
	typeTextUnmarshaler   = reflect.TypeFor[encoding.TextUnmarshaler]()
	typeTime              = reflect.TypeFor[time.Time]()
	typeJSON              = reflect.TypeFor[record.JSON]()
	typeInterval          = reflect.TypeFor[record.Interval]()
)

// noescape hides a pointer from escape analysis, so that a key handed on to a plan
// stays on the stack. It is right because plans do not keep their pointers.
//
// A stack that grows moves, and what points into it moves along, but a number does
// not. So the pointer must not be one when anything is called: inlined, the compiler
// could keep the number for as long as the caller uses the pointer, and with the race
// detector it would call a check in between.
//
//go:noinline
//go:nosplit
//go:nocheckptr
func noescape(p unsafe.Pointer) unsafe.Pointer {
	x := uintptr(p)
	return *(*unsafe.Pointer)(unsafe.Pointer(&x))
}

// ifaceAt returns an interface value with the dynamic type of proto, a pointer,
// that points to p. It is what reflect.NewAt(...).Interface() gives, without the
// look-up of the method table.
func ifaceAt[I any](proto I, p unsafe.Pointer) I {
	(*[2]unsafe.Pointer)(unsafe.Pointer(&proto))[1] = p
	return proto
}

// isNull reports whether t is an instance of sql.Null.
func isNull(t reflect.Type) bool {
	return t.PkgPath() == "database/sql" && strings.HasPrefix(t.Name(), "Null[")
}

// nullFields returns the value field of an sql.Null and the offset of its flag.
func nullFields(t reflect.Type) (v reflect.StructField, valid uintptr) {
	v, _ = t.FieldByName("V")
	f, _ := t.FieldByName("Valid")
	return v, f.Offset
}

// promoted reports whether t may have the methods of iface only because a field
// that it embeds has them: such methods speak for the field, not for all of t.
func promoted(t, iface reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && (f.Type.Implements(iface) || reflect.PointerTo(f.Type).Implements(iface)) {
			return true
		}
	}
	return false
}

// typeLabel names a type at the start of a path in an error.
func typeLabel(t reflect.Type) string {
	if t.Name() != "" {
		return t.Name()
	}
	return t.String()
}
