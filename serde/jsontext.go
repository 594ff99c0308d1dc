package serde

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendJSONString appends a JSON string as JSON writes it. Bytes that are no UTF-8
// become U+FFFD.
func AppendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[start:i]...), `\ufffd`...)
				start = i + size
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// appendRawText writes a JSON text into a column.
func appendRawText(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	return append(dst, s...)
}

// appendRawJSON writes a JSON text inside another, on one line. A text that is not
// JSON would break what surrounds it, so it panics as failing user code does.
func appendRawJSON(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	if !json.Valid([]byte(s)) {
		panic(&EncodeError{GoType: "record.JSON", Err: ErrSyntax})
	}
	if !strings.ContainsAny(s, "\n\r") {
		return append(dst, s...)
	}
	buf := bytes.NewBuffer(dst)
	// The text is valid, so Compact cannot fail.
	_ = json.Compact(buf, []byte(s))
	return buf.Bytes()
}

func parseBase64(src []byte) ([]byte, error) {
	var s string
	if json.Unmarshal(src, &s) != nil {
		return nil, ErrSyntax
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, ErrSyntax
	}
	return b, nil
}
