package kafka_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sinks/sinktest"
	"github.com/tailrace/tailrace/sources/debezium"
)

// formatted gives every output Debezium's format, with decimals that keep their zeros.
type formatted struct{ sinks.Connector }

func (f *formatted) Open(ctx context.Context, req sinks.OpenRequest) (sinks.Writer, error) {
	req.Outputs = slices.Clone(req.Outputs)
	for i := range req.Outputs {
		option, _ := req.Outputs[i].Options.(kafka.Output)
		option.Format, option.Modes.Decimal = kafka.DebeziumSchema, "string"
		req.Outputs[i].Options = option
	}
	return f.Connector.Open(ctx, req)
}

// TestDebeziumTables runs the suite of tables with Debezium's envelopes, read by a
// reader of Debezium's topics that knows nothing but the records.
func TestDebeziumTables(t *testing.T) {
	t.Parallel()
	sinktest.ExerciseTables(t, func(t *testing.T) sinktest.Tables {
		c, cfg, app := newTarget(t)
		return sinktest.Tables{
			Connector: &renamed{&formatted{kafka.Target(cfg)}, app},
			Rows: func(o sinks.Output) []string {
				topic := app + "." + o.Name
				d, err := debezium.NewDecoder(debezium.Config{
					// Keys with a NULL in them are not Debezium's; the suite has such, so the keys' bytes
					// count here.
					Tables: []debezium.Table{{Name: "public." + o.Name, Topic: topic, InsertsOnly: true}},
				})
				if err != nil {
					t.Fatal(err)
				}
				table := map[string]string{}
				for _, r := range c.Read(t, topic) {
					var ev debezium.Event
					if err := d.Decode(&debezium.Record{Topic: topic, Key: r.Key, Value: r.Value}, &ev); err != nil {
						t.Fatalf("%v\n%s", err, r.Value)
					}
					if r.Value == nil || ev.Row.Op == record.Delete {
						delete(table, string(r.Key))
						continue
					}
					var columns []string
					for _, v := range ev.Row.New {
						if v.Kind == record.Null {
							columns = append(columns, sinktest.Null)
						} else {
							columns = append(columns, string(v.Data))
						}
					}
					table[string(r.Key)] = strings.Join(columns, "|")
				}
				rows := []string{}
				for _, row := range table {
					rows = append(rows, row)
				}
				slices.Sort(rows)
				return rows
			},
		}
	})
}

// TestDebeziumRefused refuses a format where it cannot be, before anything is
// contacted.
func TestDebeziumRefused(t *testing.T) {
	t.Parallel()
	table := sinktest.Accounts
	table.Columns = append(slices.Clone(table.Columns), sinks.Column{Name: "area", Type: "polygon"})
	for _, o := range []sinks.Output{table, sinktest.Stream} {
		o.Options = kafka.Output{Format: kafka.Debezium}
		_, err := kafka.Target(kafka.Config{Brokers: []string{"127.0.0.1:1"}}).Open(t.Context(), sinks.OpenRequest{
			App: "app", Target: "target", Incarnation: "one", Outputs: []sinks.Output{o},
		})
		if !errors.Is(err, sinks.ErrTargetSchema) {
			t.Errorf("%s: got %v", o.Name, err)
		}
	}
}
