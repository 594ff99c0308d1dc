package kafkatest

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Line is a record as Kafka's console consumer prints it.
type Line struct{ Key, Value string }

// Null is how the console consumer prints a value that is not there.
const Null = "null"

// consoleTimeout is how long the console consumer waits for a record, in milliseconds.
const consoleTimeout = 60_000

// Console returns what Kafka's own console consumer prints of a topic with
// isolation.level=read_committed: records of one partition in order, all that Read returns.
func (c *Cluster) Console(t testing.TB, topic string) []Line {
	t.Helper()
	count := len(c.Read(t, topic))
	if count == 0 {
		return nil
	}
	dir, err := jars(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), readTimeout)
	defer cancel()
	n := &node{jars: dir, dir: filepath.Join(t.TempDir(), "console")}
	cmd := n.java(ctx, "org.apache.kafka.tools.consumer.ConsoleConsumer",
		"--bootstrap-server", strings.Join(c.brokers, ","), "--topic", topic, "--from-beginning",
		"--isolation-level", "read_committed", "--max-messages", strconv.Itoa(count),
		"--timeout-ms", strconv.Itoa(consoleTimeout),
		"--formatter-property", "print.key=true", "--formatter-property", "key.separator=\t")
	var diagnostics strings.Builder
	cmd.Stderr = &diagnostics
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the console consumer of topic %s: %v\n%s", topic, err, &diagnostics)
	}
	var lines []Line
	for line := range strings.Lines(string(out)) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok {
			t.Fatalf("the console consumer of topic %s prints %q", topic, line)
		}
		lines = append(lines, Line{key, value})
	}
	if len(lines) != count {
		t.Fatalf("the console consumer of topic %s prints %d of %d records\n%s", topic, len(lines), count, &diagnostics)
	}
	return lines
}

// ConsoleLatest folds what the console consumer prints of a table's topic.
func (c *Cluster) ConsoleLatest(t testing.TB, topic string) map[string]string {
	t.Helper()
	rows := map[string]string{}
	for _, l := range c.Console(t, topic) {
		if l.Value == Null {
			delete(rows, l.Key)
		} else {
			rows[l.Key] = l.Value
		}
	}
	return rows
}
