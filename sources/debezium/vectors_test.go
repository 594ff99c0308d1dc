package debezium_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/pgoutput"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources/debezium"
)

// vector is a fixture: what Debezium made of a piece of log, and that log itself.
type vector struct {
	Name     string
	Options  map[string]string
	Setup    []string
	Records  []vectorRecord
	PGOutput [][3]any
	// Others are the same records through other converters.
	Others map[string][]vectorRecord `json:"-"`
}

type vectorRecord struct {
	Topic      string
	Key, Value json.RawMessage
	Headers    []struct {
		Key    string
		JSON   json.RawMessage
		Simple string
	}
	Timestamp int64
	Error     string
	KeyText   *string `json:"key_text"`
}

// record is the Kafka record: what JsonConverter writes.
func (r *vectorRecord) record() *debezium.Record {
	out := &debezium.Record{Topic: r.Topic, Time: r.Timestamp * 1000}
	if string(r.Key) != "null" {
		out.Key = r.Key
	}
	if string(r.Value) != "null" {
		out.Value = r.Value
	}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, debezium.Header{Key: h.Key, Value: h.JSON})
	}
	return out
}

func loadVectors(t testing.TB) []*vector {
	t.Helper()
	files, err := filepath.Glob("testdata/vectors/*.json")
	if err != nil || len(files) != 61 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	var out []*vector
	for _, f := range files {
		out = append(out, loadVector(t, f))
	}
	return out
}

func loadVector(t testing.TB, file string) *vector {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	v := &vector{Others: map[string][]vectorRecord{}}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatal(file, err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(file, err)
	}
	for name, raw := range all {
		rest, ok := strings.CutPrefix(name, "records_")
		if !ok || strings.HasSuffix(rest, "_converter") && !strings.HasPrefix(string(raw), "[") {
			continue
		}
		var rs []vectorRecord
		if err := json.Unmarshal(raw, &rs); err != nil {
			t.Fatal(file, name, err)
		}
		v.Others[rest] = rs
	}
	return v
}

// walRow is a row event as our own decoder reads it from the log: the oracle.
type walRow struct {
	table    string
	op       record.Op
	oldKind  record.OldKind
	old, new record.Tuple
	rel      *record.Relation
	lsn      string
	xid      uint32
}

// wal is what a vector's log says.
type wal struct {
	rows     []walRow
	messages []pgoutput.LogicalMessage
	rels     map[string]*record.Relation
}

var typeNames = map[uint32]string{
	16: "boolean", 17: "bytea", 19: "name", 20: "bigint", 21: "smallint", 23: "integer", 25: "text", 26: "oid",
	28: "xid", 114: "json", 142: "xml", 600: "point", 601: "lseg", 602: "path", 603: "box", 604: "polygon",
	628: "line", 718: "circle", 650: "cidr", 700: "real", 701: "double precision", 774: "macaddr8", 790: "money",
	829: "macaddr", 869: "inet", 1042: "character", 1043: "character varying", 1082: "date",
	1083: "time without time zone", 1114: "timestamp without time zone", 1184: "timestamp with time zone",
	1186: "interval", 1266: "time with time zone", 1560: "bit", 1562: "bit varying", 1700: "numeric",
	2950: "uuid", 3220: "pg_lsn", 3614: "tsvector", 3615: "tsquery", 3802: "jsonb", 3904: "int4range",
	3906: "numrange", 3908: "tsrange", 3910: "tstzrange", 3912: "daterange", 3926: "int8range",
	4451: "int4multirange",
	// arrays
	143: "xml[]", 199: "json[]", 791: "money[]", 1000: "boolean[]", 1001: "bytea[]", 1005: "smallint[]",
	1007: "integer[]", 1009: "text[]", 1014: "character[]", 1015: "character varying[]", 1016: "bigint[]",
	1017: "point[]", 1021: "real[]", 1022: "double precision[]", 1028: "oid[]", 1041: "inet[]",
	1115: "timestamp without time zone[]", 1182: "date[]", 1183: "time without time zone[]",
	1185: "timestamp with time zone[]", 1187: "interval[]", 1231: "numeric[]", 1270: "time with time zone[]",
	1561: "bit[]", 1563: "bit varying[]", 2951: "uuid[]", 3807: "jsonb[]", 3905: "int4range[]",
}

