package serde

import (
	"database/sql"
	"database/sql/driver"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"time"
	"unsafe"

	"github.com/tailrace/tailrace/record"
)

// EncodeError is what encoding panics with where a type's own MarshalText,
// MarshalJSON or Value fails, or a record.JSON is not JSON: user code failed, and
// there is nothing right to write. It does not hold the value.
type EncodeError struct {
	GoType string
	Err    error
}

// Error names the type.
func (e *EncodeError) Error() string {
	return "serde: a value of type " + e.GoType + " cannot be encoded"
}

// Unwrap returns the cause, whose message may quote the value.
func (e *EncodeError) Unwrap() error { return e.Err }

var (
	typeTextUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	typeTextMarshaler   = reflect.TypeFor[encoding.TextMarshaler]()
	typeJSONMarshaler   = reflect.TypeFor[json.Marshaler]()
	typeJSONUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	typeScanner         = reflect.TypeFor[sql.Scanner]()
	typeValuer          = reflect.TypeFor[driver.Valuer]()
)

// implements reports whether *t has the methods of iface, and they speak for all of
// t: those of an embedded field beside others speak for that field only.
func implements(t, iface reflect.Type) bool {
	if !reflect.PointerTo(t).Implements(iface) {
		return false
	}
	if t.Kind() != reflect.Struct || t.NumField() == 1 {
		return true
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && (f.Type.Implements(iface) || reflect.PointerTo(f.Type).Implements(iface)) {
			return false
		}
	}
	return true
}

// foreignCodec is the codec of a type that reads or writes itself, nil for others.
// A type needs only the half that is used.
func foreignCodec(t reflect.Type) *codec {
	c := &codec{goType: t, sqlType: foreignSQLType(t)}
	c.alloc = func() unsafe.Pointer { return reflect.New(t).UnsafePointer() }
	c.zero = func(p unsafe.Pointer) { reflect.NewAt(t, p).Elem().SetZero() }
	foreign := false
	switch {
	case implements(t, typeTextUnmarshaler):
		foreign = true
		c.fits = func(columnType) bool { return true }
		c.parse = func(p unsafe.Pointer, src []byte) error {
			// A fresh value: UnmarshalText may reuse memory that the old one shares.
			v := reflect.New(t)
			if err := v.Interface().(encoding.TextUnmarshaler).UnmarshalText(src); err != nil {
				return &refusal{err}
			}
			reflect.NewAt(t, p).Elem().Set(v.Elem())
			return nil
		}
	case implements(t, typeScanner):
		foreign = true
		scannerCodec(c)
	}
	switch {
	case implements(t, typeTextMarshaler):
		foreign = true
		c.text = func(dst []byte, p unsafe.Pointer) []byte {
			b, err := copyOf(t, p).Interface().(encoding.TextMarshaler).MarshalText()
			if err != nil {
				panic(&EncodeError{GoType: t.String(), Err: err})
			}
			return append(dst, b...)
		}
		c.json = func(dst []byte, p unsafe.Pointer, _ *JSONOptions) []byte {
			return AppendJSONString(dst, string(c.text(nil, p)))
		}
	case implements(t, typeValuer):
		foreign = true
		valuerCodec(c)
	}
	if implements(t, typeJSONMarshaler) && (foreign || t.Kind() != reflect.Struct || hasHidden(t)) {
		foreign = true
		marshalerCodec(c)
	}
	if !foreign || c.text == nil && c.parse == nil {
		return nil
	}
	return c
}

// hasHidden reports whether a struct has fields that only its own code can write.
func hasHidden(t reflect.Type) bool {
	for i := range t.NumField() {
		if !t.Field(i).IsExported() {
			return true
		}
	}
	return false
}

// copyOf returns a pointer to a copy of the value at p. Foreign code gets only
// copies: p may point to a stack, and the method may keep its receiver.
func copyOf(t reflect.Type, p unsafe.Pointer) reflect.Value {
	v := reflect.New(t)
	v.Elem().Set(reflect.NewAt(t, p).Elem())
	return v
}

// foreignSQLType guesses the column type of a type that writes itself, by the
// names in common use, or by what its Value gives.
func foreignSQLType(t reflect.Type) string {
	switch t.Name() {
	case "UUID":
		return "uuid"
	case "Decimal", "Int", "Rat", "BigInt":
		if t.Kind() == reflect.Struct {
			return "numeric"
		}
	}
	if implements(t, typeTextMarshaler) || !implements(t, typeValuer) {
		return "text"
	}
	defer func() { _ = recover() }()
	v, err := reflect.New(t).Interface().(driver.Valuer).Value()
	if err != nil {
		return "text"
	}
	switch v.(type) {
	case int64:
		return "bigint"
	case float64:
		return "double precision"
	case bool:
		return "boolean"
	case []byte:
		return "bytea"
	case time.Time:
		return "timestamptz"
	}
	return "text"
}

