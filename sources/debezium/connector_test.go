package debezium_test

import (
	"errors"
	"testing"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/debezium"
)

// A heartbeat says up to when the source is complete: less the lag of the connector.
func TestTopicsHaveHeartbeats(t *testing.T) {
	reader, ok := debezium.Topics(debezium.Config{Prefix: "shop"}).(sources.HeartbeatReader)
	if !ok {
		t.Fatal("no heartbeats are read")
	}
	topic, at := reader.Heartbeats()
	if topic != "__debezium-heartbeat.shop" {
		t.Errorf("they are read from %s", topic)
	}
	const schemaed = `{"schema":{"type":"struct","name":"io.debezium.connector.common.Heartbeat",` +
		`"fields":[{"type":"int64","field":"ts_ms"}]},"payload":{"ts_ms":1700000060000}}`
	for _, value := range []string{`{"ts_ms":1700000060000}`, schemaed} {
		got, err := at(&sources.TopicRecord{Topic: topic, Value: []byte(value)})
		if err != nil || got != 1700000000000000 {
			t.Errorf("%s: %d, %v", value, got, err)
		}
	}
	for _, value := range []string{`{"ts_ms":"x"}`, `{}`, `[]`, `{"id":1}`} {
		_, err := at(&sources.TopicRecord{Topic: topic, Value: []byte(value)})
		if !errors.Is(err, sources.ErrDecode) {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// The first record of a table already has its key, though only another column is asked for.
func TestTopicsReadTheKey(t *testing.T) {
	c := debezium.Topics(debezium.Config{Prefix: "shop"})
	reader, ok := c.(sources.TopicReader)
	if !ok || reader.Topic("public.customers") != "shop.public.customers" {
		t.Fatalf("%T reads customers elsewhere", c)
	}
	d, err := reader.Decoder(sources.TableRequest{
		Name: "public.customers", Columns: []string{"name"}, Changes: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	const row = `{"type":"struct","fields":[` +
		`{"type":"int64","optional":false,"field":"id"},{"type":"string","optional":true,"field":"name"}],"optional":true,"field":"`
	r := &sources.TopicRecord{
		Topic: "shop.public.customers",
		Key: []byte(`{"schema":{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"}]},` +
			`"payload":{"id":7}}`),
		Value: []byte(`{"schema":{"type":"struct","name":"shop.public.customers.Envelope","fields":[` + row + `before"},` + row + `after"},` +
			`{"type":"struct","fields":[],"optional":false,"field":"source"},` +
			`{"type":"string","optional":false,"field":"op"}]},"payload":{"before":null,"after":{"id":7,"name":"Ada"},"source":{},"op":"c"}}`),
	}
	got, err := d.Decode(r)
	if err != nil || len(got.Rows) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	found := map[string]string{}
	for i, c := range got.Rows[0].Rel.Columns {
		if v := got.Rows[0].New[i]; v.Kind == record.Text {
			found[c.Name] = string(v.Data)
		}
	}
	if found["id"] != "7" || found["name"] != "Ada" {
		t.Errorf("read %v", found)
	}
	r.Value = []byte(`{"after":`)
	if _, err := d.Decode(r); !errors.Is(err, sources.ErrDecode) {
		t.Errorf("half a record: %v", err)
	}
	if _, err := c.Open(t.Context(), sources.OpenRequest{Database: "shop"}); !errors.Is(err, sources.ErrConfig) {
		t.Errorf("Open: %v", err)
	}
}