// typeName is what format_type says of a column of the log. The log tells a domain's
// base type, and the names of types that are not PostgreSQL's own.
func typeName(c pgoutput.Column, own map[uint32]string) string {
	name := typeNames[c.TypeOID]
	if name == "" {
		name = own[c.TypeOID]
		if elem, ok := strings.CutPrefix(name, "_"); ok {
			name = elem + "[]"
		}
		for short, long := range map[string]string{"int4": "integer"} {
			name = strings.Replace(name, short, long, 1)
		}
		return name
	}
	if c.TypeMod < 0 {
		return name
	}
	base, array := strings.CutSuffix(name, "[]")
	mod := ""
	switch m := c.TypeMod - 4; base {
	case "numeric":
		mod = fmt.Sprintf("(%d,%d)", m>>16, m&0x7ff)
	case "character", "character varying":
		mod = fmt.Sprintf("(%d)", m)
	case "bit", "bit varying", "time without time zone", "time with time zone", "timestamp without time zone",
		"timestamp with time zone":
		mod = fmt.Sprintf("(%d)", c.TypeMod)
	}
	if array {
		mod += "[]"
	}
	return base + mod
}

func readWAL(t testing.TB, v *vector) *wal {
	t.Helper()
	w := &wal{rels: map[string]*record.Relation{}}
	own, byOID := map[uint32]string{}, map[uint32]*record.Relation{}
	for _, m := range v.PGOutput {
		raw, err := hex.DecodeString(m[2].(string))
		if err != nil {
			t.Fatal(v.Name, err)
		}
		kind, body := pgoutput.Kind(raw[0]), raw[1:]
		row := walRow{lsn: m[0].(string), xid: uint32(m[1].(float64))}
		switch kind {
		case pgoutput.Type:
			oid := uint32(body[0])<<24 | uint32(body[1])<<16 | uint32(body[2])<<8 | uint32(body[3])
			parts := strings.Split(string(body[4:]), "\x00")
			own[oid] = parts[1]
		case pgoutput.Relation:
			m, err := pgoutput.ParseRelation(body)
			if err != nil {
				t.Fatal(v.Name, err)
			}
			rel := &record.Relation{Schema: m.Schema, Name: m.Name, OID: m.OID}
			rel.Identity = map[byte]record.Identity{'f': record.IdentityFull, 'i': record.IdentityIndex,
				'n': record.IdentityNothing}[m.Identity]
			for _, c := range m.Columns {
				rel.Columns = append(rel.Columns, record.Column{Name: c.Name, TypeOID: c.TypeOID, TypeMod: c.TypeMod,
					Key: c.Key, Type: typeName(c, own)})
			}
			byOID[m.OID] = rel
			w.rels[rel.String()] = rel
		case pgoutput.Insert, pgoutput.Update, pgoutput.Delete:
			m, err := pgoutput.ParseChange(kind, body)
			if err != nil {
				t.Fatal(v.Name, err)
			}
			row.rel, row.oldKind = byOID[m.OID], m.OldKind
			row.op = map[pgoutput.Kind]record.Op{pgoutput.Insert: record.Insert, pgoutput.Update: record.Update,
				pgoutput.Delete: record.Delete}[kind]
			if m.OldKind != record.OldNone {
				row.old = make(record.Tuple, m.Width())
				if err := m.Old(row.old); err != nil {
					t.Fatal(v.Name, err)
				}
			}
			if kind != pgoutput.Delete {
				row.new = make(record.Tuple, m.Width())
				if err := m.New(row.new); err != nil {
					t.Fatal(v.Name, err)
				}
				// Under FULL the old row has what the new one leaves out.
				for i := range row.new {
					if row.new[i].Kind == record.Unchanged && m.OldKind == record.OldFull {
						row.new[i] = row.old[i]
					}
				}
			}
			row.table = row.rel.String()
			w.rows = append(w.rows, row)
		case pgoutput.Truncate:
			oids, err := pgoutput.ParseTruncate(body, nil)
			if err != nil {
				t.Fatal(v.Name, err)
			}
			for _, oid := range oids {
				row := row
				row.op, row.rel, row.table = record.Truncate, byOID[oid], byOID[oid].String()
				w.rows = append(w.rows, row)
			}
		case pgoutput.Message:
			m, err := pgoutput.ParseMessage(body)
			if err != nil {
				t.Fatal(v.Name, err)
			}
			w.messages = append(w.messages, m)
		}
	}
	return w
}
