package view

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzCursor forges where a cursor of a query stands. Any answer is of rows that the query
// asked for, in their order, and a refusal is a 4xx.
func FuzzCursor(f *testing.F) {
	for _, last := range []string{"", "\x00", "ann", "bob\x00\x01", "\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"\x01\x80\x00\x00\x00\x00\x00\x00\x01", "\x01\x80\x00\x00\x00\x00\x00\x00\x01\x80"} {
		f.Add(byte(0), []byte(last))
		f.Add(byte(1), []byte(last))
		f.Add(byte(2), []byte(last))
	}
	row := func(order int, sku string) string { return fmt.Sprintf(`{"order_id":%d,"sku":%q}`, order, sku) }
	queries := []struct {
		target string
		keys   []string // of all its rows, in order
	}{
		{"/views/revenue?from=b&to=d", []string{`"bea"`, `"bob"`, `"cat"`}},
		{"/views/lines?index=by-customer&value=1", []string{row(1, "ink"), row(2, "pen"), row(4, "ink")}},
		{"/views/lines?index=by-sku&value=pen", []string{row(1, "pen"), row(2, "pen")}},
	}
	f.Fuzz(func(t *testing.T, which byte, last []byte) {
		s := newShopHTTP(t)
		s.put(t, "revenue ann 1 1 -\nrevenue bea 1 1 -\nrevenue bob 1 1 -\nrevenue cat 1 1 -\nrevenue dan 1 1 -\n"+
			"lines 1 ink 1 1\nlines 1 pen 1 2\nlines 2 pen 1 1\nlines 3 ink 1 -\nlines 4 ink 1 1")
		s.commit()
		q := queries[int(which)%len(queries)]
		get := func(target string) (status int, keys []string, next string) {
			rec := httptest.NewRecorder()
			s.handler.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, target, nil))
			var page struct {
				Rows []struct{ Key json.RawMessage }
				Next string
			}
			if err := json.Unmarshal(rec.Body.Bytes(), &page); err != nil {
				t.Errorf("%s: %s: %v", target, rec.Body, err)
			}
			for _, row := range page.Rows {
				keys = append(keys, string(row.Key))
			}
			return rec.Code, keys, page.Next
		}
		_, first, next := get(q.target + "&limit=1")
		id, _, err := parseCursor(next)
		if err != nil || !slices.Equal(first, q.keys[:1]) {
			t.Fatalf("the first page has %q, and the cursor %q", first, next)
		}
		forged := cursorText(id, last)
		if gotID, gotLast, err := parseCursor(forged); err != nil || gotID != id || !bytes.Equal(gotLast, last) {
			t.Errorf("%q is read as %q, %q, %v", forged, gotID, gotLast, err)
		}
		status, keys, _ := get(q.target + "&cursor=" + url.QueryEscape(forged))
		rest := strings.Join(q.keys, " ")
		if got := strings.Join(keys, " "); status >= 500 || !strings.HasSuffix(rest, got) {
			t.Errorf("from %q on: %d with %s, of %s", last, status, got, rest)
		}
		// And any text at all in place of a cursor.
		status, _, _ = get(q.target + "&cursor=" + url.QueryEscape(string(last)))
		if status != http.StatusBadRequest && status != http.StatusGone && len(last) > 0 {
			t.Errorf("the cursor %q: status %d", last, status)
		}
	})
}
