package debezium_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/big"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources/debezium"
)

var update = flag.Bool("update", false, "write the golden table of outcomes")

const (
	outcomes = "testdata/outcomes.md"
	page     = "../../docs/debezium.md"
)

// TestVectors reads every record of Debezium's own output and compares each row with
// what our pgoutput decoder reads out of the same log. What became of each fixture is a
// table that docs/debezium.md holds, too.
func TestVectors(t *testing.T) {
	var table strings.Builder
	table.WriteString("| fixture | records through | outcome |\n|---|---|---|\n")
	for _, v := range loadVectors(t) {
		w := readWAL(t, v)
		if strings.Contains(v.Name, "outbox") {
			fmt.Fprintf(&table, "| %s | | %s |\n", v.Name, outboxOutcome(t, v, w))
			continue
		}
		sets := map[string][]*debezium.Record{"without schema": plain(v.Records)}
		if set := withSchemas(t, v); set != nil {
			sets["with schema"] = set
		}
		for name, rs := range v.Others {
			sets[strings.ReplaceAll(name, "_", " ")] = plain(rs)
		}
		for _, name := range slices.Sorted(maps.Keys(sets)) {
			fmt.Fprintf(&table, "| %s | %s | %s |\n", v.Name, name, outcome(t, v, w, sets[name]))
		}
	}
	if *update {
		if err := os.WriteFile(outcomes, []byte(table.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(outcomes)
	if err != nil {
		t.Fatal(err)
	}
	if got := table.String(); got != string(want) {
		t.Errorf("the outcomes differ from %s; -update writes it:\n%s", outcomes, got)
	}
	if docs, err := os.ReadFile(page); err != nil || !bytes.Contains(docs, want) {
		t.Errorf("%s does not hold the table of %s (%v)", page, outcomes, err)
	}
}

func plain(rs []vectorRecord) []*debezium.Record {
	out := make([]*debezium.Record, len(rs))
	for i := range rs {
		out[i] = rs[i].record()
	}
	return out
}

// declared are the tables as ReadCatalog would return them.
func declared(v *vector, w *wal) []debezium.Table {
	var out []debezium.Table
	for _, name := range slices.Sorted(maps.Keys(w.rels)) {
		rel := w.rels[name]
		t := debezium.Table{Name: name, Identity: rel.Identity}
		for _, c := range rel.Columns {
			// Under FULL the log does not tell the key.
			c.Key = c.Key && rel.Identity != record.IdentityFull
			if v.Name[:min(len(v.Name), 10)] == "types-misc" && strings.HasPrefix(c.Name, "pr") {
				c.Base = "numeric(10,2)" // a domain's modifier is not in the log
			}
			t.Columns = append(t.Columns, debezium.Column{Column: c, Enum: strings.HasPrefix(c.Type, "mood")})
		}
		out = append(out, t)
	}
	return out
}

// outcome decodes records and says what became of them.
func outcome(t *testing.T, v *vector, w *wal, rs []*debezium.Record) string {
	t.Helper()
	if v.Name == "types-time-snapshot" {
		// The same values were streamed for another fixture.
		w = readWAL(t, loadVector(t, "testdata/vectors/types-time-adaptive.json"))
	}
	modes, err := debezium.ModesOf(v.Options)
	if err != nil {
		t.Fatal(err)
	}
	d, err := debezium.NewDecoder(debezium.Config{
		Prefix: "tr", Tables: declared(v, w), Modes: modes,
		Partial: v.Name == "unwrap-drop-fields-header",
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &comparison{t: t, v: v, next: map[string]int{}, byTable: map[string][]walRow{},
		differs: map[string]int{}, left: map[string]bool{}, lost: map[string]bool{}, refused: map[string]int{}}
	for _, row := range w.rows {
		c.byTable[row.table] = append(c.byTable[row.table], row)
	}
	c.messages = len(w.messages)
	for _, r := range rs {
		c.record(d, r)
	}
	if len(rs) == len(v.Records) {
		for table, rows := range c.byTable {
			for _, row := range rows[c.next[table]:] {
				c.lost[row.op.String()] = true
			}
		}
	}
	return c.String()
}

// comparison compares a vector's records with its log.
type comparison struct {
	t       *testing.T
	v       *vector
	byTable map[string][]walRow
	next    map[string]int // how many of a table's rows have been met
	half    *walRow        // a key change of which the delete was seen

	equal, snapshot, tombstones, boundaries, heartbeats, ignored, messages, readMessages int

	differs, refused map[string]int
	left, lost       map[string]bool
}

func (c *comparison) record(d *debezium.Decoder, r *debezium.Record) {
	c.t.Helper()
	var ev debezium.Event
	err := d.Decode(r, &ev)
	var e *debezium.Error
	if err != nil {
		if !errors.As(err, &e) {
			c.t.Fatalf("%s: %T %v", c.v.Name, err, err)
		}
		c.refused[strings.TrimPrefix(e.Err.Error(), "debezium: ")+at(e)]++
		c.skipRow(r)
		return
	}
	switch ev.Kind {
	case debezium.Row:
		c.row(r, &ev)
	case debezium.Tombstone:
		c.tombstones++
		switch c.v.Name {
		case "unwrap-tombstone", "unwrap-delete-to-tombstone", "unwrap-drop-fields-header":
			c.row(r, &ev) // it is the delete
		}
	case debezium.Begin, debezium.End:
		c.boundaries++
	case debezium.Heartbeat:
		c.heartbeats++
	case debezium.Message:
		c.readMessages++
	default:
		c.ignored++
	}
}

func at(e *debezium.Error) string {
	if e.Column == "" {
		return " (" + e.Table + ")"
	}
	return " (" + e.Table + "." + e.Column + ")"
}

// skipRow passes the log's row of a record that was refused.
func (c *comparison) skipRow(r *debezium.Record) {
	table := strings.TrimPrefix(r.Topic, "tr.")
	streamed := r.Value != nil && !bytes.Contains(r.Value, []byte(`"op":"r"`))
	if streamed || c.v.Name == "types-time-snapshot" {
		c.next[table]++
	}
}

func (c *comparison) row(r *debezium.Record, ev *debezium.Event) {
	table := ev.Row.Rel.String()
	if ev.Source.Snapshot != debezium.Streamed || bytes.Contains(r.Value, []byte(`"id":1,"v":"x","n":"AJY="`)) {
		c.snapshot++ // nothing in the log is like it
		if c.v.Name != "types-time-snapshot" {
			return
		}
	}
	rows := c.byTable[table]
	if c.next[table] >= len(rows) {
		c.differs["a row that the log does not have"]++
		return
	}
	want := &rows[c.next[table]]
	if want.op == record.Truncate && ev.Row.Op != record.Truncate {
		c.lost["TRUNCATE"] = true
		c.next[table]++
		want = &rows[c.next[table]]
	}
	if ev.Moved != nil && ev.Row.Op == record.Delete && ev.Kind == debezium.Row {
		// The first half of a key change, which is one update in the log.
		c.tuple(ev, "key", ev.Row.Old, want.old, true)
		c.half = want
		return
	}
	c.next[table]++
	before := c.different()
	op := ev.Row.Op
	if c.half != nil {
		c.half, op = nil, record.Update
		c.tuple(ev, "moved", ev.Moved, want.old, true)
	}
	if op != want.op && !(strings.HasPrefix(c.v.Name, "unwrap") || strings.Contains(c.v.Name, "cloudevents")) {
		c.differs[fmt.Sprintf("%v instead of %v", op, want.op)]++
	}
	if op == record.Delete {
		c.tuple(ev, "old", ev.Row.Old, want.old, ev.Row.OldKind == record.OldKey)
	}
	if ev.Row.New != nil {
		c.tuple(ev, "new", ev.Row.New, want.new, false)
	}
	if ev.Row.OldKind == record.OldFull {
		c.tuple(ev, "old", ev.Row.Old, want.old, false)
	}
	if c.different() == before {
		c.equal++
	}
}

func (c *comparison) different() (n int) {
	for _, d := range c.differs {
		n += d
	}
	return n
}

// tuple compares a tuple's columns with the log's.
func (c *comparison) tuple(ev *debezium.Event, which string, got, want record.Tuple, keyOnly bool) {
	table := ev.Row.Rel.String()
	rows := c.byTable[table]
	rel := rows[min(c.next[table], len(rows)-1)].rel
	if c.next[table] > 0 {
		rel = rows[c.next[table]-1].rel
	}
	if which == "key" {
		rel = rows[c.next[table]].rel
	}
	for i, col := range rel.Columns {
		at := slices.IndexFunc(ev.Row.Rel.Columns, func(g record.Column) bool { return g.Name == col.Name })
		if at < 0 {
			c.left[col.Name] = true
			continue
		}
		if keyOnly && !ev.Row.Rel.Columns[at].Key {
			continue
		}
		if i >= len(want) || at >= len(got) {
			c.differs[which+" is missing"]++
			return
		}
		g, w := canonical(col.Type, got[at]), canonical(col.Type, want[i])
		if g != w && !(g == "unchanged" && c.partial()) {
			c.differs[col.Name]++
			if testing.Verbose() {
				c.t.Logf("%s: %s %s: got %s, want %s", c.v.Name, which, col.Name, g, w)
			}
		}
	}
}

func (c *comparison) partial() bool { return c.v.Name == "unwrap-drop-fields-header" }

func (c *comparison) String() string {
	var parts []string
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, strconv.Itoa(n)+" "+what)
		}
	}
	add(c.equal, "equal to the log")
	add(c.snapshot, "of a snapshot")
	add(c.tombstones, "tombstones")
	add(c.boundaries, "transaction bounds")
	add(c.heartbeats, "heartbeats")
	add(c.readMessages, "messages")
	add(c.ignored, "of tables not read")
	for _, what := range slices.Sorted(maps.Keys(c.refused)) {
		add(c.refused[what], "refused: "+what)
	}
	if names := slices.Sorted(maps.Keys(c.differs)); len(names) > 0 {
		parts = append(parts, "**differ, found by the check**: "+strings.Join(names, ", "))
	}
	if names := slices.Sorted(maps.Keys(c.lost)); len(names) > 0 {
		parts = append(parts, "**not sent, found by the check**: "+strings.Join(names, ", "))
	}
	if names := slices.Sorted(maps.Keys(c.left)); len(names) > 0 {
		parts = append(parts, "not read: "+strings.Join(names, ", "))
	}
	return strings.Join(parts, "; ")
}

var zeroFraction = regexp.MustCompile(`\.0\b`)

// canonical is a value in a form in which equal ones are equal texts, where a type has
// several texts for one value.
func canonical(typ string, v record.Value) string {
	switch v.Kind {
	case record.Null:
		return "NULL"
	case record.Unchanged:
		return "unchanged"
	}
	text := string(v.Data)
	base, array := strings.CutSuffix(typ, "[]")
	base, _, _ = strings.Cut(base, "(")
	switch base {
	case "line", "lseg", "path", "box", "polygon", "circle":
		return zeroFraction.ReplaceAllString(text, "")
	case "numeric", "money":
		if array {
			parts := strings.Split(strings.Trim(text, "{}"), ",")
			for i := range parts {
				parts[i] = number(parts[i])
			}
			return strings.Join(parts, ",")
		}
		return number(text)
	}
	return text
}

func number(text string) string {
	text = strings.NewReplacer("$", "", ",", "").Replace(text)
	if r, ok := new(big.Rat).SetString(text); ok {
		return r.RatString()
	}
	return text
}

// withSchemas are a vector's records with the schemas that its file holds put in front,
// as JsonConverter does.
func withSchemas(t *testing.T, v *vector) []*debezium.Record {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors/" + v.Name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Schemas map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	used := false
	out := plain(v.Records)
	for _, r := range out {
		if r.Value == nil {
			continue
		}
		s := schemaFor(t, file.Schemas, r)
		if s == nil {
			continue
		}
		used = true
		r.Value = slices.Concat([]byte(`{"schema":`), s, []byte(`,"payload":`), r.Value, []byte(`}`))
	}
	if !used {
		return nil
	}
	return out
}

// schemaFor finds the schema of a record's value: the version that has its columns.
func schemaFor(t *testing.T, schemas map[string]json.RawMessage, r *debezium.Record) []byte {
	t.Helper()
	type fields struct {
		Fields []struct{ Field string }
	}
	var env struct{ Before, After map[string]any }
	if err := json.Unmarshal(r.Value, &env); err != nil {
		t.Fatal(err)
	}
	row := env.After
	if row == nil {
		row = env.Before
	}
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		if topic, _, _ := strings.Cut(name, "#value"); topic != r.Topic || !strings.Contains(name, "#value") {
			continue
		}
		var s fields
		if err := json.Unmarshal(schemas[name], &s); err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, f := range s.Fields {
			names[f.Field] = true
		}
		if names["op"] && names["source"] || names["status"] {
			return schemas[name]
		}
		if len(names) != len(row) {
			continue
		}
		missing := false
		for f := range row {
			missing = missing || !names[f]
		}
		if missing {
			continue
		}
		side := func(field string) string {
			s := strings.TrimSpace(string(schemas[name]))
			return s[:len(s)-1] + `,"field":"` + field + `"}`
		}
		return []byte(`{"type":"struct","fields":[` + side("before") + `,` + side("after") + `,{"type":"struct",` +
			`"fields":[],"optional":false,"name":"io.debezium.connector.postgresql.Source","field":"source"},` +
			`{"type":"string","optional":false,"field":"op"}],"optional":false,"name":"` + r.Topic + `.Envelope"}`)
	}
	return nil
}
