package view

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/tailrace/tailrace/state"
)

// query is which rows of a view a request asks for, in the order it gets them.
type query struct {
	view *core
	// index is the index to walk, -1 for the rows themselves; lower and upper bound
	// the keys in that store.
	index        int
	lower, upper []byte
	// params is the request's own words: a cursor belongs to a query, so a request
	// that repeats them beside a cursor must repeat them unchanged.
	params string
	// parts are those of the view that are read, where the app has several members.
	parts []int32
}

// pageLimits bound one page.
type pageLimits struct {
	rows, bytes int
	// strings asks for 64-bit integers and decimals as JSON strings.
	strings bool
}

// appendRows appends the rows of one page as JSON values separated by commas,
// beginning after the key after (nil: at the start). It returns the key of the last
// row where there are more behind it.
func (q *query) appendRows(dst []byte, snap state.Reader, b *binding, after []byte, lim pageLimits) (
	out, last []byte, err error) {
	n, start, more := 0, len(dst), false
	err = q.each(snap, b, after, func(at, key, value []byte) (bool, error) {
		if n >= lim.rows || len(dst)-start >= lim.bytes {
			more = true
			return false, nil
		}
		if n > 0 {
			dst = append(dst, ',')
		}
		if dst, err = q.view.text.appendRow(dst, key, value, lim.strings); err != nil {
			return false, err
		}
		n++
		last = append(last[:0], at...)
		return true, nil
	})
	if err != nil || !more {
		last = nil
	}
	return dst, last, err
}

// each calls fn with the rows that the query asks for, beginning after the key after (nil:
// at the start): where the row stands in the store that is walked, its key and its value.
func (q *query) each(
	snap state.Reader, b *binding, after []byte, fn func(at, key, value []byte) (bool, error),
) error {
	lower := q.lower
	if after != nil {
		// Nothing sorts between a key and the key with a zero byte behind it.
		lower = append(append([]byte(nil), after...), 0)
	}
	return scan(snap, b.prefix(q.index), lower, q.upper, false, func(at, value []byte) (bool, error) {
		if q.index < 0 {
			return fn(at, at, value)
		}
		key, value, err := q.row(snap, b, at)
		if err != nil {
			return false, err
		}
		return fn(at, key, value)
	})
}

// covers reports whether a key of the store is one that the query asks for.
func (q *query) covers(key []byte) bool {
	return bytes.Compare(key, q.lower) >= 0 && (q.upper == nil || bytes.Compare(key, q.upper) < 0)
}

// row reads the row behind an index entry.
func (q *query) row(snap state.Reader, b *binding, entry []byte) (key, value []byte, err error) {
	key = entry[len(q.lower):]
	value, ok, err := snap.Get(nil, append(b.rows[:len(b.rows):len(b.rows)], key...))
	if err == nil && !ok {
		err = fmt.Errorf("view: %q: %w: an index entry points to no row", q.view.name, state.ErrCorrupt)
	}
	return key, value, err
}

// cursorText is a cursor as clients see it: its id and the key that the last page
// ended with.
func cursorText(id string, last []byte) string {
	return id + "." + base64.RawURLEncoding.EncodeToString(last)
}

func parseCursor(s string) (id string, last []byte, err error) {
	id, enc, ok := strings.Cut(s, ".")
	if ok {
		last, err = base64.RawURLEncoding.DecodeString(enc)
	}
	if !ok || err != nil || id == "" {
		return "", nil, errCursorForm
	}
	return id, last, nil
}
