package registry_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/serde/registry"
	"github.com/tailrace/tailrace/sources/debezium"
)

const vectors = "../../sources/debezium/testdata/vectors"

// newRegistry starts a registry on this machine, and a client of it.
func newRegistry(t *testing.T) (*srfake.Registry, *registry.Decoder) {
	t.Helper()
	r := srfake.New()
	t.Cleanup(r.Close)
	cl, err := sr.NewClient(sr.URLs(r.URL()))
	if err != nil {
		t.Fatal(err)
	}
	return r, registry.NewDecoder(cl)
}

// frame registers a schema and puts its id before a message.
func frame(t *testing.T, r *srfake.Registry, subject string, s sr.Schema, message []byte) []byte {
	t.Helper()
	id, _, err := r.RegisterSchema(subject, s)
	if err != nil {
		t.Fatal(err)
	}
	var h sr.ConfluentHeader
	head, err := h.AppendEncode(nil, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return append(head, message...)
}

// node is a Connect schema, of a vector's file.
type node struct {
	Type       string
	Name       string
	Field      string
	Optional   bool
	Parameters map[string]string
	Fields     []*node
	Items      *node
}

// avroOf is the Avro schema that Confluent's converter registers for a Connect schema:
// named records are defined once and then referred to.
func avroOf(n *node, named map[string]bool) any {
	var inner any
	switch n.Type {
	case "struct":
		name := n.Name
		if name == "" {
			name = "tr.ConnectDefault" + fmt.Sprint(len(named))
		}
		dot := strings.LastIndexByte(name, '.')
		if named[name] {
			inner = name
			break
		}
		named[name] = true
		fields := []any{}
		for _, f := range n.Fields {
			fields = append(fields, map[string]any{"name": f.Field, "type": avroOf(f, named)})
		}
		inner = map[string]any{"type": "record", "name": name[dot+1:], "namespace": name[:dot], "fields": fields,
			"connect.name": name}
	case "array":
		inner = map[string]any{"type": "array", "items": avroOf(n.Items, named)}
	default:
		m := map[string]any{"type": map[string]string{"int16": "int", "int32": "int", "int64": "long",
			"float": "float", "double": "double", "boolean": "boolean", "string": "string", "bytes": "bytes"}[n.Type]}
		if n.Type == "int16" {
			m["connect.type"] = "int16"
		}
		if n.Name != "" {
			m["connect.name"], m["connect.version"] = n.Name, 1
		}
		if n.Parameters != nil {
			m["connect.parameters"] = n.Parameters
		}
		if strings.HasSuffix(n.Name, ".Decimal") {
			m["logicalType"], m["precision"], m["scale"] = "decimal", 64, json.Number(n.Parameters["scale"])
		}
		inner = m
	}
	if n.Optional {
		return []any{"null", inner}
	}
	return inner
}

// native is a value of Connect's JSON as the Avro library takes it.
func native(t *testing.T, n *node, v any) any {
	t.Helper()
	switch x := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for _, f := range n.Fields {
			out[f.Field] = native(t, f, x[f.Field])
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i := range x {
			out[i] = native(t, n.Items, x[i])
		}
		return out
	case json.Number:
		if n.Type == "double" || n.Type == "float" {
			f, err := x.Float64()
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		i, err := x.Int64()
		if err != nil {
			t.Fatal(err)
		}
		return i
	case string:
		switch n.Type {
		case "bytes":
			b, err := base64.StdEncoding.DecodeString(x)
			if err != nil {
				t.Fatal(err)
			}
			return b
		case "double", "float":
			f, err := json.Number(x).Float64()
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	return v
}

// TestAvro writes Debezium's own rows as Confluent's Avro converter does and reads them
// back: the same values as through JSON with schema.
func TestAvro(t *testing.T) {
	t.Parallel()
	rows := 0
	files, err := filepath.Glob(vectors + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if !strings.HasPrefix(name, "types-") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			Schemas map[string]json.RawMessage
			Records []struct {
				Topic string
				Key   json.RawMessage
				Value struct{ After json.RawMessage }
			}
		}
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		for _, r := range v.Records {
			schema := v.Schemas[r.Topic+"#value"]
			if schema == nil {
				continue
			}
			rows++
			compareRow(t, name, schema, r.Key, r.Value.After)
		}
	}
	if rows < 20 {
		t.Errorf("only %d rows", rows)
	}
}

func compareRow(t *testing.T, name string, schema, key, row []byte) {
	t.Helper()
	var n node
	if err := json.Unmarshal(schema, &n); err != nil {
		t.Fatal(err)
	}
	before, after := n, n
	before.Field, after.Field = "before", "after"
	source := &node{Type: "struct", Name: "io.debezium.connector.postgresql.Source", Field: "source"}
	source.Fields = []*node{
		{Type: "string", Field: "schema"}, {Type: "string", Field: "table"},
		{Type: "int64", Field: "lsn", Optional: true},
	}
	env := &node{Type: "struct", Name: "tr.public.t.Envelope", Fields: []*node{&before, &after, source,
		{Type: "string", Field: "op"}}}
	value := `{"before":null,"after":` + string(row) + `,"source":{"schema":"public","table":"t","lsn":7},"op":"u"}`
	schemaText, err := json.Marshal(avroOf(env, map[string]bool{}))
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer(`"logicalType":"decimal",`, "").Replace(string(schemaText))
	s, err := avro.Parse(plain)
	if err != nil {
		t.Fatal(name, err, plain)
	}
	dec := json.NewDecoder(strings.NewReader(value))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	message, err := s.Encode(native(t, env, v))
	if err != nil {
		t.Fatal(name, err)
	}
	reg, d := newRegistry(t)
	framed := frame(t, reg, "t-value", sr.Schema{Schema: string(schemaText), Type: sr.TypeAvro}, message)
	got, err := d.AppendJSON(t.Context(), nil, "tr.public.t", framed)
	if err != nil {
		t.Fatal(name, err)
	}
	envText := `{"type":"struct","fields":[` + side(schema, "before") + `,` + side(schema, "after") +
		`,{"type":"struct","fields":[],"field":"source"},{"type":"string","field":"op"}],"name":"tr.public.t.Envelope"}`
	want := `{"schema":` + envText + `,"payload":` + value + `}`
	if g, w := decode(t, key, got), decode(t, key, []byte(want)); g != w {
		t.Errorf("%s:\n got %s\nwant %s", name, g, w)
	}
}

func side(schema []byte, field string) string {
	text := strings.TrimSpace(string(schema))
	return text[:len(text)-1] + `,"field":"` + field + `"}`
}

// decode is a row and its types as a Debezium decoder reads them.
func decode(t *testing.T, key, value []byte) string {
	t.Helper()
	d, err := debezium.NewDecoder(debezium.Config{Prefix: "tr", Tables: []debezium.Table{{Name: "public.t"}}})
	if err != nil {
		t.Fatal(err)
	}
	var ev debezium.Event
	if err := d.Decode(&debezium.Record{Topic: "tr.public.t", Key: key, Value: value}, &ev); err != nil {
		t.Fatalf("%v\n%s", err, value)
	}
	var b strings.Builder
	for i, v := range ev.Row.New {
		c := ev.Row.Rel.Columns[i]
		fmt.Fprintf(&b, "%s %s=", c.Name, c.Type)
		if v.Kind == record.Null {
			b.WriteString("NULL ")
		} else {
			fmt.Fprintf(&b, "%s ", v.Data)
		}
	}
	return b.String()
}

// TestJSONSchema reads what Confluent's JSON Schema converter writes.
func TestJSONSchema(t *testing.T) {
	t.Parallel()
	reg, d := newRegistry(t)
	const row = `{"type":"object","title":"tr.public.t.Value","properties":{` +
		`"id":{"type":"integer","connect.index":0,"connect.type":"int32"},` +
		`"price":{"connect.index":1,"oneOf":[{"type":"null"},{"type":"number","title":` +
		`"org.apache.kafka.connect.data.Decimal","connect.version":1,"connect.parameters":{"scale":"2",` +
		`"connect.decimal.precision":"10"},"connect.type":"bytes"}]},` +
		`"at":{"connect.index":2,"oneOf":[{"type":"null"},{"type":"integer","title":"io.debezium.time.MicroTimestamp",` +
		`"connect.version":1,"connect.type":"int64"}]}}}`
	schema := `{"type":"object","title":"tr.public.t.Envelope","properties":{` +
		`"before":{"connect.index":0,"oneOf":[{"type":"null"},{"$ref":"#/definitions/row"}]},` +
		`"after":{"connect.index":1,"oneOf":[{"type":"null"},{"$ref":"#/definitions/row"}]},` +
		`"source":{"type":"object","connect.index":2,"properties":{"table":{"type":"string"}}},` +
		`"op":{"type":"string","connect.index":3}},"definitions":{"row":` + row + `}}`
	message := `{"before":null,"after":{"id":1,"price":"D54=","at":1529507596945104},"source":{"table":"t"},"op":"c"}`
	got, err := d.AppendJSON(t.Context(), nil, "tr.public.t", frame(t, reg, "t-value",
		sr.Schema{Schema: schema, Type: sr.TypeJSON}, []byte(message)))
	if err != nil {
		t.Fatal(err)
	}
	const want = "id integer=1 price numeric(10,2)=39.98 at timestamp without time zone=2018-06-20 15:13:16.945104 "
	if text := decode(t, []byte(`{"id":1}`), got); text != want {
		t.Errorf("got %s\nwant %s", text, want)
	}
}

// TestRefused names the topic and the schema in each error.
func TestRefused(t *testing.T) {
	t.Parallel()
	reg, d := newRegistry(t)
	ok := sr.Schema{Schema: `{"type":"record","name":"R","fields":[{"name":"a","type":"long"}]}`, Type: sr.TypeAvro}
	proto := sr.Schema{Schema: `syntax = "proto3"; message R { int64 a = 1; }`, Type: sr.TypeProtobuf}
	union := sr.Schema{Schema: `{"type":"record","name":"U","fields":[{"name":"a","type":["long","string"]}]}`}
	loop := sr.Schema{Schema: `{"type":"record","name":"L","fields":[{"name":"a","type":["null","L"]}]}`}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"plain JSON":      {[]byte(`{"a":1}`), registry.ErrFrame},
		"too short":       {[]byte{0, 0, 0}, registry.ErrFrame},
		"unknown id":      {[]byte{0, 0, 0, 99, 1, 2}, registry.ErrSchema},
		"protobuf":        {frame(t, reg, "p", proto, []byte{0, 8, 1}), registry.ErrSchema},
		"a union":         {frame(t, reg, "u", union, []byte{0, 2}), registry.ErrSchema},
		"an endless type": {frame(t, reg, "l", loop, []byte{0}), registry.ErrSchema},
		"cut off":         {frame(t, reg, "r", ok, nil), registry.ErrMessage},
		"too long":        {frame(t, reg, "r", ok, []byte{2, 2}), registry.ErrMessage},
	} {
		_, err := d.AppendJSON(t.Context(), nil, "the.topic", c.data)
		var e *registry.Error
		if !errors.Is(err, c.want) || !errors.As(err, &e) || !strings.Contains(err.Error(), "the.topic") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if out, err := d.AppendJSON(t.Context(), nil, "the.topic", nil); out != nil || err != nil {
		t.Errorf("a tombstone became %s, %v", out, err)
	}
}

// counting counts how often the registry is asked.
type counting struct {
	registry.Source
	asked int
}

func (c *counting) SchemaByID(ctx context.Context, id int) (sr.Schema, error) {
	c.asked++
	if c.asked == 1 {
		return sr.Schema{}, errors.New("down")
	}
	return sr.Schema{Schema: `"long"`}, nil
}

// TestAsksOnce asks the registry once for a schema, and again after a failure.
func TestAsksOnce(t *testing.T) {
	t.Parallel()
	c := &counting{}
	d := registry.NewDecoder(c)
	data := []byte{0, 0, 0, 0, 7, 2}
	if _, err := d.AppendJSON(t.Context(), nil, "t", data); !errors.Is(err, registry.ErrSchema) {
		t.Fatal(err)
	}
	for range 3 {
		got, err := d.AppendJSON(t.Context(), nil, "t", data)
		if want := `{"schema":{"type":"int64","optional":false},"payload":1}`; err != nil || string(got) != want {
			t.Fatalf("%s, %v", got, err)
		}
	}
	if c.asked != 2 {
		t.Errorf("asked %d times", c.asked)
	}
}
