package compare

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/record"
)

// tolerance is how far floats may be apart, relative to the larger: sums of floats
// depend on the order in which the database adds them.
const tolerance = 1e-12

// equal reports whether a value of the view and one of the query are the same. The
// type is that of the query's column; inside of arrays and JSON it is "".
func equal(a, b any, sqlType string) bool {
	if strings.HasSuffix(sqlType, "[]") {
		return equalLists(a, b, strings.TrimSuffix(sqlType, "[]"))
	}
	if sqlType == "real" || sqlType == "double precision" {
		x, okX := float(a)
		y, okY := float(b)
		if okX && okY {
			return x == y || math.IsNaN(x) && math.IsNaN(y) || !math.IsInf(x-y, 0) &&
				math.Abs(x-y) <= tolerance*math.Max(math.Abs(x), math.Abs(y))
		}
	}
	var x, y strings.Builder
	canonical(&x, a, sqlType)
	canonical(&y, b, sqlType)
	return x.String() == y.String()
}

func equalLists(a, b any, elements string) bool {
	x, okX := a.([]any)
	y, okY := b.([]any)
	if !okX || !okY {
		return a == nil && b == nil
	}
	return slices.EqualFunc(x, y, func(a, b any) bool {
		if _, nested := a.([]any); nested {
			return equalLists(a, b, elements)
		}
		return equal(a, b, elements)
	})
}

// float reads a number, or the name of a special one.
func float(v any) (float64, bool) {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = v
	default:
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil
}

// canonical appends a form that is the same for equal values.
func canonical(b *strings.Builder, v any, sqlType string) {
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case json.Number:
		b.WriteString(number(v.String()))
	case string:
		b.WriteString(stringForm(v, sqlType))
	case []any:
		b.WriteByte('[')
		for _, e := range v {
			canonical(b, e, "")
			b.WriteByte(',')
		}
		b.WriteByte(']')
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		b.WriteByte('{')
		for _, name := range names {
			b.WriteString(strconv.Quote(name))
			b.WriteByte(':')
			canonical(b, v[name], "")
			b.WriteByte(',')
		}
		b.WriteByte('}')
	}
}

// number writes a number exactly, without what is only a way of writing.
func number(text string) string {
	d, err := record.ParseDecimal(text)
	if err != nil {
		return text
	}
	return d.String()
}

// stringForm writes a string so that two ways of writing a time, bytes or a number of
// the column's type are the same.
func stringForm(s, sqlType string) string {
	switch sqlType {
	case "numeric", "bigint", "integer", "smallint", "real", "double precision":
		// A number as text, or NaN and the infinities.
		if d, err := record.ParseDecimal(s); err == nil {
			return d.String()
		}
	case "bytea":
		if raw, ok := strings.CutPrefix(s, `\x`); ok {
			if data, err := hex.DecodeString(raw); err == nil {
				return base64.StdEncoding.EncodeToString(data)
			}
		}
		return s
	case "character", "bpchar":
		return strconv.Quote(strings.TrimRight(s, " ")) // the view is without the padding
	case "timestamp with time zone", "json", "jsonb", "":
		// Inside of JSON only what has date, time and zone is taken for a time.
		if len(s) >= len("2006-01-02T15:04Z") && s[4] == '-' && s[10] == 'T' {
			if t, err := record.ParseInstant(s); err == nil {
				return t.String()
			}
		}
	}
	return strconv.Quote(s)
}
