package view

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tailrace/tailrace/record"
)

type revenue struct {
	Orders int64
	Cents  record.Decimal
	Note   sql.Null[string]
}

type lineKey struct {
	OrderID int64
	Sku     string
}

type line struct {
	Amount int32
	By     sql.Null[int64] `db:"customer_id"`
}

// shopHTTP is a host with two views behind the handler.
type shopHTTP struct {
	*engine
	revenue *table[string, revenue]
	lines   *table[lineKey, line]
	handler http.Handler
	cursor  string
	// stream is what an open watch has sent, leave ends it.
	stream *streamRecorder
	leave  context.CancelFunc
}

func newShopHTTP(t *testing.T) *shopHTTP {
	e := newEngine(t, HostOptions{MaxCursors: 2, WatchChanges: 4, Sources: []string{"shop"}})
	s := &shopHTTP{engine: e}
	s.revenue = addView[string, revenue](e, "revenue")
	s.lines = addView(e, "lines",
		Index("by-customer", func(_ lineKey, l line) sql.Null[int64] { return l.By }),
		Index("by-sku", func(k lineKey, _ line) string { return k.Sku }))
	s.handler = Handler(e.host, HTTPOptions{MaxLimit: 5, DefaultLimit: 3, MaxStreams: 1,
		Logger: slog.New(slog.DiscardHandler)})
	return s
}

var cursors = regexp.MustCompile(`"next":"([^"]+)"`)

// get asks for a URL and prints the answer. $next stands for the last cursor.
func (s *shopHTTP) get(method, target string) string {
	rec := httptest.NewRecorder()
	r := httptest.NewRequest(method, strings.ReplaceAll(target, "$next", s.cursor), nil)
	s.handler.ServeHTTP(rec, r)
	var out strings.Builder
	fmt.Fprintln(&out, rec.Code, rec.Header().Get("Content-Type"))
	for _, h := range []string{headerPosition, headerAsOf, "Allow", "Retry-After"} {
		if v := rec.Header().Get(h); v != "" {
			fmt.Fprintf(&out, "%s: %s\n", h, v)
		}
	}
	body := rec.Body.String()
	if m := cursors.FindStringSubmatch(body); m != nil {
		s.cursor = m[1]
		body = cursors.ReplaceAllString(body, `"next":"<cursor>"`)
	}
	// One row a line reads better.
	out.WriteString(strings.ReplaceAll(body, `{"key"`, "\n  {\"key\""))
	return out.String()
}

// put reads lines "revenue KEY ORDERS CENTS NOTE" and "lines ORDER SKU AMOUNT CUSTOMER";
// - is NULL, a key alone removes its row.
func (s *shopHTTP) put(t *testing.T, input string) {
	for text := range strings.SplitSeq(input, "\n") {
		f := strings.Fields(text)
		number := func(i int) int64 { return must(strconv.ParseInt(f[i], 10, 64))(t) }
		switch {
		case len(f) == 2:
			s.revenue.remove(t, f[1])
		case len(f) == 3:
			s.lines.remove(t, lineKey{number(1), f[2]})
		case f[0] == "revenue":
			s.revenue.set(t, f[1], revenue{Orders: number(2), Cents: must(record.ParseDecimal(f[3]))(t),
				Note: sql.Null[string]{V: f[4], Valid: f[4] != "-"}})
		default:
			l := line{Amount: int32(number(3))}
			if f[4] != "-" {
				l.By = sql.Null[int64]{V: number(4), Valid: true}
			}
			s.lines.set(t, lineKey{number(1), f[2]}, l)
		}
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestHTTP runs the scripts of testdata/http against the handler, in virtual time.
func TestHTTP(t *testing.T) {
	datadriven.Walk(t, "testdata/http", func(t *testing.T, path string) {
		synctest.Test(t, func(t *testing.T) {
			s := newShopHTTP(t)
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				return s.run(t, d)
			})
		})
	})
}

func (s *shopHTTP) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "commit":
		if d.Input != "" {
			s.put(t, d.Input)
		}
		s.commit()
		return s.positions().String()
	case "replay": // commits at the position where it stands
		s.put(t, d.Input)
		s.lsn -= 16
		s.commit()
		return s.positions().String()
	case "hold":
		s.lines.core.topology = "slow"
		s.commitHeld(map[string]Standing{"slow": {Positions: s.positions(), AsOf: 500_000}})
		return s.positions().String()
	case "advance-in":
		in := must(time.ParseDuration(d.CmdArgs[0].Key))(t) // here: d is the script's next command soon
		go func() {
			time.Sleep(in) // of the bubble's clock
			s.advance()
		}()
		return ""
	case "sleep":
		time.Sleep(must(time.ParseDuration(d.CmdArgs[0].Key))(t)) // of the bubble's clock
		synctest.Wait()
		return fmt.Sprintf("snapshots: %d", s.host.open.Load())
	case "watch":
		s.watch(d.Input)
		return s.streamed()
	case "streamed":
		return s.streamed()
	case "leave":
		s.leave()
		synctest.Wait()
		return fmt.Sprintf("streams: %d, watchers: %d", s.handler.(*handler).streams.Load(), len(s.host.watchers))
	case "close":
		if err := s.host.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s.streamed()
	case "request":
		var out strings.Builder
		for text := range strings.SplitSeq(d.Input, "\n") {
			method, target, _ := strings.Cut(text, " ")
			fmt.Fprintf(&out, "> %s\n%s", text, s.get(method, target))
		}
		return out.String()
	}
	t.Fatalf("unknown command %s", d.Cmd)
	return ""
}

// watch opens a stream: a URL, and the id to go on from in a second word.
func (s *shopHTTP) watch(input string) {
	target, last, _ := strings.Cut(input, " ")
	ctx, cancel := context.WithCancel(context.Background())
	s.leave, s.stream = cancel, &streamRecorder{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	r.Header.Set("Last-Event-ID", last)
	go s.handler.ServeHTTP(s.stream, r)
}

// streamed returns what the stream has sent since it was last asked.
func (s *shopHTTP) streamed() string {
	synctest.Wait()
	s.stream.mu.Lock()
	defer s.stream.mu.Unlock()
	defer s.stream.Body.Reset()
	return strings.TrimSuffix(strings.ReplaceAll(s.stream.Body.String(), "\n\n", "\n"), "\n")
}

// streamRecorder may be read while the handler writes.
type streamRecorder struct {
	mu sync.Mutex
	*httptest.ResponseRecorder
}

func (r *streamRecorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ResponseRecorder.Write(b)
}
