package kafka

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/serde"
	"github.com/tailrace/tailrace/sinks"
)

// encoder makes records of rows.
type encoder struct{ buf []byte }

// row is the record of a table's row: a tombstone if it was deleted.
func (e *encoder) row(o *output, it *sinks.Item) (*kgo.Record, error) {
	r := &kgo.Record{Topic: o.topic}
	var err error
	if o.KeyLen == 1 {
		e.buf, err = appendValue(e.buf[:0], o.Columns[0].Type, it.Columns[0])
	} else {
		e.buf, err = appendObject(e.buf[:0], o.Columns[:o.KeyLen], it.Columns)
	}
	if err != nil {
		return nil, fmt.Errorf("sinks/kafka: topic %s: key: %w", o.topic, err)
	}
	r.Key = bytes.Clone(e.buf)
	if it.Deleted {
		return r, nil
	}
	if e.buf, err = appendObject(e.buf[:0], o.Columns, it.Columns); err != nil {
		return nil, fmt.Errorf("sinks/kafka: topic %s: value: %w", o.topic, err)
	}
	r.Value = bytes.Clone(e.buf)
	return r, nil
}

func appendObject(dst []byte, columns []sinks.Column, values [][]byte) ([]byte, error) {
	dst = append(dst, '{')
	for i, c := range columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(serde.AppendJSONString(dst, c.Name), ':')
		var err error
		if dst, err = appendValue(dst, c.Type, values[i]); err != nil {
			return dst, fmt.Errorf("column %q: %w", c.Name, err)
		}
	}
	return append(dst, '}'), nil
}

// appendValue turns PostgreSQL's text form of a value into JSON: numbers and booleans
// as such (NaN and the infinities as strings), json as it is, times in ISO 8601 form,
// bytea in base64, everything else as the text that it is.
func appendValue(dst []byte, sqlType string, text []byte) ([]byte, error) {
	if text == nil {
		return append(dst, "null"...), nil
	}
	base, _, _ := strings.Cut(sqlType, "(")
	switch base {
	case "smallint", "integer", "bigint", "numeric", "real", "double precision":
		if json.Valid(text) {
			return append(dst, text...), nil
		}
	case "boolean":
		if string(text) == "t" || string(text) == "true" {
			return append(dst, "true"...), nil
		}
		return append(dst, "false"...), nil
	case "json", "jsonb":
		return append(dst, text...), nil
	case "timestamp", "timestamptz", "timestamp with time zone", "timestamp without time zone":
		return serde.AppendJSONString(dst, isoTime(string(text))), nil
	case "bytea":
		raw, err := hex.DecodeString(strings.TrimPrefix(string(text), `\x`))
		if err != nil {
			return dst, fmt.Errorf("bytea that is not in hex form: %w", err)
		}
		return serde.AppendJSONString(dst, base64.StdEncoding.EncodeToString(raw)), nil
	}
	return serde.AppendJSONString(dst, string(text)), nil
}

// isoTime is 2024-05-01T10:00:00.5Z for 2024-05-01 10:00:00.5+00.
func isoTime(s string) string {
	s = strings.Replace(s, " ", "T", 1)
	if rest, ok := strings.CutSuffix(s, "+00"); ok {
		return rest + "Z"
	}
	return s
}
