package sources

import (
	"strings"
	"testing"
)

// TestRetyped compares a column before and after ALTER TYPE, with its rows written anew or
// not.
func TestRetyped(t *testing.T) {
	for _, c := range []struct {
		from, to  string
		rewritten bool
		want      string // of the reason, "" where rows of both go together
	}{
		{"character varying(10)", "character varying(20)", false, ""},
		{"character varying(10)", "text", false, ""},
		{"numeric(10,2)", "numeric(12,2)", false, ""},
		{"timestamp(3) without time zone", "timestamp without time zone", false, ""},
		{"character varying(10)[]", "text[]", false, ""},
		{"integer", "bigint", true, "written anew"},
		{"integer", "oid", false, "may show the same value otherwise"},
		{"text", "bpchar", false, "may show the same value otherwise"},
		{"oid", "regclass", false, "may show the same value otherwise"},
		{"timestamp without time zone", "timestamp with time zone", false, "may show the same value otherwise"},
		{"text", "text[]", false, "may show the same value otherwise"},
	} {
		shape := func(file uint32, typ string) Shape {
			return Shape{Table: "public.t", File: file, Columns: map[string]ColumnShape{"v": {Number: 2, Type: typ}}}
		}
		file := uint32(1)
		if c.rewritten {
			file = 2
		}
		err := shape(1, c.from).Became(shape(file, c.to))
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s to %s: %v, want %q", c.from, c.to, err, c.want)
		}
	}
}
