package file

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// leaving leaves out what is refused, once it is kept.
type leaving struct{ asked, kept []string }

func (l *leaving) Refused(it sinks.Item, err error) bool {
	if errors.Is(err, sinks.ErrRejected) {
		l.asked = append(l.asked, it.Event.ID)
	}
	return true
}

func (l *leaving) Keep() error {
	l.kept = slices.Clone(l.asked)
	return nil
}

// TestRefusedEvents leaves out an event that cannot be a line, where a policy says so, and
// stops before its epoch's end otherwise.
func TestRefusedEvents(t *testing.T) {
	items := sinktest.Transaction(1, 3)
	items[1].Event.Value = []byte("{\n") // no JSON
	want := []string{items[0].Event.ID, items[2].Event.ID}
	refused := []string{items[1].Event.ID}
	req := sinks.OpenRequest{App: "a", Target: "t", Incarnation: "i", Outputs: []sinks.Output{sinktest.Stream}}
	var out bytes.Buffer
	path := filepath.Join(t.TempDir(), "events.jsonl")
	for _, c := range []sinks.Connector{&streamConnector{out: &out}, Target(Config{Path: path})} {
		w, err := c.Open(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		epoch := sinktest.Epoch(1, items...)
		if err := w.Apply(t.Context(), []sinks.Epoch{epoch}); !errors.Is(err, sinks.ErrRejected) {
			t.Fatalf("without a policy: %v", err)
		}
		if c, ok := c.(*streamConnector); ok {
			c.out.(*bytes.Buffer).Reset() // it had what came before
		}
		aside := &leaving{}
		epoch.SetAside = aside
		if err := w.Apply(t.Context(), []sinks.Epoch{epoch}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(aside.kept, refused) {
			t.Errorf("kept are %q", aside.kept)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := idsIn(t, out.Bytes()); !slices.Equal(got, want) {
		t.Errorf("standard output has %q", got)
	}
	lines, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := idsIn(t, lines); !slices.Equal(got, want) {
		t.Errorf("the file has %q", got)
	}
}