// scannerCodec hands values to Scan as the drivers of database/sql do.
func scannerCodec(c *codec) {
	t := c.goType
	c.fits = func(columnType) bool { return true }
	scan := func(p unsafe.Pointer, src any) error {
		v := reflect.New(t)
		if err := v.Interface().(sql.Scanner).Scan(src); err != nil {
			return &refusal{err}
		}
		reflect.NewAt(t, p).Elem().Set(v.Elem())
		return nil
	}
	c.parse = func(p unsafe.Pointer, src []byte) error { return scan(p, string(src)) }
	c.parseFor = func(col columnType) parseFunc {
		if col.array {
			return c.parse
		}
		switch col.name {
		case "boolean":
			return scanAs(scan, boolCodec())
		case "smallint", "integer", "bigint":
			return scanAs(scan, intCodec[int64]("", 64))
		case "real", "double precision":
			return scanAs(scan, floatCodec[float64](64, ""))
		case "bytea":
			return scanAs(scan, bytesCodec())
		case "timestamp with time zone":
			return scanAs(scan, timeCodec())
		case "character":
			return func(p unsafe.Pointer, src []byte) error { return c.parse(p, withoutPadding(src)) }
		}
		return c.parse
	}
	c.null = nil
	// Scan(nil) tells whether the type has a NULL.
	if probe := reflect.New(t); scansNil(probe.Interface().(sql.Scanner)) {
		c.null = func(p unsafe.Pointer) { _ = scan(p, nil) }
	}
}

func scansNil(s sql.Scanner) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return s.Scan(nil) == nil
}

// scanAs decodes with another codec first, and scans what that gives.
func scanAs(scan func(unsafe.Pointer, any) error, by *codec) parseFunc {
	return func(p unsafe.Pointer, src []byte) error {
		v := by.alloc()
		if err := by.parse(v, src); err != nil {
			return err
		}
		return scan(p, reflect.NewAt(by.goType, v).Elem().Interface())
	}
}

// valuerCodec writes what Value gives.
func valuerCodec(c *codec) {
	t := c.goType
	value := func(p unsafe.Pointer) driver.Value {
		v, err := copyOf(t, p).Interface().(driver.Valuer).Value()
		if err != nil {
			panic(&EncodeError{GoType: t.String(), Err: err})
		}
		return v
	}
	c.isNull = func(p unsafe.Pointer) bool { return value(p) == nil }
	c.text = func(dst []byte, p unsafe.Pointer) []byte {
		v := value(p)
		by := driverCodec(v)
		if by == nil {
			panic(&EncodeError{GoType: t.String(), Err: fmt.Errorf("serde: Value returns a %T", v)})
		}
		box := reflect.New(by.goType)
		box.Elem().Set(reflect.ValueOf(v))
		return by.text(dst, box.UnsafePointer())
	}
	c.json = func(dst []byte, p unsafe.Pointer, o *JSONOptions) []byte {
		v := value(p)
		if v == nil {
			return append(dst, "null"...)
		}
		by := driverCodec(v)
		if by == nil {
			panic(&EncodeError{GoType: t.String(), Err: fmt.Errorf("serde: Value returns a %T", v)})
		}
		box := reflect.New(by.goType)
		box.Elem().Set(reflect.ValueOf(v))
		return by.json(dst, box.UnsafePointer(), o)
	}
}

// driverCodec is the codec of one of the types that a driver.Value may have.
func driverCodec(v driver.Value) *codec {
	switch v.(type) {
	case int64, float64, bool, string:
		return scalarCodec(reflect.TypeOf(v))
	case []byte, time.Time, record.JSON:
		return known[reflect.TypeOf(v)]
	}
	return nil
}

// marshalerCodec writes and reads JSON as the type itself does.
func marshalerCodec(c *codec) {
	t := c.goType
	c.json = func(dst []byte, p unsafe.Pointer, _ *JSONOptions) []byte {
		b, err := json.Marshal(copyOf(t, p).Interface())
		if err != nil {
			panic(&EncodeError{GoType: t.String(), Err: err})
		}
		return append(dst, b...)
	}
	if c.text == nil {
		c.sqlType = "jsonb"
		c.text = func(dst []byte, p unsafe.Pointer) []byte { return c.json(dst, p, plainOptions) }
	}
	if implements(t, typeJSONUnmarshaler) {
		c.parseJSON = func(p unsafe.Pointer, src []byte) error {
			v := reflect.New(t)
			if err := json.Unmarshal(src, v.Interface()); err != nil {
				return &refusal{err}
			}
			reflect.NewAt(t, p).Elem().Set(v.Elem())
			return nil
		}
	}
}
