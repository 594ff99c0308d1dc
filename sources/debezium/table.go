package debezium

import (
	"strings"

	"github.com/tailrace/tailrace/record"
)

// Table says what is known of a source table beyond what its records tell, and what is
// read of it. ReadCatalog makes it from the source itself.
type Table struct {
	// Name is schema.table.
	Name string
	// Topic is the topic of its records. Default: the prefix and the name, with what
	// Kafka does not allow in topics replaced by an underscore, as Debezium does.
	Topic string
	// Columns are the table's columns. Without them the types are taken from the
	// records' schemas, and records without schema are refused.
	Columns []Column
	// Read are the columns that are read; nil means all. Others are not decoded.
	Read []string
	// KeyColumns are the columns that the records' keys hold, under Config.Plain.
	KeyColumns []string
	// InsertsOnly says that only inserts are looked at: changes and deletes come
	// without values, and need no key.
	InsertsOnly bool
	// Identity is the table's replica identity. Old rows are decoded only under
	// record.IdentityFull, since all others leave values out, for which Debezium
	// writes made-up ones.
	Identity record.Identity
	// PrimaryKey and Partitioned are for Check only: the primary key's columns, and whether
	// the table is the root of a partitioned one.
	PrimaryKey  []string
	Partitioned bool
}

// Column is a column as the source has it.
type Column struct {
	record.Column
	// Enum says that the type is an enum.
	Enum bool
	// Generated says that the column is generated and stored: such a column is in
	// snapshots, and not in what follows.
	Generated bool
	// HasDefault says that the column has a default other than NULL.
	HasDefault bool
	// Toastable says that a large value may be stored apart.
	Toastable bool
	// Dims is the number of dimensions that an array was declared with.
	Dims int
}

// sqlName is the type's name, that of the base type for a domain.
func (c *Column) sqlName() string {
	if c.Base != "" {
		return c.Base
	}
	return c.Type
}

// schemaAndName takes the name apart at its first dot.
func (t *Table) schemaAndName() (schema, name string) {
	schema, name, _ = strings.Cut(t.Name, ".")
	return schema, name
}

// reads reports whether a column is read.
func (t *Table) reads(column string) bool {
	if t.Read == nil {
		return true
	}
	for _, name := range t.Read {
		if name == column {
			return true
		}
	}
	return false
}

// topicName makes the topic name that Debezium gives a table.
func topicName(prefix, table string) string {
	name := []byte(table)
	if prefix != "" {
		name = []byte(prefix + "." + table)
	}
	out := name[:0:0]
	for _, r := range string(name) {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' ||
			r == '-' {
			out = append(out, byte(r))
		} else {
			out = append(out, '_')
		}
	}
	return string(out)
}
