package serde

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tailrace/tailrace/record"
)

// Errors of this package; test with errors.Is.
var (
	// ErrNull says that a column is NULL and its field cannot be.
	ErrNull = errors.New("serde: NULL")
	// ErrSyntax says that a text is not in the form of its type.
	ErrSyntax = record.ErrSyntax
	// ErrRange says that a value is outside of what the Go type holds.
	ErrRange = record.ErrRange
	// ErrInfinite says that a time.Time cannot hold an infinite timestamptz.
	ErrInfinite = record.ErrInfinite
	// ErrRefused says that a type's own UnmarshalText, Scan or MarshalText returned
	// an error. That error can be reached with errors.As; it is not part of the
	// message, since it may quote the value.
	ErrRefused = errors.New("serde: the type's own method refuses the value")
	// ErrUnfit says that a Go type does not fit a relation: a BindError.
	ErrUnfit = errors.New("serde: type does not fit the table")
	// ErrUnsupported says that a Go type cannot be mapped: a TypeError.
	ErrUnsupported = errors.New("serde: unsupported type")
)

// TypeError lists everything in a Go type that cannot be mapped.
type TypeError struct {
	Type     string
	Problems []string
}

// Error lists the problems, a line each where there are several.
func (e *TypeError) Error() string { return "serde: " + e.Type + ": " + joined(e.Problems) }

// Is makes errors.Is(err, ErrUnsupported) true.
func (e *TypeError) Is(target error) bool { return target == ErrUnsupported }

// BindError lists everything in which a Go type and a relation do not fit.
type BindError struct {
	Type, Table string
	Problems    []string
}

// Error lists the problems, a line each where there are several.
func (e *BindError) Error() string {
	return "serde: " + e.Type + " does not fit " + e.Table + ": " + joined(e.Problems)
}

// Is makes errors.Is(err, ErrUnfit) true.
func (e *BindError) Is(target error) bool { return target == ErrUnfit }

func joined(problems []string) string {
	if len(problems) == 1 {
		return problems[0]
	}
	return fmt.Sprintf("%d problems:\n  - %s", len(problems), strings.Join(problems, "\n  - "))
}

// DecodeError says which column could not be decoded, and what would help. It
// never holds the value.
type DecodeError struct {
	// Table and Column name the column, Type its SQL type.
	Table, Column, Type string
	// Field and GoType name the field and its type.
	Field, GoType string
	// Err is ErrNull, ErrSyntax, ErrRange, ErrInfinite or one that is ErrRefused.
	Err error
}

// Error names the column, the field and the remedy.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("serde: %s.%s (%s) into %s (%s): %s",
		e.Table, e.Column, e.Type, e.Field, e.GoType, e.explain())
}

func (e *DecodeError) explain() string {
	switch {
	case errors.Is(e.Err, ErrNull):
		return fmt.Sprintf("the column is NULL; make the field sql.Null[%s] or *%s", e.GoType, e.GoType)
	case errors.Is(e.Err, errElementNull):
		return "an element of the array is NULL; make the elements sql.Null"
	case errors.Is(e.Err, errShape):
		return "the array has several dimensions or does not begin at 1; use record.Array"
	case errors.Is(e.Err, ErrInfinite):
		return "the value is infinite; use record.Instant"
	case errors.Is(e.Err, ErrRange):
		return "the value is out of the Go type's range; use " + remedyOf(columnTypeOf(e.Type))
	case errors.Is(e.Err, ErrRefused):
		return "the type's own method refuses the value"
	case errors.Is(e.Err, ErrSyntax):
		return "the text is not in the form of the type; check the session settings of the source"
	}
	return "the value cannot be decoded"
}

// Unwrap returns the cause.
func (e *DecodeError) Unwrap() error { return e.Err }

// refusal hides the text of an error of foreign code.
type refusal struct{ cause error }

func (r *refusal) Error() string        { return ErrRefused.Error() }
func (r *refusal) Is(target error) bool { return target == ErrRefused }
func (r *refusal) Unwrap() error        { return r.cause }
