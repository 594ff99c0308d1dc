package serde

import (
	"reflect"
	"strings"
	"unicode"
)

// snake turns a Go name into a column's: CustomerID into customer_id, HTTPServer
// into http_server, UserIDs into user_ids.
func snake(name string) string {
	runes := []rune(name)
	var b strings.Builder
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && startsWord(runes, i) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// startsWord reports whether the capital at i begins a word: behind a small
// letter, a digit or nothing of a name, or as the last capital of several before
// a small letter that is not a mere plural.
func startsWord(runes []rune, i int) bool {
	prev := runes[i-1]
	if prev == '_' {
		return false
	}
	if !unicode.IsUpper(prev) {
		return true
	}
	if i+1 == len(runes) || !unicode.IsLower(runes[i+1]) {
		return false
	}
	plural := runes[i+1] == 's' && (i+2 == len(runes) || !unicode.IsLower(runes[i+2]))
	return !plural
}

// tag is what the db tag of a field says.
type tag struct {
	name string
	skip bool
	// inline flattens a struct field.
	inline bool
	// array writes a slice as an array instead of as jsonb.
	array bool
	// sqlType overrides the PostgreSQL type of the column a sink creates.
	sqlType string
	unknown string
}

// tagOf reads `db:"name,inline,array,type=numeric(10,2)"`; the type comes last, as
// it may have commas of its own.
func tagOf(f reflect.StructField) tag {
	text := f.Tag.Get("db")
	if text == "-" {
		return tag{skip: true}
	}
	name, rest, _ := strings.Cut(text, ",")
	t := tag{name: name}
	for rest != "" {
		if sqlType, ok := strings.CutPrefix(rest, "type="); ok {
			t.sqlType = sqlType
			break
		}
		var option string
		option, rest, _ = strings.Cut(rest, ",")
		switch option {
		case "inline":
			t.inline = true
		case "array":
			t.array = true
		default:
			t.unknown = option
		}
	}
	if t.name == "" {
		t.name = snake(f.Name)
	}
	return t
}
