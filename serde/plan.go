package serde

import (
	"reflect"
	"strings"
	"unsafe"

	"github.com/tailrace/tailrace/record"
)

// Plan maps the fields of a Go type to columns. It is immutable.
type Plan[T any] struct {
	typ    reflect.Type
	fields []field
	// scalar says that T itself is the one column.
	scalar bool
}

// field is a field of a struct, or the value itself.
type field struct {
	column string
	// json is the name in JSON objects.
	json string
	// path is how messages call it: Order.Total.
	path   string
	offset uintptr
	codec  *codec
	// sqlType is the type of the column that a sink creates.
	sqlType string
}

func (f *field) at(p unsafe.Pointer) unsafe.Pointer { return unsafe.Add(p, f.offset) }

// PlanOf makes the plan of a struct whose fields are decoded from columns. The
// error is a TypeError that lists every field that cannot be.
func PlanOf[T any]() (*Plan[T], error) { return planOf[T](forRows) }

// OutPlanOf makes the plan of a struct whose fields are only written: nested
// structs, maps and slices become jsonb. The error is a TypeError that lists every
// field that cannot be written.
func OutPlanOf[T any]() (*Plan[T], error) { return planOf[T](forColumns) }

// ScalarPlan makes the plan of a type that is one column: a scalar key or value.
// With an empty name, Bind takes the column that is the table's whole key.
func ScalarPlan[T any](column string) (*Plan[T], error) { return scalarPlan[T](column, forRows) }

// OutScalarPlan makes the plan of a type that is written into one column; what is
// nested becomes jsonb.
func OutScalarPlan[T any](column string) (*Plan[T], error) { return scalarPlan[T](column, forColumns) }

// IsScalar reports whether a type is a value of its own, for ScalarPlan, rather
// than a struct of columns, for PlanOf.
func IsScalar(t reflect.Type) bool { return isSingle(t) }

func planOf[T any](m mode) (*Plan[T], error) {
	t := reflect.TypeFor[T]()
	b := builder{mode: m}
	switch {
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		b.problem(t.String(), "is a pointer; drop the *: use %s", t.Elem())
		return nil, b.err(t)
	case t.Kind() != reflect.Struct:
		b.problem(t.String(), "is no struct; use a struct with a field a column")
		return nil, b.err(t)
	}
	fields := b.fields(t, t.Name())
	if err := b.err(t); err != nil {
		return nil, err
	}
	return &Plan[T]{typ: t, fields: fields}, nil
}

func scalarPlan[T any](column string, m mode) (*Plan[T], error) {
	t := reflect.TypeFor[T]()
	b := builder{mode: m}
	c := b.codec(t, t.String())
	if err := b.err(t); err != nil {
		return nil, err
	}
	f := field{column: column, json: column, path: t.String(), codec: c, sqlType: c.sqlType}
	return &Plan[T]{typ: t, fields: []field{f}, scalar: true}, nil
}

// Columns returns the names of the columns in the order of the fields.
func (p *Plan[T]) Columns() []string {
	names := make([]string, len(p.fields))
	for i := range p.fields {
		names[i] = p.fields[i].column
	}
	return names
}

// fields walks a struct. Which tag counts, db or json, depends on the mode.
func (b *builder) fields(t reflect.Type, path string) []field {
	var fields []field
	if path == "" {
		path = t.String()
	}
	before := len(b.problems)
	b.walk(t, path, 0, &fields)
	b.differ(fields)
	if len(fields) == 0 && len(b.problems) == before && b.mode != forJSON {
		b.problem(path, "has no exported field that stands for a column")
	}
	return fields
}

// differ reports fields of one name.
func (b *builder) differ(fields []field) {
	seen := map[string]string{}
	for _, f := range fields {
		name := f.column
		if b.mode == forJSON {
			name = f.json
		}
		if other, dup := seen[name]; dup {
			b.problem(f.path, "and %s both stand for %q; rename one by its tag", other, name)
		}
		seen[name] = f.path
	}
}

func (b *builder) walk(t reflect.Type, path string, base uintptr, fields *[]field) {
	for i := range t.NumField() {
		sf := t.Field(i)
		if !sf.IsExported() && !(sf.Anonymous && sf.Type.Kind() == reflect.Struct) {
			continue
		}
		tg := tagOf(sf)
		name, hasName, skip := jsonName(sf, tg)
		if b.mode != forJSON {
			skip = tg.skip
		} else if tg.skip && !hasName {
			skip = true
		}
		if skip {
			continue
		}
		at := path + "." + sf.Name
		if tg.unknown != "" {
			b.problem(at, "has the unknown option %q in its db tag; inline, array and type= are known", tg.unknown)
			continue
		}
		flat := (sf.Anonymous || tg.inline) && sf.Type.Kind() == reflect.Struct && !isSingle(sf.Type)
		if flat {
			b.walk(sf.Type, at, base+sf.Offset, fields)
			continue
		}
		if !sf.IsExported() {
			continue
		}
		if sf.Anonymous && sf.Type.Kind() == reflect.Pointer && !isSingle(sf.Type.Elem()) {
			b.problem(at, "is an embedded pointer; embed the struct itself")
			continue
		}
		c := b.codec(sf.Type, at)
		if c == nil {
			continue
		}
		f := field{column: tg.name, json: name, path: at, offset: base + sf.Offset, codec: c, sqlType: c.sqlType}
		b.options(&f, tg, sf.Type)
		*fields = append(*fields, f)
	}
}

// options applies the options of a db tag.
func (b *builder) options(f *field, tg tag, t reflect.Type) {
	if tg.array {
		for isSQLNull(t) || t.Kind() == reflect.Pointer {
			b.problem(f.path, "cannot be NULL and have the option array; use record.Array for one that is written")
			return
		}
		if t.Kind() != reflect.Slice {
			b.problem(f.path, "is no slice, so its db tag cannot have the option array")
			return
		}
		if elem := b.codec(t.Elem(), f.path+"[]"); elem != nil {
			f.codec = asArray(f.codec, elem)
			f.sqlType = f.codec.sqlType
		}
	}
	if tg.sqlType != "" {
		f.sqlType = tg.sqlType
	}
	if tg.sqlType == "uuid" && f.codec.sqlType == "bytea" && t.Kind() == reflect.Array && t.Len() == 16 {
		c := *f.codec
		c.text = known[reflect.TypeFor[record.UUID]()].text
		f.codec = &c
	}
	if b.mode == forColumns && f.sqlType == "" {
		b.problem(f.path, "is %s, for which there is no PostgreSQL type; name one with `db:\"%s,type=...\"`", t,
			f.column)
	}
}

// jsonName returns a field's name in JSON objects: that of its json tag, else the
// column's. Options behind the name are not looked at.
func jsonName(sf reflect.StructField, tg tag) (name string, tagged, skip bool) {
	text, ok := sf.Tag.Lookup("json")
	if ok && text == "-" {
		return "", false, true
	}
	if name, _, _ := strings.Cut(text, ","); name != "" {
		return name, true, false
	}
	if tg.skip {
		return snake(sf.Name), false, false
	}
	return tg.name, false, false
}
