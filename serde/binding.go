package serde

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/tailrace/tailrace/record"
)

// Binding is a plan resolved against one relation. It is immutable and safe for
// concurrent use.
type Binding[T any] struct {
	rel    *record.Relation
	fields []boundField
}

// boundField is a field and its column's place in the tuple.
type boundField struct {
	column int
	offset uintptr
	parse  parseFunc
	null   func(p unsafe.Pointer)
	field  *field
}

// Bind finds the plan's columns in a relation and checks their types. The error is
// a BindError that lists every missing column and every type that does not fit.
func (p *Plan[T]) Bind(rel *record.Relation) (*Binding[T], error) {
	b, problems := p.bind(rel)
	if len(problems) > 0 {
		return nil, &BindError{Type: p.typ.String(), Table: rel.String(), Problems: problems}
	}
	return b, nil
}

// BindKey is Bind for a key type. It also checks that the columns are exactly the
// key of the relation, and that Go's == on them is what the database calls equal;
// see CheckKeyColumn.
func (p *Plan[T]) BindKey(rel *record.Relation) (*Binding[T], error) {
	b, problems := p.bind(rel)
	key := keyColumns(rel)
	if b != nil {
		for _, f := range b.fields {
			c := &rel.Columns[f.column]
			key = slices.DeleteFunc(key, func(name string) bool { return name == c.Name })
			if !c.Key {
				problems = append(problems,
					fmt.Sprintf("%s.%s is not part of the table's key; leave %s out of the key type",
						rel, c.Name, f.field.path))
			}
			if reason := keyProblem(c, f.field.codec); reason != "" {
				problems = append(problems, fmt.Sprintf("%s.%s %s", rel, c.Name, reason))
			}
		}
		for _, name := range key {
			problems = append(problems, fmt.Sprintf("%s.%s is part of the table's key, and %s has no field for it",
				rel, name, p.typ))
		}
	}
	if len(problems) > 0 {
		return nil, &BindError{Type: p.typ.String(), Table: rel.String(), Problems: problems}
	}
	return b, nil
}

func keyColumns(rel *record.Relation) []string {
	var names []string
	for i := range rel.Columns {
		if rel.Columns[i].Key {
			names = append(names, rel.Columns[i].Name)
		}
	}
	return names
}

// bind returns the binding of the columns that are there, nil where some are not,
// and the problems.
func (p *Plan[T]) bind(rel *record.Relation) (*Binding[T], []string) {
	var problems []string
	b := &Binding[T]{rel: rel}
	complete := true
	for i := range p.fields {
		f := &p.fields[i]
		name := f.column
		if name == "" {
			key := keyColumns(rel)
			if len(key) != 1 {
				return nil,
					[]string{fmt.Sprintf("the key of %s is (%s); a scalar needs a key of one column, use a struct",
						rel, strings.Join(key, ", "))}
			}
			name = key[0]
		}
		at := slices.IndexFunc(rel.Columns, func(c record.Column) bool { return c.Name == name })
		if at < 0 {
			problems = append(problems, missing(rel, name, f))
			complete = false
			continue
		}
		c := &rel.Columns[at]
		t := typeOf(c)
		if t.name != "" && (f.codec.fits == nil || !f.codec.fits(t)) {
			problems = append(problems, unfit(rel, c, f))
			complete = false
			continue
		}
		bf := boundField{column: at, offset: f.offset, parse: f.codec.parse, null: f.codec.null, field: f}
		if f.codec.parseFor != nil {
			bf.parse = f.codec.parseFor(t)
		}
		if bf.parse == nil {
			problems = append(problems, fmt.Sprintf("%s, which can be written but not read", f.describe()))
			complete = false
			continue
		}
		b.fields = append(b.fields, bf)
	}
	if !complete {
		return nil, problems
	}
	return b, problems
}

// missing says that a column is not there, and whether another is close.
func missing(rel *record.Relation, name string, f *field) string {
	for i := range rel.Columns {
		other := rel.Columns[i].Name
		if strings.EqualFold(strings.ReplaceAll(other, "_", ""), strings.ReplaceAll(name, "_", "")) {
			return fmt.Sprintf("%s has no column %s for field %s; if you mean %s, tag the field `db:%q`",
				rel, name, f.path, other, other)
		}
	}
	return fmt.Sprintf("%s has no column %s for field %s; name another with a db tag, "+
		"or leave it out with `db:\"-\"`",
		rel, name, f.path)
}

func unfit(rel *record.Relation, c *record.Column, f *field) string {
	typ := c.Type
	if c.Base != "" {
		typ += " (" + c.Base + ")"
	}
	remedy := remedyOf(typeOf(c))
	if f.codec.null != nil {
		remedy += ", in a sql.Null"
	}
	return fmt.Sprintf("%s.%s is %s; %s; use %s", rel, c.Name, typ, f.describe(), remedy)
}

// describe says which Go type is meant: a field's, or the one that stands for the column
// by itself.
func (f *field) describe() string {
	if f.path == f.codec.goType.String() {
		return "the Go type is " + f.path
	}
	return fmt.Sprintf("field %s is %s", f.path, f.codec.goType)
}

// Decode reads a row into dst. A column that is Unchanged leaves its field as it
// is, so a caller decodes over a copy of the last value. Fields never alias the
// row's bytes. The error is a DecodeError; dst is then partly written.
//
//go:noinline
func (b *Binding[T]) Decode(dst *T, row record.Tuple) error {
	base := noescape(unsafe.Pointer(dst))
	for i := range b.fields {
		f := &b.fields[i]
		if f.column >= len(row) {
			return b.failed(f, errShort)
		}
		v := &row[f.column]
		switch v.Kind {
		case record.Text:
			if err := f.parse(unsafe.Add(base, f.offset), v.Data); err != nil {
				return b.failed(f, err)
			}
		case record.Null:
			if f.null == nil {
				return b.failed(f, ErrNull)
			}
			f.null(unsafe.Add(base, f.offset))
		}
	}
	return nil
}

var errShort = errors.New("serde: the row has fewer columns than its relation")

// Unchanged reports whether a mapped column of the row is Unchanged, so that
// Decode needs the last value under it.
func (b *Binding[T]) Unchanged(row record.Tuple) bool {
	for i := range b.fields {
		if at := b.fields[i].column; at < len(row) && row[at].Kind == record.Unchanged {
			return true
		}
	}
	return false
}

// Relation returns the relation that the plan is bound to.
func (b *Binding[T]) Relation() *record.Relation { return b.rel }

func (b *Binding[T]) failed(f *boundField, err error) error {
	c := &b.rel.Columns[f.column]
	e := &DecodeError{Table: b.rel.String(), Column: c.Name, Type: c.Type, Field: f.field.path, Err: err}
	e.GoType = f.field.codec.goType.String()
	return e
}

// noescape hides a pointer from escape analysis, so that a value handed to a plan
// stays where it is. It is right because no codec keeps its pointers, and those
// that call foreign code hand it a copy. A function that uses it must not be
// inlined: its caller would take the value for dead while codecs still read it, and
// the garbage collector would free what the value points to.
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
