// Package serde maps Go types to rows: columns of a source table into a struct,
// and results into columns of a target or into JSON.
//
// A [Plan] is made once for a type, by reflection; what runs per row is a list of
// functions and offsets. A [Binding] is a plan resolved against one relation, with
// every type checked before the first row. Nothing here ever puts a value into an
// error's message: messages are logged, rows must not be.
//
// # Fields and columns
//
// An exported field stands for the column of its db tag, or else of its own name
// in snake case: CustomerID is customer_id. `db:"-"` leaves a field out. Embedded
// structs are flattened, and so is a struct field with `db:",inline"`. A column
// without a field is never decoded.
//
// # Types
//
// Integers, floats, bool, string, []byte, time.Time (timestamptz, in UTC), the
// value types of package record, apd.Decimal, netip.Addr and netip.Prefix,
// json.RawMessage, slices for arrays, and any type with UnmarshalText or Scan. A
// string field takes every column, in PostgreSQL's text form. NULL needs
// sql.Null[T] (or sql.NullString and its kin) or a pointer.
package serde
