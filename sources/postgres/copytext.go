package postgres

import (
	"bytes"
	"fmt"

	"github.com/tailrace/tailrace/record"
)

// copyRow decodes a line of COPY's text format in place: at[i] says where in the tuple
// its i-th column goes.
func copyRow(line []byte, at []int, dst record.Tuple) error {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	if len(at) == 0 {
		if len(line) != 0 {
			return fmt.Errorf("postgres: a row of no columns with %d bytes: %w", len(line), errProtocol)
		}
		return nil
	}
	escaped := bytes.IndexByte(line, '\\') >= 0
	for i, col := range at {
		field := line
		if end := bytes.IndexByte(line, '\t'); end >= 0 {
			field, line = line[:end:end], line[end+1:]
		} else if i+1 < len(at) {
			return fmt.Errorf("postgres: a row of %d columns instead of %d: %w", i+1, len(at), errProtocol)
		} else {
			line = nil
		}
		switch {
		case !escaped:
		case len(field) == 2 && field[0] == '\\' && field[1] == 'N':
			dst[col] = record.Value{Kind: record.Null}
			continue
		default:
			var err error
			if field, err = unescape(field); err != nil {
				return err
			}
		}
		dst[col] = record.Value{Kind: record.Text, Data: field}
	}
	if len(line) != 0 {
		return fmt.Errorf("postgres: a row of more than %d columns: %w", len(at), errProtocol)
	}
	return nil
}

// unescape undoes COPY's backslash sequences in place.
func unescape(field []byte) ([]byte, error) {
	r := bytes.IndexByte(field, '\\')
	if r < 0 {
		return field, nil
	}
	w := r
	for r < len(field) {
		c := field[r]
		r++
		if c == '\\' {
			if r == len(field) {
				return nil, fmt.Errorf("postgres: a value that ends in its escape: %w", errProtocol)
			}
			c = field[r]
			r++
			switch c {
			case 'b':
				c = '\b'
			case 'f':
				c = '\f'
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case 'v':
				c = '\v'
			}
		}
		field[w] = c
		w++
	}
	return field[:w:w], nil
}
