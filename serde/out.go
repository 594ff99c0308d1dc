package serde

import "unsafe"

// OutColumn is a column of a target as a plan writes it.
type OutColumn struct {
	Name string
	// Type is the PostgreSQL type that holds every value of the Go type.
	Type string
	// Nullable says that the Go type can be NULL.
	Nullable bool
}

// OutColumns returns the columns that hold the fields, in their order. Slices and
// nested values are jsonb; `db:"name,array"` makes a slice an array, and
// `db:"name,type=numeric(12,2)"` names another type, which has to read the same
// text form.
func (p *Plan[T]) OutColumns() []OutColumn {
	columns := make([]OutColumn, len(p.fields))
	for i := range p.fields {
		f := &p.fields[i]
		columns[i] = OutColumn{Name: f.column, Type: f.sqlType, Nullable: f.codec.isNull != nil}
	}
	return columns
}

// AppendText appends PostgreSQL's text form of the column with that index; null
// says that it is NULL, and dst is then unchanged. It panics with an EncodeError
// where a type's own MarshalText, MarshalJSON or Value fails.
//
//go:noinline
func (p *Plan[T]) AppendText(dst []byte, column int, v *T) (out []byte, null bool) {
	f := &p.fields[column]
	at := f.at(noescape(unsafe.Pointer(v)))
	if f.codec.isNull != nil && f.codec.isNull(at) {
		return dst, true
	}
	return f.codec.text(dst, at), false
}
