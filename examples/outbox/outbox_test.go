package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/examples/outbox/outbox"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/example/exampletest"
	"github.com/tailrace/tailrace/internal/kafkatest"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/file"
	"github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

// asCommand makes the test's binary the command.
const asCommand = "TAILRACE_TEST_OUTBOX"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Args = os.Args[:1]
		main()
		return
	}
	kafkatest.Main(m, pgservertest.StopShared)
}

// TestCommand runs the command without arguments, as the README does, until it has printed
// an event.
func TestCommand(t *testing.T) {
	pgservertest.New(t) // so that the binaries have been fetched
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var diagnostics bytes.Buffer
	c := exec.CommandContext(ctx, os.Args[0])
	c.Env = append(os.Environ(), asCommand+"=1")
	c.Stderr = &diagnostics
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	events := 0
	for scan := bufio.NewScanner(out); events == 0 && scan.Scan(); {
		shown = append(shown, scan.Text())
		var l line
		if json.Unmarshal(scan.Bytes(), &l) == nil && l.Key != "" && l.Value.Kind != "" && l.Value.Customer != nil {
			events++
			if err := c.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, errRest := io.Copy(io.Discard, out)
	if err := errors.Join(errRest, c.Wait()); err != nil || events == 0 {
		t.Fatalf("%d events, %v; it printed\n%s\n%s", events, err, strings.Join(shown, "\n"), &diagnostics)
	}
}

// line is what is looked at of a line of the file.
type line struct {
	Key   string
	Value struct {
		Kind                   string
		OrderID                int64 `json:"order_id"`
		Status, Customer, City *string
		Payload                struct{ Order int64 }
	}
}

func TestOutbox(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	testOutbox(t, file.Target(file.Config{Path: path}), func() []line { return read(t, path) })
}

// TestOutboxKafka has a consumer that reads committed records look at the topic.
func TestOutboxKafka(t *testing.T) {
	cluster := kafkatest.Shared(t)
	target := kafka.Target(kafka.Config{Brokers: cluster.Brokers(), CreateTopics: true, Partitions: 2})
	testOutbox(t, target, func() (lines []line) {
		for _, r := range cluster.Read(t, "shop-events") {
			var l line
			if err := errors.Join(json.Unmarshal(r.Key, &l.Key), json.Unmarshal(r.Value, &l.Value)); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, l)
		}
		return lines
	})
}

// testOutbox runs the example with a target, and compares what read finds there with
// what the writers wrote down.
func testOutbox(t *testing.T, target sinks.Connector, read func() []line) {
	s := exampletest.NewShop(t)
	topo, err := outbox.Topology(
		sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: s.URL})),
		sinks.NewTarget("events", target))
	if err != nil {
		t.Fatal(err)
	}
	// An event from before the first start is delivered too.
	s.Exec(`WITH event AS (INSERT INTO outbox (id, kind, order_id, customer_id, payload)
			VALUES (gen_random_uuid(), 'OrderPlaced', 7, 3, '{"order": 7}') RETURNING *)
		INSERT INTO sent SELECT e.id, e.kind, e.order_id, e.customer_id, c.name, c.city, o.status
		FROM event AS e, customers AS c, orders AS o WHERE c.id = 3 AND o.id = 7`)
	app := s.Run(t, "outbox", topo)
	s.Write(t, app)

	want := map[string]string{}
	for _, r := range s.Strings(`SELECT id, kind, order_id, status, customer, city FROM sent`) {
		want[r[0]] = strings.Join(r[1:], "|")
	}
	if deleted := s.String(`SELECT count(*) FROM sent WHERE id NOT IN (SELECT id FROM outbox)`); deleted == "0" {
		t.Error("no event was deleted by its own transaction, which this test is about too")
	}
	await.Within(await.Limit, func() bool { return len(read()) >= len(want) })
	s.Settle(t, app) // So that an event too many would have come.
	got := read()
	seen := map[string]bool{}
	for _, l := range got {
		v := l.Value
		have := strings.Join([]string{v.Kind, strconv.FormatInt(v.OrderID, 10), text(v.Status), text(v.Customer),
			text(v.City)}, "|")
		if seen[l.Key] || want[l.Key] != have || v.Payload.Order != v.OrderID {
			t.Errorf("event %s: again %v, got %s, want %s", l.Key, seen[l.Key], have, want[l.Key])
		}
		seen[l.Key] = true
	}
	if len(seen) != len(want) || len(want) < 300 {
		t.Errorf("%d events came out, %d were written", len(seen), len(want))
	}
}

func text(s *string) string {
	if s == nil {
		return pgservertest.Null
	}
	return *s
}

func read(t *testing.T, path string) (lines []line) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for scan := bufio.NewScanner(f); scan.Scan(); {
		var l line
		if err := json.Unmarshal(scan.Bytes(), &l); err != nil {
			break // a line that is being written
		}
		lines = append(lines, l)
	}
	return lines
}
