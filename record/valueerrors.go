package record

import "errors"

// Errors of the parsers of value types; test with errors.Is. They never carry
// the text they were given: values must not reach logs.
var (
	// ErrSyntax says that a text is not in the form the type is written in.
	ErrSyntax = errors.New("record: text is not in the form of the type")
	// ErrRange says that a value is outside of what the type can hold.
	ErrRange = errors.New("record: value is out of the type's range")
	// ErrInfinite says that an infinite value was asked for a finite form.
	ErrInfinite = errors.New("record: value is infinite")
	// ErrEncoding says that encoded bytes are not what the type's encoder writes.
	ErrEncoding = errors.New("record: encoded value is damaged")
)
