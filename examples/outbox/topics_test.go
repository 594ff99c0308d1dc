package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/example"
	"github.com/tailrace/tailrace/internal/example/exampletest"
	"github.com/tailrace/tailrace/internal/kafkatest"
)

// version is a row of a table from a time on; nil is none.
type version struct {
	from time.Time
	row  map[string]any
}

// versions reads what a topic of Debezium's says of each row, in order.
func versions(t *testing.T, cluster *kafkatest.Cluster, table string) map[string][]version {
	t.Helper()
	out := map[string][]version{}
	for _, r := range cluster.Read(t, exampletest.Prefix+".public."+table) {
		if r.Value == nil {
			continue // the tombstone behind a deletion
		}
		var key, value struct {
			Payload json.RawMessage
		}
		var id struct{ ID any }
		var change struct{ After map[string]any }
		err := errors.Join(json.Unmarshal(r.Key, &key), json.Unmarshal(r.Value, &value),
			json.Unmarshal(key.Payload, &id), json.Unmarshal(value.Payload, &change))
		if err != nil {
			t.Fatal(err)
		}
		name := shown(id.ID)
		out[name] = append(out[name], version{r.Timestamp, change.After})
	}
	return out
}

// shown writes a value of JSON as a key.
func shown(v any) string {
	if n, ok := v.(float64); ok {
		return strconv.FormatInt(int64(n), 10)
	}
	s, _ := v.(string)
	return s
}

// asOf is the column of a row at a time.
func asOf(rows []version, at time.Time, column string) string {
	is := "-"
	for _, v := range rows {
		if v.from.After(at) {
			break
		}
		is = "-"
		if s, ok := v.row[column].(string); ok {
			is = s
		}
	}
	return is
}

// outboxTopic writes events of an outbox as Debezium does: what Replicate copies are rows, which
// do not tell an insert from an update.
type outboxTopic struct {
	t  *testing.T
	cl *kgo.Client
}

func newOutbox(t *testing.T, cluster *kafkatest.Cluster) *outboxTopic {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	const topic = exampletest.Prefix + ".public.outbox"
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 3, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	return &outboxTopic{t, cl}
}

// Schemas of the outbox's keys and values, as Kafka Connect's JSON converter writes them.
const (
	outboxKeySchema = `{"type":"struct","optional":false,"name":"shop.public.outbox.Key","fields":[` + outboxID + `]}`
	outboxID        = `{"type":"string","optional":false,"name":"io.debezium.data.Uuid","version":1,"field":"id"}`
	outboxRow       = `{"type":"struct","optional":true,"name":"shop.public.outbox.Value","fields":[` + outboxID + `,
		{"type":"string","optional":false,"field":"kind"},{"type":"int64","optional":false,"field":"order_id"},
		{"type":"int64","optional":true,"field":"customer_id"},
		{"type":"string","optional":false,"name":"io.debezium.data.Json","version":1,"field":"payload"}],"field":`
	outboxSchema = `{"type":"struct","optional":false,"name":"shop.public.outbox.Envelope","version":2,"fields":[` +
		outboxRow + `"before"},` + outboxRow + `"after"},
		{"type":"struct","optional":false,"name":"io.debezium.connector.postgresql.Source","field":"source","fields":[
			{"type":"string","optional":false,"field":"version"},{"type":"string","optional":false,"field":"connector"},
			{"type":"string","optional":false,"field":"name"},{"type":"int64","optional":false,"field":"ts_ms"},
			{"type":"string","optional":true,"field":"snapshot"},{"type":"string","optional":false,"field":"db"},
			{"type":"string","optional":false,"field":"schema"},{"type":"string","optional":false,"field":"table"}]},
		{"type":"string","optional":false,"field":"op"},{"type":"int64","optional":true,"field":"ts_ms"}]}`
)

