package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

func idsIn(t *testing.T, data []byte) (ids []string) {
	t.Helper()
	for line := range bytes.Lines(data) {
		var l struct{ ID string }
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		ids = append(ids, l.ID)
	}
	return ids
}

func TestStreamConformance(t *testing.T) {
	sinktest.ExerciseEvents(t, func(t *testing.T) sinktest.Events {
		var out bytes.Buffer
		return sinktest.Events{
			Connector:   &streamConnector{out: &out},
			IDs:         func() []string { return idsIn(t, out.Bytes()) },
			AtLeastOnce: true,
		}
	})
}

// stuck takes n bytes and then fails once.
type stuck struct {
	bytes.Buffer
	n int
}

var errStuck = errors.New("stuck")

func (s *stuck) Write(p []byte) (int, error) {
	if s.n < 0 || len(p) <= s.n {
		return s.Buffer.Write(p)
	}
	n, _ := s.Buffer.Write(p[:s.n])
	s.n = -1
	return n, errStuck
}

// TestStreamTornWrite fails inside every byte: what was begun is repeated whole, on a line
// of its own.
func TestStreamTornWrite(t *testing.T) {
	epochs := []sinks.Epoch{sinktest.Epoch(1, sinktest.Transaction(1, 2)...), sinktest.Epoch(2,
		sinktest.Transaction(2, 1)...)}
	want := sinktest.IDsOf(epochs...)
	var size int
	for n := 0; size == 0 || n < size; n++ {
		out := &stuck{n: n}
		w, err := (&streamConnector{out: out}).Open(t.Context(),
			sinks.OpenRequest{Outputs: []sinks.Output{sinktest.Stream}})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Apply(t.Context(), epochs); err == nil {
			break
		} else if !errors.Is(err, errStuck) {
			t.Fatal(err)
		}
		if err := w.Apply(t.Context(), epochs); err != nil {
			t.Fatal(err)
		}
		size = out.Len()
		seen := map[string]bool{}
		for line := range bytes.Lines(out.Bytes()) {
			var l struct{ ID string }
			if json.Unmarshal(line, &l) == nil {
				seen[l.ID] = true
			}
		}
		for _, id := range want {
			if !seen[id] {
				t.Fatalf("write torn at %d: no whole line with %s in\n%s", n, id, out)
			}
		}
	}
}
