package apptest

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/serde"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// logLines is a log that a test reads.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// with returns the lines that have a field, as what a program reads of them.
func (l *logLines) with(t *testing.T, field string) (lines []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for text := range strings.Lines(l.text.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if _, ok := line[field]; ok {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestNullableColumn maps columns that can be NULL to fields that cannot: the app says so
// at its start, with the remedy, and the first NULL stops it before its transaction.
func TestNullableColumn(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec("create domain price as int not null",
		"create table goods (id int primary key, name text, price price, kind text not null, note text, ean text)",
		"insert into goods values (1, 'tea', 3, 'x', null, null)")
	type good struct {
		Name, Kind string
		Price      int32
		Note       sql.Null[string]
		EAN        *string `db:"ean"`
	}
	b := topology.New("goods")
	sinks.View(sources.Table[int32, good](b, pgSource("shop", db), "public.goods"), "goods")
	topo, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	var log logLines
	app := start(t, tailrace.Config{App: "null", StateDir: t.TempDir() + "/state", Logger: log.logger()}, topo)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	lines := log.with(t, "column")
	if len(lines) != 1 {
		t.Fatalf("%d warnings: %v", len(lines), lines)
	}
	for field, want := range map[string]string{
		"level": "WARN", "topology": "goods", "database": "shop", "table": "public.goods", "column": "name",
		"field": "good.Name", "use": "sql.Null[string]",
	} {
		if got := lines[0][field]; got != want {
			t.Errorf("%s is %v, want %s", field, got, want)
		}
	}
	if msg, _ := lines[0]["msg"].(string); !strings.Contains(msg, "pointer") {
		t.Errorf("no remedy in %q", msg)
	}
	db.Exec("insert into goods values (2, 'salt', 1, 'x')", "insert into goods values (3, null, 1, 'x')")
	if err := app.wait(t); !errors.Is(err, sources.ErrDecode) || !errors.Is(err, serde.ErrNull) ||
		!strings.Contains(err.Error(), "name") {
		t.Errorf("got %v", err)
	}
	if lines := log.with(t, "use"); len(lines) != 1 {
		t.Errorf("%d warnings by the end", len(lines))
	}
}

// TestNullInSnapshot stops at a NULL that the snapshot brings, and says nothing of a
// connection, which nobody has lost.
func TestNullInSnapshot(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec("create table goods (id int primary key, name text)", "insert into goods values (1, null)")
	type good struct{ Name string }
	for range 5 { // whether the snapshot's reader has ended by then is a race
		b := topology.New("goods")
		sinks.View(sources.Table[int32, good](b, pgSource("shop", db), "public.goods"), "goods")
		var log logLines
		app := start(t, tailrace.Config{App: "null", StateDir: t.TempDir() + "/state", Logger: log.logger()},
			b.MustBuild())
		if err := app.wait(t); !errors.Is(err, serde.ErrNull) {
			t.Fatalf("got %v", err)
		}
		for _, line := range log.with(t, "error") {
			if msg, _ := line["msg"].(string); strings.Contains(msg, "connection was lost") {
				t.Errorf("a false warning: %v", line)
			}
		}
	}
}
