package crash

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/apptest"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
)

func (s *suite) compareViews(when, addr, lsn string) {
	rows := s.get("http://" + addr + "/views/docs?limit=10000&timeout=30s&wait_for=" + lsn)
	var got [][]string
	for _, row := range rows {
		v := row.Value
		got = append(got, []string{fmt.Sprint(row.Key), v["status"], v["customer"], v["note_len"],
			v["bio_len"], v["lines"], v["cents"]})
	}
	s.same(when+", view docs", got, s.db.Strings(apptest.DocsSQL))
	got = nil
	for _, row := range s.get("http://" + addr + "/views/regions?limit=10000&wait_for=" + lsn) {
		got = append(got, []string{row.Key, row.Value["lines"], row.Value["cents"]})
	}
	s.same(when+", view regions", got, s.db.Strings(apptest.RegionsSQL))
}

// viewRow is a row as HTTP gives it, values as text.
type viewRow struct {
	Key   string
	Value map[string]string
}

func (s *suite) get(url string) []viewRow {
	resp, err := http.Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s: %s: %v", url, resp.Status, body, err)
	}
	var page struct {
		Rows []struct {
			Key   any            `json:"key"`
			Value map[string]any `json:"value"`
		} `json:"rows"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		s.t.Fatal(err)
	}
	var out []viewRow
	for _, row := range page.Rows {
		r := viewRow{Key: asText(row.Key), Value: map[string]string{}}
		for k, v := range row.Value {
			r.Value[k] = asText(v)
		}
		out = append(out, r)
	}
	return out
}

func asText(v any) string {
	switch v := v.(type) {
	case nil:
		return pgservertest.Null
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// compareSink waits until the target's tables equal SQL; what was lost or doubled
// never does. Both of the target's tables come with one transaction.
func (s *suite) compareSink(when string, wh *pgservertest.DB) {
	docs, pairs := s.db.Strings(apptest.DocsSQL), s.db.Strings(apptest.PairsSQL)
	var gotDocs, gotPairs [][]string
	await.Within(30*time.Second, func() bool {
		if wh.String("select to_regclass('docs') is null or to_regclass('pairs') is null") == "t" {
			return false // the target has not been opened yet
		}
		gotDocs = wh.Strings("select key, status, customer, note_len, bio_len, lines, cents from docs order by key")
		gotPairs = wh.Strings("select key, stamp from pairs order by key")
		return slices.EqualFunc(gotDocs, docs, slices.Equal) && slices.EqualFunc(gotPairs, pairs, slices.Equal)
	})
	s.same(when+", sink docs", gotDocs, docs)
	s.same(when+", sink pairs", gotPairs, pairs)
}

// compareStock compares what is joined from two databases with what SQL gives in each.
func (s *suite) compareStock(when, addr, at string) {
	want := s.stock()
	var view, table [][]string
	for _, row := range s.get("http://" + addr + "/views/stock?limit=10000&timeout=30s&wait_for=" + at) {
		view = append(view, []string{row.Key, row.Value["name"], row.Value["stamp"]})
	}
	s.same(when+", view stock", view, want)
	await.Within(await.Limit, func() bool {
		table = s.wh.Strings("select key, name, stamp from stock order by key")
		return slices.EqualFunc(table, want, slices.Equal)
	})
	s.same(when+", sink stock", table, want)
}

// stock are the shop's customers and the depot's pairs, side by side.
func (s *suite) stock() [][]string {
	rows := map[string][]string{}
	for _, c := range s.db.Strings("select id, name from customers") {
		rows[c[0]] = []string{c[0], c[1], pgservertest.Null}
	}
	for _, p := range s.depot.Strings(apptest.PairsSQL) {
		if rows[p[0]] == nil {
			rows[p[0]] = []string{p[0], pgservertest.Null, ""}
		}
		rows[p[0]][2] = p[1]
	}
	return slices.SortedFunc(maps.Values(rows), func(a, b []string) int {
		return cmp.Or(cmp.Compare(len(a[0]), len(b[0])), cmp.Compare(a[0], b[0]))
	})
}

// logTx is what a transaction of the log did to the outbox.
type logTx struct {
	end      record.LSN
	inserted map[string]string // what by id
	deleted  []string
}

// readLog takes the log's new transactions.
func (s *suite) readLog() {
	var tx logTx
	for _, row := range s.db.Strings("select lsn, data from pg_logical_slot_get_changes('oracle', null, null, " +
		"'include-xids', '0', 'skip-empty-xacts', '1')") {
		if row[1] == "BEGIN" {
			tx = logTx{inserted: map[string]string{}}
		}
		if row[1] == "COMMIT" {
			end, err := record.ParseLSN(row[0])
			if err != nil {
				s.t.Fatal(err)
			}
			// A slot goes back to where it was last persisted when its server is killed, and
			// gives what came after once more.
			if tx.end = end; len(s.log) == 0 || end > s.log[len(s.log)-1].end {
				s.log = append(s.log, tx)
			}
		}
		if rest, ok := strings.CutPrefix(row[1], "table public.outbox: INSERT: id[bigint]:"); ok {
			id, rest, _ := strings.Cut(rest, " ")
			_, what, _ := strings.Cut(rest, "what[text]:'")
			tx.inserted[id] = strings.TrimSuffix(what, "'")
		}
		if id, ok := strings.CutPrefix(row[1], "table public.outbox: DELETE: id[bigint]:"); ok {
			tx.deleted = append(tx.deleted, id)
		}
	}
}

// demanded are the events that the log demands, given the position of the snapshot:
// the rows that were there, and every insert after it, also of a row that its own
// transaction deleted.
func (s *suite) demanded(snapshot record.LSN) []string {
	var out []string
	for _, tx := range s.log {
		for id, what := range tx.inserted {
			if tx.end > snapshot || !slices.Contains(tx.deleted, id) {
				out = append(out, what)
			}
		}
	}
	return out
}

// compareEvents compares the file with the log: each event once, in commit order.
func (s *suite) compareEvents(when, file string) {
	s.readLog()
	var got, want, lost, doubled []string
	await.Within(10*time.Second, func() bool {
		events, snapshot := s.readEvents(when, file)
		got, want = events, s.demanded(snapshot)
		lost, doubled = difference(want, got), difference(got, want)
		return len(lost)+len(doubled) == 0 || s.t.Failed()
	})
	if len(lost)+len(doubled) > 0 {
		s.lost, s.duplicated = s.lost+len(lost), s.duplicated+len(doubled)
		s.t.Errorf("%s: %s: %d in the file, %d in the log; lost %q, doubled %q",
			when, file, len(got), len(want), lost, doubled)
	}
}

// readEvents returns the file's events and the position of the first, which is the
// snapshot's. The lines' positions never go back, and no id comes twice.
func (s *suite) readEvents(when, file string) (out []string, snapshot record.LSN) {
	f, err := os.Open(filepath.Join(s.app.dir, file))
	if err != nil {
		return nil, 0
	}
	defer f.Close()
	ids := map[string]bool{}
	last := record.LSN(0)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e struct {
			ID, Position string
			Value        struct{ What string }
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			break // the line that is being written
		}
		at, err := record.ParseLSN(e.Position)
		if err != nil || at < last {
			s.torn++
			s.t.Errorf("%s: event %s at %s comes after %s: %v", when, e.ID, e.Position, last, err)
		}
		if last = at; snapshot == 0 {
			snapshot = at
		}
		if ids[e.ID] {
			s.t.Errorf("%s: event %s is in the file twice", when, e.ID)
		}
		ids[e.ID] = true
		out = append(out, e.Value.What)
	}
	return out, snapshot
}

// difference returns what a has more of than b.
func difference(a, b []string) []string {
	count := map[string]int{}
	for _, x := range a {
		count[x]++
	}
	for _, x := range b {
		count[x]--
	}
	maps.DeleteFunc(count, func(_ string, n int) bool { return n <= 0 })
	return slices.Sorted(maps.Keys(count))
}

func (s *suite) same(what string, got, want [][]string) {
	s.t.Helper()
	if !slices.EqualFunc(got, want, slices.Equal) {
		lost, doubled := difference(lines(want), lines(got)), difference(lines(got), lines(want))
		s.lost, s.duplicated = s.lost+len(lost), s.duplicated+len(doubled)
		s.t.Errorf("%s: %d rows, SQL has %d:\n got %v\nwant %v", what, len(got), len(want), got, want)
	}
}

func lines(rows [][]string) []string {
	out := make([]string, len(rows))
	for i, row := range rows {
		out[i] = strings.Join(row, "|")
	}
	return out
}
