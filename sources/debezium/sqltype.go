package debezium

import (
	"strconv"
	"strings"
)

// sqlType is a PostgreSQL type's name in parts, as format_type writes it.
type sqlType struct {
	// base is the name without modifiers: "timestamp without time zone".
	base string
	// args are the modifiers: 10 and 2 of numeric(10,2).
	args []int
	// dims is the number of trailing brackets.
	dims int
}

var longNames = map[string]string{
	"bool": "boolean", "int2": "smallint", "int4": "integer", "int": "integer", "int8": "bigint",
	"float4": "real", "float8": "double precision", "decimal": "numeric", "varbit": "bit varying",
	"timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone",
	"time": "time without time zone", "timetz": "time with time zone",
	"varchar": "character varying", "bpchar": "character", "char": "character",
}

func parseSQLType(name string) sqlType {
	var t sqlType
	for strings.HasSuffix(name, "[]") {
		name = strings.TrimSuffix(name, "[]")
		t.dims++
	}
	if open := strings.IndexByte(name, '('); open >= 0 && !strings.HasPrefix(name, `"`) {
		if n := strings.IndexByte(name[open:], ')'); n > 0 {
			for arg := range strings.SplitSeq(name[open+1:open+n], ",") {
				if v, err := strconv.Atoi(strings.TrimSpace(arg)); err == nil {
					t.args = append(t.args, v)
				}
			}
			name = name[:open] + name[open+n+1:]
		}
	}
	if strings.HasPrefix(name, "interval ") {
		name = "interval"
	}
	if long, ok := longNames[name]; ok {
		name = long
	}
	t.base = name
	return t
}

// precision returns the digits after the second that a time type holds.
func (t sqlType) precision() int {
	if len(t.args) > 0 {
		return t.args[0]
	}
	return 6
}

// plainTexts are the types that Debezium writes as PostgreSQL's own text.
var plainTexts = func() map[string]bool {
	m := map[string]bool{}
	for name := range strings.FieldsSeq(`text character citext inet cidr macaddr macaddr8 uuid json jsonb xml
		tsvector ltree isbn isbn13 issn issn13 ismn ismn13 ean13 upc int4range int8range numrange tsrange
		tstzrange daterange`) {
		m[name] = true
	}
	m["character varying"] = true
	return m
}()
