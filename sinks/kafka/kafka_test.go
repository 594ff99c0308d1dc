package kafka_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/kafkatest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(spec))
		os.Exit(1)
	}
	kafkatest.Main(m)
}

var targets atomic.Int64

// renamed opens a connector under an app of its own, so that each test of the suite has
// its own topics in the shared cluster.
type renamed struct {
	sinks.Connector
	app string
}

// newTarget makes a target whose app and topics nobody else has.
func newTarget(t *testing.T) (*kafkatest.Cluster, kafka.Config, string) {
	c := kafkatest.Shared(t)
	return c, kafka.Config{
		Brokers: c.Brokers(), CreateTopics: true, Partitions: 3, Lease: 800 * time.Millisecond,
	}, fmt.Sprintf("t%d", targets.Add(1))
}

func TestTables(t *testing.T) {
	t.Parallel()
	sinktest.ExerciseTables(t, func(t *testing.T) sinktest.Tables {
		c, cfg, app := newTarget(t)
		return sinktest.Tables{
			Connector: &renamed{kafka.Target(cfg), app},
			Rows: func(o sinks.Output) []string {
				var rows []string
				for _, value := range c.Latest(t, app+"."+o.Name) {
					rows = append(rows, rowText(t, o, value))
				}
				slices.Sort(rows)
				return rows
			},
		}
	})
}

func TestEvents(t *testing.T) {
	t.Parallel()
	sinktest.ExerciseEvents(t, func(t *testing.T) sinktest.Events {
		c, cfg, app := newTarget(t)
		cfg.Partitions = 1 // so that there is one order to compare
		return sinktest.Events{
			Connector: &renamed{kafka.Target(cfg), app},
			IDs: func() []string {
				var ids []string
				for _, r := range c.Read(t, app+"."+sinktest.Stream.Name) {
					ids = append(ids, header(r, "tailrace-id"))
				}
				return ids
			},
		}
	})
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// rowText reads a row's JSON as the suite wants it.
func rowText(t *testing.T, o sinks.Output, value []byte) string {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	fields := map[string]any{}
	if err := dec.Decode(&fields); err != nil {
		t.Fatalf("%v: %s", err, value)
	}
	columns := make([]string, len(o.Columns))
	for i, c := range o.Columns {
		v, ok := fields[c.Name]
		switch {
		case !ok:
			t.Fatalf("no column %s in %s", c.Name, value)
		case v == nil:
			columns[i] = sinktest.Null
		default:
			columns[i] = fmt.Sprint(v)
		}
	}
	return strings.Join(columns, "|")
}
