package debezium_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources/debezium"
)

// hidden are the columns whose values Debezium writes in another way than they are: the
// encoder writes them right, or refuses them.
var hidden = map[string][]string{
	"null-becomes-default":      {"note", "qty"},
	"types-array-nested":        {"m", "t", "plain"},
	"types-numeric-nan-precise": {"n", "n2"},
	"types-time-isostring":      {"t", "t0", "t3", "t4", "tz", "tz0"},
	"types-time-nanoseconds":    {"ts", "ts0", "ts3", "ts5"},
	// Java writes coordinates with a fraction.
	"types-geo-unknown": {"l", "ls", "bx", "pa", "pao", "pg", "c"},
	// Arrays of times lose what single ones keep, and 24:00 is lost with zones.
	"types-array-default":          {"tia"},
	"types-array-string-isostring": {"tia"},
}

// TestEncoderWritesWhatDebeziumWrote encodes the rows of the log and compares each
// member byte for byte with the record that Debezium made of the same row.
func TestEncoderWritesWhatDebeziumWrote(t *testing.T) {
	t.Parallel()
	members := 0
	for _, v := range loadVectors(t) {
		if strings.Contains(v.Name, "outbox") || strings.Contains(v.Name, "unwrap") ||
			v.Name == "column-filters-masks" ||
			strings.HasPrefix(v.Name, "cloudevents") || v.Name == "schema-change" {
			continue
		}
		w := readWAL(t, v)
		tables := declared(v, w)
		byTable := map[string][]walRow{}
		for _, r := range w.rows {
			byTable[r.table] = append(byTable[r.table], r)
		}
		modes, err := debezium.ModesOf(v.Options)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range v.Records {
			var env struct {
				After  map[string]json.RawMessage
				Source struct{ Schema, Table, Snapshot string }
				Op     string
			}
			if json.Unmarshal(r.Value, &env) != nil || env.Op == "" || env.Op == "m" || env.Op == "r" {
				continue
			}
			name := env.Source.Schema + "." + env.Source.Table
			rows := byTable[name]
			if env.After == nil && bytes.Contains(mustJSON(t, r.Headers), []byte("newkey")) {
				continue // the first half of a key change
			}
			for rows[0].op == record.Truncate && env.Op != "t" {
				rows = rows[1:] // not sent
			}
			byTable[name] = rows[1:]
			if env.After == nil {
				continue
			}
			at := slices.IndexFunc(tables, func(t debezium.Table) bool { return t.Name == name })
			members += compareMembers(t, v, tables[at], modes, rows[0], env.After)
		}
	}
	if members < 1000 {
		t.Errorf("only %d members were compared", members)
	}
	t.Logf("%d members", members)
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// compareMembers encodes a row's columns one by one.
func compareMembers(
	t *testing.T, v *vector, table debezium.Table, modes debezium.Modes, row walRow,
	want map[string]json.RawMessage,
) (compared int) {
	t.Helper()
	for i, c := range table.Columns {
		text, written := want[c.Name]
		if !written || slices.Contains(hidden[v.Name], c.Name) || neverWritten(c) {
			continue
		}
		one := table
		one.Columns = []debezium.Column{c}
		e, err := debezium.NewEncoder(debezium.EncoderConfig{Prefix: "tr", Table: one, Modes: modes})
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		value := row.new[i]
		if c.Type == "money" && value.Kind == record.Text {
			value.Data = []byte(strings.NewReplacer("$", "", ",", "").Replace(string(value.Data)))
		}
		got, err := e.AppendRow(nil, record.Tuple{value})
		if err != nil {
			t.Errorf("%s: %s %s: %v", v.Name, c.Name, value.Data, err)
			continue
		}
		_, member, _ := bytes.Cut(got, []byte(":"))
		if member = bytes.TrimSuffix(member, []byte("}")); !bytes.Equal(member, text) {
			t.Errorf("%s: %s (%s) %s: got %s, Debezium wrote %s", v.Name, c.Name, c.Type, value.Data, member, text)
		}
		compared++
	}
	return compared
}

// neverWritten are the types that Debezium writes as null whatever they hold.
func neverWritten(c debezium.Column) bool {
	return c.Type == "name" || strings.HasPrefix(c.Type, "bit(3)[]")
}

// TestEncoderRoundTrip decodes Debezium's own records and encodes them again: byte for
// byte the same, but for the nanoseconds of the connector's clock.
func TestEncoderRoundTrip(t *testing.T) {
	t.Parallel()
	lastDigits := regexp.MustCompile(`("ts_ns":\d+)\d{3}(\}+)$`)
	same := 0
	for _, name := range []string{
		"basic-crud", "tx-metadata", "pk-change", "types-numeric-string", "types-numeric-precise",
		"snapshot-markers",
		"truncate", "toast-default", "toast-full", "restart-mid-transaction", "odd-names",
	} {
		v := loadVector(t, "testdata/vectors/"+name+".json")
		tables := declared(v, readWAL(t, v))
		modes, err := debezium.ModesOf(v.Options)
		if err != nil {
			t.Fatal(err)
		}
		d, err := debezium.NewDecoder(debezium.Config{Prefix: "tr", Tables: tables, Modes: modes})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range v.Records {
			rec := r.record()
			var ev debezium.Event
			if err := d.Decode(rec, &ev); err != nil {
				t.Fatal(name, err)
			}
			if ev.Kind != debezium.Row || ev.Row.Op == record.Delete {
				continue // what is before a delete is partly made up
			}
			at := slices.IndexFunc(tables, func(t debezium.Table) bool { return t.Name == ev.Row.Rel.String() })
			for i := range tables[at].Columns {
				tables[at].Columns[i].Key = ev.Row.Rel.Columns[i].Key
			}
			for _, schemas := range []bool{false, true} {
				e, err := debezium.NewEncoder(debezium.EncoderConfig{Prefix: "tr", Table: tables[at], Modes: modes,
					Schemas: schemas})
				if err != nil {
					t.Fatal(name, err)
				}
				value := roundTrip(t, e, rec, &ev)
				if schemas {
					again(t, tables, modes, rec, value, texts(ev.Row.New))
					continue
				}
				got := lastDigits.ReplaceAllString(string(value), "$1$2")
				if want := lastDigits.ReplaceAllString(string(rec.Value), "$1$2"); got != want {
					t.Errorf("%s:\n got %s\nwant %s", name, got, want)
				}
				same++
			}
		}
	}
	if same < 40 {
		t.Errorf("only %d records", same)
	}
}

// roundTrip encodes an event.
func roundTrip(t *testing.T, e *debezium.Encoder, rec *debezium.Record, ev *debezium.Event) []byte {
	t.Helper()
	op := regexp.MustCompile(`"op":"(.)"`).FindSubmatch(rec.Value)[1][0]
	c := debezium.EncodedChange{Op: op, After: ev.Row.New, Source: ev.Source, Tx: ev.Tx, Time: ev.Time}
	if ev.Row.OldKind == record.OldFull {
		c.Before = ev.Row.Old
	}
	value, err := e.AppendValue(nil, &c)
	if err != nil {
		t.Fatal(err)
	}
	if rec.Key == nil || ev.Row.New == nil {
		return value
	}
	key, err := e.AppendKey(nil, ev.Row.New)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(key, rec.Key) {
		t.Errorf("key %s, want %s", key, rec.Key)
	}
	return value
}

// again reads a record with our schema by a decoder that knows no types.
func again(
	t *testing.T, tables []debezium.Table, modes debezium.Modes, rec *debezium.Record, value []byte, want string,
) {
	t.Helper()
	for _, known := range []bool{false, true} {
		var blind []debezium.Table
		for _, table := range tables {
			if !known {
				table.Columns = nil
			}
			blind = append(blind, table)
		}
		d, err := debezium.NewDecoder(debezium.Config{Prefix: "tr", Tables: blind, Modes: modes})
		if err != nil {
			t.Fatal(err)
		}
		var ev debezium.Event
		r := *rec
		r.Value = value
		if err := d.Decode(&r, &ev); err != nil {
			t.Fatalf("%v\n%s", err, value)
		}
		if got := texts(ev.Row.New); got != want {
			t.Errorf("with schema: got %s, want %s", got, want)
		}
	}
}

// TestEncoderSchema compares the schemas with those that Debezium wrote.
func TestEncoderSchema(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"types-numeric-precise", "types-time-adaptive", "types-time-connect",
		"types-time-isostring", "types-misc-default", "types-array-default", "types-geo-range-default"} {
		v := loadVector(t, "testdata/vectors/"+name+".json")
		with := withSchemas(t, v)[0]
		table := declared(v, readWAL(t, v))[0]
		var theirs struct {
			Schema struct {
				Fields []struct{ Fields []map[string]any }
			}
		}
		if err := json.Unmarshal(with.Value, &theirs); err != nil {
			t.Fatal(err)
		}
		for i := range table.Columns {
			table.Columns[i].NotNull = table.Columns[i].Name == "id"
		}
		for _, f := range theirs.Schema.Fields[0].Fields {
			at := slices.IndexFunc(table.Columns, func(c debezium.Column) bool { return c.Name == f["field"] })
			one := table
			one.Columns = table.Columns[at : at+1]
			if one.Columns[0].Enum || neverWritten(one.Columns[0]) {
				continue
			}
			modes, _ := debezium.ModesOf(v.Options)
			e, err := debezium.NewEncoder(debezium.EncoderConfig{Prefix: "tr", Table: one, Modes: modes,
				Schemas: true})
			if err != nil {
				t.Fatal(err)
			}
			value, err := e.AppendValue(nil, &debezium.EncodedChange{Op: 't'})
			if err != nil {
				t.Fatal(err)
			}
			var ours struct {
				Schema struct {
					Fields []struct{ Fields []map[string]any }
				}
			}
			if err := json.Unmarshal(value, &ours); err != nil {
				t.Fatal(err)
			}
			if got, want := plainSchema(ours.Schema.Fields[0].Fields[0]), plainSchema(f); got != want {
				t.Errorf("%s: %s:\n got %s\nwant %s", name, f["field"], got, want)
			}
		}
	}
}

