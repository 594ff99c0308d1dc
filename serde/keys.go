package serde

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/tailrace/tailrace/record"
)

// ErrKeyColumn says that a column cannot be a key, or part of one; test with
// errors.Is.
var ErrKeyColumn = errors.New("serde: column cannot be a key")

// CheckKeyColumn reports why a column cannot be a key: two of its values may be
// equal to the database without having the same text (citext, a nondeterministic
// collation, floats, json, intervals, arrays and ranges of such). Equal keys must
// be equal bytes. normalized says that the user gave a normalizer that maps equal
// values to one, which mends citext and collations.
func CheckKeyColumn(c *record.Column, normalized bool) error {
	if reason := columnKeyProblem(c, normalized); reason != "" {
		return fmt.Errorf("%w: %s %s", ErrKeyColumn, c.Name, reason)
	}
	return nil
}

func columnKeyProblem(c *record.Column, normalized bool) string {
	t := typeOf(c)
	if !normalized {
		if c.Collation != "" {
			return fmt.Sprintf("has the nondeterministic collation %s, under which different texts are equal; "+
				"use a column with a deterministic collation as the key, or give a normalizer", c.Collation)
		}
		if t.own && lastName(t.name) == "citext" {
			return "is citext, under which different texts are equal; use a text column as the key, " +
				"or give a normalizer"
		}
	}
	if t.array {
		return "is an array, which cannot be a key; use its elements, or a column of its own"
	}
	switch t.name {
	case "real", "double precision":
		return "is " + t.name + ", which has no exact equality; use numeric or an integer"
	case "json", "jsonb", "xml":
		return "is " + t.name + ", whose texts may differ where the values are equal; use a column of its own"
	case "interval":
		return "is interval, where 1 month equals 30 days; use an integer"
	}
	return ""
}

// keyProblem adds what depends on the Go type.
func keyProblem(c *record.Column, by *codec) string {
	if reason := columnKeyProblem(c, false); reason != "" {
		return reason
	}
	goType := by.goType
	if goType.PkgPath() == "database/sql" && strings.HasPrefix(goType.Name(), "Null[") {
		goType = goType.Field(0).Type
	}
	if goType.Kind() != reflect.String {
		return "" // it does not compare texts
	}
	const differ = "whose text may differ where the values are equal"
	t := typeOf(c)
	switch {
	case t.name == "numeric":
		return "is numeric, " + differ + "; use record.Decimal instead of " + by.goType.String()
	case t.name == "numrange" || t.name == "nummultirange" || t.own && ofRanges(c):
		return "is " + t.name + ", a range, " + differ + "; make its bounds columns of their own, " +
			"and these the key"
	case c.Kind == record.KindComposite:
		return "is of the composite type " + t.name + ", " + differ + "; make its fields columns of their own, " +
			"and these the key"
	}
	return ""
}

func ofRanges(c *record.Column) bool {
	return c.Kind == record.KindRange || c.Kind == record.KindMultirange
}

func lastName(name string) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '.' {
			return name[i+1:]
		}
	}
	return name
}
