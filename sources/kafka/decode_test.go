package kafka_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/kafka"
)

// lineOf prints what a record says: the operation, and the columns that have a value.
func lineOf(t *testing.T, d sources.TopicDecoder, key, value []byte) string {
	t.Helper()
	got, err := d.Decode(&sources.TopicRecord{Topic: "things", Key: key, Value: value})
	if err != nil {
		for _, is := range []error{sources.ErrDecode, sources.ErrSchema, sources.ErrReopen} {
			if errors.Is(err, is) {
				return is.Error()
			}
		}
		return "no error of a source: " + err.Error()
	}
	var lines []string
	for _, row := range got.Rows {
		tuple := row.New
		if row.Op == record.Delete {
			tuple = row.Old
		}
		line := row.Op.String()
		for i, c := range row.Rel.Columns {
			mark := ""
			if c.Key {
				mark = "*"
			}
			if tuple[i].Kind == record.Text {
				line += fmt.Sprintf(" %s%s=%s", mark, c.Name, tuple[i].Data)
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

func decoderOf(t *testing.T, cfg kafka.Config, req sources.TableRequest) sources.TopicDecoder {
	t.Helper()
	req.Name = "public.things"
	d, err := kafka.Topics(cfg).(sources.TopicReader).Decoder(req)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDecode(t *testing.T) {
	table := sources.TableRequest{Columns: []string{"name", "n", "ok", "more"}, Changes: true}
	stream := sources.TableRequest{Columns: []string{"name", "n", "ok", "more"}}
	pair := sources.TableRequest{
		Columns: []string{"name", "a", "b"}, KeyColumns: []string{"b", "a"}, Changes: true,
	}
	long := binary.BigEndian.AppendUint64(nil, 1<<40)
	const undecodable = "sources: value cannot be decoded"
	const schemaed = `{"schema":{"type":"struct","fields":[{"type":"string","field":"name"},` +
		`{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"},"field":"n"}]},` +
		`"payload":{"name":"x","n":"D54="}}`
	for _, c := range []struct {
		name       string
		cfg        kafka.Config
		req        sources.TableRequest
		key, value string
		nilValue   bool
		want       string
	}{
		{name: "a row of a table", req: table, key: "k 1",
			value: `{"unknown":[1,{"x":"}"}],"name":"A\u00e9\n","n":-12.50,"ok":true,"more":{"a":[1, 2]}}`,
			want:  `UPDATE name=Aé` + "\n" + ` n=-12.50 ok=true more={"a":[1, 2]} *key=k 1`},
		{name: "a record of a stream", req: stream, key: "k", value: `{"n":1}`, want: `INSERT n=1 *key=k`},
		{name: "what is missing or null is NULL", req: table, key: "k", value: `{"n":null}`, want: `UPDATE *key=k`},
		{name: "without a value it is gone", req: table, key: "k", nilValue: true, want: `DELETE *key=k`},
		{name: "null is no value", req: table, key: "k", value: ` null `, want: `DELETE *key=k`},
		{name: "of a stream it says nothing", req: stream, key: "k", nilValue: true, want: ``},
		{name: "a key that has to be quoted", req: table, key: "a\"\\\t", value: `{}`, want: "UPDATE *key=a\"\\\t"},
		{name: "a key that is no text", req: table, key: "\xff", value: `{}`, want: undecodable},
		{name: "no JSON", req: table, key: "k", value: `{"n":`, want: undecodable},
		{name: "more behind it", req: table, key: "k", value: `{} {}`, want: undecodable},
		{name: "no object", req: table, key: "k", value: `[1]`, want: undecodable},
		{name: "broken inside", req: table, key: "k", value: `{"more":{]}}`, want: undecodable},
		{name: "the placeholder of Debezium is a text", req: table, key: "k",
			value: `{"name":"__debezium_unavailable_value"}`, want: "UPDATE name=__debezium_unavailable_value *key=k"},
		{name: "an envelope is a row like any other", req: stream, key: "k",
			value: `{"source":{},"op":"d","after":null,"name":"x"}`, want: "INSERT name=x *key=k"},
		{name: "types of a schema", req: table, key: "k", value: schemaed, want: "UPDATE name=x n=39.98 *key=k"},

		{name: "a key of columns, in any order", req: pair, key: `{"a":1,"b":"x"}`, value: `{"a":9,"name":"n"}`,
			want: "UPDATE name=n *a=1 *b=x"},
		{name: "and of a tombstone", req: pair, key: `{"b":"x","a":1}`, nilValue: true, want: "DELETE *a=1 *b=x"},
		{name: "a column too many", req: pair, key: `{"a":1,"b":2,"c":3}`, value: `{}`, want: undecodable},
		{name: "a column twice", req: pair, key: `{"a":1,"a":2}`, value: `{}`, want: undecodable},
		{name: "a column too few", req: pair, key: `{"a":1}`, value: `{}`, want: undecodable},
		{name: "a key that is null", req: pair, key: `{"a":1,"b":null}`, value: `{}`, want: undecodable},
		{name: "a value for columns", req: pair, key: `7`, value: `{}`, want: undecodable},

		{name: "a key in JSON", cfg: kafka.Config{Key: kafka.JSON}, req: table, key: `"x"`, value: `{}`,
			want: "UPDATE *key=x"},
		{name: "an object with one member", cfg: kafka.Config{Key: kafka.JSON}, req: table, key: `{"id":7}`,
			value: `{}`, want: "UPDATE *key=7"},
		{name: "a text where JSON is due", cfg: kafka.Config{Key: kafka.JSON}, req: table, key: `x`, value: `{}`,
			want: undecodable},
		{name: "a long", cfg: kafka.Config{Key: kafka.Int64}, req: table, key: string(long), value: `{}`,
			want: "UPDATE *key=1099511627776"},
		{name: "a short long", cfg: kafka.Config{Key: kafka.Int64}, req: table, key: "1234", value: `{}`,
			want: undecodable},
		{name: "an integer", cfg: kafka.Config{Key: kafka.Int32}, req: table, key: "\xff\xff\xff\xfe", value: `{}`,
			want: "UPDATE *key=-2"},
		{name: "bytes", cfg: kafka.Config{Key: kafka.Bytes}, req: table, key: "\x00\xff", value: `{}`,
			want: `UPDATE *key=\x00ff`},
		{name: "a value that is one column", cfg: kafka.Config{Value: kafka.Text},
			req: sources.TableRequest{Columns: []string{"value"}}, key: "k", value: `"x"`,
			want: `INSERT value="x" *key=k`},
		{name: "the key is a column of the value", cfg: kafka.Config{Topics: []kafka.Topic{
			{Table: "public.things", KeyColumn: "name"},
		}}, req: table, key: "k", value: `{"name":"other","n":1}`, want: "UPDATE *name=k n=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			value := []byte(c.value)
			if c.nilValue {
				value = nil
			}
			if got := lineOf(t, decoderOf(t, c.cfg, c.req), []byte(c.key), value); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	if got := lineOf(t, decoderOf(t, kafka.Config{}, table), nil, []byte(`{}`)); got != undecodable {
		t.Errorf("a row without key: %s", got)
	}
	if got := lineOf(t, decoderOf(t, kafka.Config{}, stream), nil, []byte(`{"n":1}`)); got != "INSERT n=1" {
		t.Errorf("an event without key: %s", got)
	}
}

// TestSchemaRegistry reads keys and values of a registry; that it does not answer is no fault of
// a record.
func TestSchemaRegistry(t *testing.T) {
	reg := srfake.New()
	t.Cleanup(reg.Close)
	client, err := sr.NewClient(sr.URLs(reg.URL()))
	if err != nil {
		t.Fatal(err)
	}
	framed := func(schema string, v any) []byte {
		s, err := avro.Parse(schema)
		if err != nil {
			t.Fatal(err)
		}
		id, _, err := reg.RegisterSchema("things-"+schema[:9], sr.Schema{Schema: schema})
		if err != nil {
			t.Fatal(err)
		}
		out, err := new(sr.ConfluentHeader).AppendEncode(nil, id, nil)
		if err != nil {
			t.Fatal(err)
		}
		if out, err = s.AppendEncode(out, v); err != nil {
			t.Fatal(err)
		}
		return out
	}
	key := framed(`"long"`+strings.Repeat(" ", 9), int64(42))
	value := framed(`{"type":"record","name":"thing","fields":[{"name":"name","type":"string"},{"name":"n","type":"long"}]}`,
		map[string]any{"name": "x", "n": int64(7)})
	cfg := kafka.Config{Key: kafka.Registry, Value: kafka.Registry, Registry: client}
	req := sources.TableRequest{Columns: []string{"name", "n", "since"}, Changes: true}
	d := decoderOf(t, cfg, req)
	if got := lineOf(t, d, key, value); got != "UPDATE name=x n=7 *key=42" {
		t.Errorf("got %s", got)
	}
	if got := lineOf(t, d, key, nil); got != "DELETE *key=42" {
		t.Errorf("without value: %s", got)
	}
	for name, c := range map[string]struct{ key, value []byte }{
		"no frame": {key, []byte(`{}`)}, "cut off": {key, value[:6]},
		"unknown schema": {key, []byte("\x00\x00\x00\x77\x00x")},
	} {
		if got := lineOf(t, d, c.key, c.value); got != sources.ErrDecode.Error() {
			t.Errorf("%s: %s", name, got)
		}
	}
	fresh := decoderOf(t, cfg, req)
	reg.Close()
	if got := lineOf(t, fresh, key, value); got != sources.ErrReopen.Error() {
		t.Errorf("without registry: %s", got)
	}
	req.Name = "public.things"
	without := kafka.Topics(kafka.Config{Value: kafka.Registry}).(sources.TopicReader)
	if _, err := without.Decoder(req); !errors.Is(err, sources.ErrConfig) {
		t.Errorf("without registry in the configuration: %v", err)
	}
}

// TestTopicNames finds tables in topics, and refuses direct mode.
func TestTopicNames(t *testing.T) {
	c := kafka.Topics(kafka.Config{Topics: []kafka.Topic{{Table: "public.a", Topic: "shop.a"}}})
	for table, want := range map[string]string{
		"public.a": "shop.a", "public.b": "b", "x.shop.c.v1": "shop.c.v1",
	} {
		if got := c.(sources.TopicReader).Topic(table); got != want {
			t.Errorf("%s lies in %s, want %s", table, got, want)
		}
	}
	if _, err := c.Open(t.Context(), sources.OpenRequest{Database: "shop"}); !errors.Is(err, sources.ErrConfig) {
		t.Errorf("Open: %v", err)
	}
}
