package apptest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
)

// oracle recomputes the shop's results from the log by plain maps. It shares no code
// with the product: the log comes as text, through PostgreSQL's test_decoding.
type oracle struct {
	tables map[string]map[string]map[string]string // table, key, column
}

// logTx is a transaction of the log: where it ends, and its lines.
type logTx struct {
	end   record.LSN
	lines []string
}

const oracleSlot = "oracle"

// startOracle begins to keep the log. The tables have to be empty.
func startOracle(db *pgservertest.DB) {
	db.String("select pg_create_logical_replication_slot('" + oracleSlot + "', 'test_decoding')::text")
}

// readLog returns the log's transactions in commit order.
func readLog(t *testing.T, db *pgservertest.DB) []logTx {
	t.Helper()
	var out []logTx
	var lines []string
	for _, row := range db.Strings("select lsn, data from pg_logical_slot_get_changes('" + oracleSlot +
		"', null, null, 'include-xids', '0', 'skip-empty-xacts', '1')") {
		switch row[1] {
		case "BEGIN":
			lines = nil
		case "COMMIT":
			end, err := record.ParseLSN(row[0])
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, logTx{end, lines})
		default:
			lines = append(lines, row[1])
		}
	}
	return out
}

func newOracle() *oracle {
	o := &oracle{tables: map[string]map[string]map[string]string{}}
	for _, name := range []string{"customers", "orders", "lines", "pair_a", "pair_b", "outbox"} {
		o.tables[name] = map[string]map[string]string{}
	}
	return o
}

// keyColumns are the key columns of each table.
func keyColumns(table string) []string {
	if table == "lines" {
		return []string{"order_id", "no"}
	}
	return []string{"id"}
}

func keyOf(table string, row map[string]string) string {
	var parts []string
	for _, c := range keyColumns(table) {
		parts = append(parts, row[c])
	}
	return strings.Join(parts, "/")
}

// apply applies one line of test_decoding's output.
func (o *oracle) apply(t *testing.T, line string) {
	t.Helper()
	head, body, ok := strings.Cut(strings.TrimPrefix(line, "table "), ": ")
	op, rest, ok2 := strings.Cut(body, ":")
	if !ok || !ok2 {
		t.Fatalf("oracle: cannot read %q", line)
	}
	if op == "TRUNCATE" {
		for _, name := range strings.Split(head, ", ") {
			clear(o.tables[strings.TrimPrefix(name, "public.")])
		}
		return
	}
	name := strings.TrimPrefix(head, "public.")
	table := o.tables[name]
	rest = strings.TrimSpace(rest)
	var older map[string]string
	if after, has := strings.CutPrefix(rest, "old-key: "); has {
		before, after, _ := strings.Cut(after, " new-tuple: ")
		older, rest = parseTuple(t, before), after
	}
	row := parseTuple(t, rest)
	if op == "DELETE" {
		delete(table, keyOf(name, row))
		return
	}
	from := row
	if older != nil {
		from = older
	}
	last := table[keyOf(name, from)]
	for c, v := range row {
		if v == "unchanged-toast-datum" {
			row[c] = last[c]
		}
	}
	if older != nil {
		delete(table, keyOf(name, older))
	}
	table[keyOf(name, row)] = row
}

// parseTuple reads name[type]:value pairs; texts are quoted.
func parseTuple(t *testing.T, s string) map[string]string {
	t.Helper()
	row := map[string]string{}
	for s != "" {
		name, rest, ok := strings.Cut(s, "[")
		i := strings.Index(rest, "]:")
		if !ok || i < 0 {
			t.Fatalf("oracle: cannot read %q", s)
		}
		rest = rest[i+2:]
		var value string
		if strings.HasPrefix(rest, "'") {
			end := 1
			for ; ; end++ {
				if rest[end] != '\'' {
					continue
				}
				if end+1 < len(rest) && rest[end+1] == '\'' {
					end++
					continue
				}
				break
			}
			value, rest = strings.ReplaceAll(rest[1:end], "''", "'"), rest[end+1:]
		} else {
			value, rest, _ = strings.Cut(rest, " ")
			rest = " " + rest
		}
		row[name] = value
		s = strings.TrimPrefix(rest, " ")
	}
	return row
}

// number reads an integer.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// totals are an order's lines.
func (o *oracle) totals(order string) (n, cents int64) {
	for _, l := range o.tables["lines"] {
		if l["order_id"] == order {
			n, cents = n+1, cents+number(l["cents"])
		}
	}
	return n, cents
}

// docs is the view "docs", a line a row.
func (o *oracle) docs() []string {
	var out []string
	for id, ord := range o.tables["orders"] {
		n, cents := o.totals(id)
		c, ok := o.tables["customers"][ord["customer_id"]]
		out = append(out, docLine(number(id), Doc{
			Status: ord["status"], Lines: n, Cents: cents,
			NoteLen: length(ord["note"]), BioLen: length(c["bio"]),
		}, ok, c["name"]))
	}
	return sorted(out)
}

func length(s string) int64 {
	if s == "null" {
		return 0
	}
	return int64(len(s))
}

func docLine(id int64, d Doc, hasCustomer bool, customer string) string {
	if !hasCustomer {
		customer = "-"
	}
	return fmt.Sprintf("%d %s %s %d %d %d %d", id, d.Status, customer, d.NoteLen, d.BioLen, d.Lines, d.Cents)
}

// pairs is the view "pair-rows".
func (o *oracle) pairs() []string {
	var out []string
	for id, p := range o.tables["pair_a"] {
		out = append(out, id+" "+p["stamp"])
	}
	return sorted(out)
}

// regions is the view "regions".
func (o *oracle) regions() []string {
	sum := map[string]Totals{}
	for id, ord := range o.tables["orders"] {
		c, ok := o.tables["customers"][ord["customer_id"]]
		if !ok || ord["status"] != "paid" {
			continue
		}
		n, cents := o.totals(id)
		s := sum[c["region"]]
		sum[c["region"]] = Totals{s.Lines + n, s.Cents + cents}
	}
	var out []string
	for region, s := range sum {
		out = append(out, fmt.Sprintf("%s %d %d", region, s.Lines, s.Cents))
	}
	return sorted(out)
}

func sorted[S ~[]E, E cmp.Ordered](s S) S {
	slices.Sort(s)
	return s
}

// values sorts the lines of a fold.
func values[K comparable](m map[K]string) []string { return slices.Sorted(maps.Values(m)) }
