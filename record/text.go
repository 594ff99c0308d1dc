package record

import (
	"encoding"
	"encoding/json"
)

func compare64(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// scanText reads a text as database/sql hands it over.
func scanText(dst encoding.TextUnmarshaler, src any) error {
	switch s := src.(type) {
	case string:
		return dst.UnmarshalText([]byte(s))
	case []byte:
		return dst.UnmarshalText(s)
	}
	return ErrSyntax
}

// unmarshalJSONText reads a JSON string that holds the text form. null changes
// nothing, as encoding/json has it.
func unmarshalJSONText(dst encoding.TextUnmarshaler, src []byte) error {
	if string(src) == "null" {
		return nil
	}
	var s string
	if err := json.Unmarshal(src, &s); err != nil {
		return ErrSyntax
	}
	return dst.UnmarshalText([]byte(s))
}

// appendQuoted wraps the text that f appends in quotes. The text must not need
// escapes.
func appendQuoted(dst []byte, f func([]byte) []byte) []byte {
	return append(f(append(dst, '"')), '"')
}
