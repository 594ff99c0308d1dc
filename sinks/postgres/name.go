package postgres

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// maxIdentifier is NAMEDATALEN - 1: PostgreSQL cuts a longer name off in silence, and
// would then write another table than the one that was named.
const maxIdentifier = 63

// name is a table's name, its schema "" where search_path finds it.
type name struct{ schema, table string }

// parseName splits "schema.table" at its first dot.
func parseName(s string) (name, error) {
	if schema, table, ok := strings.Cut(s, "."); ok {
		return newName(schema, table, true)
	}
	return newName("", s, false)
}

func newName(schema, table string, qualified bool) (name, error) {
	if qualified {
		if err := checkIdentifier("schema", schema); err != nil {
			return name{}, err
		}
		if strings.HasPrefix(schema, "pg_") || schema == "information_schema" {
			return name{}, fmt.Errorf("table name %q: schema %q belongs to PostgreSQL; choose another",
				table, schema)
		}
	}
	if err := checkIdentifier("table", table); err != nil {
		return name{}, err
	}
	return name{schema, table}, nil
}

func checkIdentifier(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%s name is empty; give it a name", what)
	case len(s) > maxIdentifier:
		return fmt.Errorf("%s name %q has %d bytes; PostgreSQL keeps %d: shorten it", what, s, len(s),
			maxIdentifier)
	case strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s):
		return fmt.Errorf("%s name %q: PostgreSQL names are UTF-8 without NUL; choose another", what, s)
	}
	return nil
}

// sql returns the quoted name. This and quote are the only ways by which a name gets
// into SQL (internal/lint).
func (n name) sql() string {
	if n.schema == "" {
		return pgx.Identifier{n.table}.Sanitize()
	}
	return pgx.Identifier{n.schema, n.table}.Sanitize()
}

func quote(identifier string) string { return pgx.Identifier{identifier}.Sanitize() }

// literal quotes a string for a statement that somebody else is to run; ours have parameters.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
