package serde

import (
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/record"
)

// columnType is a column's SQL type in parts.
type columnType struct {
	// name is the type's name without modifiers: "timestamp with time zone". It is
	// empty where the source does not tell types.
	name string
	// args are the modifiers: 10 and 2 of numeric(10,2).
	args []int
	// array says that name is the type of the elements.
	array bool
	// own says that the type is not one of PostgreSQL's own (an enum, a domain of
	// unknown base, a composite, a type of an extension), so only types that read
	// the text themselves fit.
	own bool
}

// ownTypes are PostgreSQL's types that columns can have, by their names in
// format_type.
var ownTypes = func() map[string]bool {
	m := map[string]bool{}
	for _, names := range []string{
		"boolean smallint integer bigint oid xid xid8 cid regclass regtype regproc regprocedure regoper",
		"regoperator regrole regnamespace regconfig regdictionary real numeric money text character name",
		`"char" bytea bit date interval uuid json jsonb jsonpath xml inet cidr macaddr macaddr8 tsvector`,
		"tsquery pg_lsn txid_snapshot pg_snapshot tid point line lseg box path polygon circle int4range",
		"int8range numrange tsrange tstzrange daterange int4multirange int8multirange nummultirange",
		"tsmultirange tstzmultirange datemultirange bpchar varchar",
	} {
		for name := range strings.FieldsSeq(names) {
			m[name] = true
		}
	}
	for _, name := range []string{"double precision", "character varying", "bit varying",
		"time without time zone", "time with time zone", "timestamp without time zone",
		"timestamp with time zone"} {
		m[name] = true
	}
	return m
}()

// shortNames are other spellings that a source or a test may use.
var shortNames = map[string]string{
	"bool": "boolean", "int2": "smallint", "int4": "integer", "int": "integer", "int8": "bigint",
	"float4": "real", "float8": "double precision", "decimal": "numeric",
	"timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone",
	"time": "time without time zone", "timetz": "time with time zone",
	"varbit": "bit varying", "varchar": "character varying", "bpchar": "character", "char": "character",
}

// columnTypeOf takes a type's name apart.
func columnTypeOf(name string) columnType {
	var t columnType
	for strings.HasSuffix(name, "[]") {
		name, t.array = strings.TrimSuffix(name, "[]"), true
	}
	if open := strings.IndexByte(name, '('); open >= 0 && !strings.HasPrefix(name, `"`) {
		end := strings.IndexByte(name[open:], ')')
		if end > 0 {
			for arg := range strings.SplitSeq(name[open+1:open+end], ",") {
				n, err := strconv.Atoi(strings.TrimSpace(arg))
				if err == nil {
					t.args = append(t.args, n)
				}
			}
			name = name[:open] + name[open+end+1:]
		}
	}
	if strings.HasPrefix(name, "interval ") {
		name = "interval"
	}
	if long, ok := shortNames[name]; ok {
		name = long
	}
	t.name = name
	t.own = name != "" && !ownTypes[name]
	return t
}

// typeOf is the type to check a column by: a domain's base type where it is known.
func typeOf(c *record.Column) columnType {
	if c.Base != "" {
		return columnTypeOf(c.Base)
	}
	return columnTypeOf(c.Type)
}

// remedies name Go types that hold every value of a column type.
var remedies = map[string]string{
	"boolean": "bool", "smallint": "int16", "integer": "int32 or int64", "bigint": "int64",
	"oid": "uint32", "real": "float32 or float64", "double precision": "float64",
	"numeric": "record.Decimal, apd.Decimal or a type with UnmarshalText",
	"bytea":   "[]byte", "date": "record.Date",
	"timestamp without time zone": "record.Timestamp",
	"timestamp with time zone":    "time.Time or record.Instant",
	"time without time zone":      "record.TimeOfDay", "time with time zone": "record.TimeTZ",
	"interval": "record.Interval", "uuid": "record.UUID", "json": "record.JSON", "jsonb": "record.JSON",
	"inet": "netip.Prefix", "cidr": "netip.Prefix",
	"int4range": "record.Range[int32]", "int8range": "record.Range[int64]",
	"numrange": "record.Range[record.Decimal]", "tsrange": "record.Range[record.Timestamp]",
	"tstzrange": "record.Range[time.Time]", "daterange": "record.Range[record.Date]",
	"int4multirange": "record.Multirange[int32]", "int8multirange": "record.Multirange[int64]",
	"nummultirange": "record.Multirange[record.Decimal]", "tsmultirange": "record.Multirange[record.Timestamp]",
	"tstzmultirange": "record.Multirange[time.Time]", "datemultirange": "record.Multirange[record.Date]",
}

// remedyOf says which Go type to use for a column.
func remedyOf(t columnType) string {
	remedy, ok := remedies[t.name]
	switch {
	case !ok && t.array:
		return "[]string, or string for the text form"
	case !ok:
		return "string or a type with UnmarshalText"
	case t.array:
		return "a slice of " + remedy
	}
	return remedy
}