// write writes events: id, order, customer.
func (o *outboxTopic) write(events [][]string) {
	o.t.Helper()
	for _, e := range events {
		err := o.cl.ProduceSync(o.t.Context(), &kgo.Record{
			Topic: exampletest.Prefix + ".public.outbox",
			Key:   fmt.Appendf(nil, `{"schema":%s,"payload":{"id":%q}}`, outboxKeySchema, e[0]),
			Value: fmt.Appendf(nil, `{"schema":%s,"payload":{"before":null,"after":{"id":%q,"kind":"OrderSeen",`+
				`"order_id":%s,"customer_id":%s,"payload":"{\"order\": %s}"},"source":{"version":"3.6.0.Final",`+
				`"connector":"postgresql","name":"shop","ts_ms":%d,"snapshot":"false","db":"shop","schema":"public",`+
				`"table":"outbox"},"op":"c","ts_ms":%[6]d}}`,
				outboxSchema, e[0], e[1], e[2], e[1], time.Now().UnixMilli()),
		}).FirstErr()
		if err != nil {
			o.t.Fatal(err)
		}
	}
}

// TestOutboxOverTopics runs the example over Debezium's topics. Each event of the outbox's topic
// comes out once, with the order and the customer as their topics have them at its timestamp.
func TestOutboxOverTopics(t *testing.T) {
	cluster := kafkatest.New(t) // of its own, since the other test writes the same topic
	s := exampletest.NewShop(t)
	replicator := s.Replicate(t, cluster, exampletest.CopyShop)
	outbox := newOutbox(t, cluster)
	exampletest.OverTopics(t, example.Program{Name: "outbox", Run: run}, cluster)
	for round := range 6 {
		s.Exec(fmt.Sprintf("UPDATE orders SET status = 'seen %d' WHERE id %% 3 = %d", round, round%3))
		s.Exec(fmt.Sprintf("UPDATE customers SET city = 'city %d' WHERE id %% 2 = %d", round, round%2))
		s.Settle(t, replicator)
		outbox.write(s.Strings(`SELECT gen_random_uuid(), id, coalesce(customer_id::text, 'null') FROM orders
			ORDER BY random() LIMIT 50`))
	}
	s.Exec(`UPDATE orders SET status = 'later'`)
	s.Settle(t, replicator)

	orders, customers := versions(t, cluster, "orders"), versions(t, cluster, "customers")
	want := map[string]string{}
	for id, rows := range versions(t, cluster, "outbox") {
		at, row := rows[0].from, rows[0].row
		customer := customers[shown(row["customer_id"])]
		want[id] = strings.Join([]string{row["kind"].(string), asOf(orders[shown(row["order_id"])], at, "status"),
			asOf(customer, at, "name"), asOf(customer, at, "city")}, "|")
	}
	if len(want) < 300 {
		t.Fatalf("%d events in the outbox's topic", len(want))
	}
	came := 0
	if !await.Within(await.Limit, func() bool {
		came = len(cluster.Read(t, "shop-events"))
		return came >= len(want)
	}) {
		t.Fatalf("%d of %d events came out", came, len(want))
	}
	seen := map[string]bool{}
	for _, line := range cluster.Console(t, "shop-events") {
		var id string
		var v struct{ Kind, Status, Customer, City *string }
		err := errors.Join(json.Unmarshal([]byte(line.Key), &id), json.Unmarshal([]byte(line.Value), &v))
		if err != nil {
			t.Fatal(err)
		}
		got := make([]string, 0, 4)
		for _, s := range []*string{v.Kind, v.Status, v.Customer, v.City} {
			if s == nil {
				got = append(got, "-")
			} else {
				got = append(got, *s)
			}
		}
		if have := strings.Join(got, "|"); seen[id] || want[id] != have {
			t.Errorf("event %s: again %v, got %s, want %s", id, seen[id], have, want[id])
		}
		seen[id] = true
	}
	if len(seen) != len(want) {
		t.Errorf("%d events came out, %d were written", len(seen), len(want))
	}
}
