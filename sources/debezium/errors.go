package debezium

import (
	"errors"
	"strings"

	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// Reasons why a record or a table is refused; test with errors.Is. Those of a single
// record are sources.ErrDecode as well, so that an error policy can take them; those of
// a table are sources.ErrSchema.
var (
	// ErrMalformed: the bytes are no JSON, or no dialect that Debezium writes.
	ErrMalformed = errors.New("debezium: malformed record")
	// ErrValue: a value is not what its type allows.
	ErrValue = errors.New("debezium: value does not fit its type")
	// ErrMissing: the record lacks a column that is read.
	ErrMissing = errors.New("debezium: column is missing")
	// ErrNoKey: a change has no key, or one with a NULL, so nobody can tell which row it is.
	ErrNoKey = errors.New("debezium: record has no usable key")
	// ErrNoOperation: a flattened record does not say whether it is an insert.
	ErrNoOperation = errors.New("debezium: record does not tell its operation")
	// ErrAmbiguous: the value may stand for several values of the source.
	ErrAmbiguous = errors.New("debezium: value is ambiguous")

	// ErrNoSchema: records carry no schema, and the table's types were not declared.
	ErrNoSchema = errors.New("debezium: column types are unknown")
	// ErrLossy: what the connector is configured to write cannot hold every value of
	// the column.
	ErrLossy = errors.New("debezium: the connector's format loses values")
	// ErrType: a column has a type that this reader does not know.
	ErrType = errors.New("debezium: unknown type")
	// ErrKey: the records' key is not the key that was declared.
	ErrKey = errors.New("debezium: the records have another key")
)

// Error says where a record is refused, why, and what helps. It never holds a value.
type Error struct {
	// Topic, Table and Column name the place, as far as it is known.
	Topic, Table, Column string
	// Reason says what is wrong and what to do.
	Reason string
	// Err is one of the reasons above.
	Err error
}

// Error names the place, the reason and the remedy.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Err.Error())
	for _, part := range []struct{ name, value string }{
		{": topic ", e.Topic}, {", table ", e.Table}, {", column ", e.Column},
	} {
		if part.value != "" {
			b.WriteString(part.name)
			b.WriteString(part.value)
		}
	}
	if e.Reason != "" {
		b.WriteString(": ")
		b.WriteString(e.Reason)
	}
	return b.String()
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors of one record the fault of an input, and those of a table the fault of
// its shape.
func (e *Error) Is(target error) bool {
	if e.static() {
		return target == sources.ErrSchema
	}
	return target == sources.ErrDecode || target == topology.ErrInput
}

// static reports whether every record of the table would be refused.
func (e *Error) static() bool {
	for _, of := range []error{ErrNoSchema, ErrLossy, ErrType, ErrKey} {
		if errors.Is(e.Err, of) {
			return true
		}
	}
	return false
}

func refuse(err error, reason string) *Error { return &Error{Err: err, Reason: reason} }