// plainSchema leaves out what does not matter to a reader: names of plain texts, and
// their documentation.
func plainSchema(f map[string]any) string {
	f = maps.Clone(f)
	for _, name := range []string{"doc", "version"} {
		delete(f, name)
	}
	if items, ok := f["items"].(map[string]any); ok {
		f["items"] = plainSchema(items)
	}
	if f["type"] == "string" && f["name"] != nil &&
		strings.HasPrefix(fmt.Sprint(f["name"]), "io.debezium.data.") {
		delete(f, "name")
	}
	b, _ := json.Marshal(f)
	return strings.ReplaceAll(string(b), `\"doc\":\"Variable scaled decimal\",`, "")
}

// TestEncoderRefuses names the columns that Debezium has no form for.
func TestEncoderRefuses(t *testing.T) {
	t.Parallel()
	table := debezium.Table{Name: "public.t", Columns: []debezium.Column{
		{Column: record.Column{Name: "a", Type: "polygon"}}, {Column: record.Column{Name: "b", Type: "interval[]"}},
	}}
	_, err := debezium.NewEncoder(debezium.EncoderConfig{Table: table})
	if !errors.Is(err, debezium.ErrType) || !strings.Contains(err.Error(), "column a") ||
		!strings.Contains(err.Error(), "column b") {
		t.Error(err)
	}
}
