package file

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// TestMissingDirectory names the remedy where there is no directory to write to, which
// trying again does not make.
func TestMissingDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, parent := range []string{"nowhere", "file"} {
		path := filepath.Join(dir, parent, "events.jsonl")
		_, err := Target(Config{Path: path}).Open(t.Context(), sinks.OpenRequest{
			App: "a", Target: "events", Incarnation: "i", Outputs: []sinks.Output{sinktest.Stream},
		})
		if !errors.Is(err, sinks.ErrConfig) || !strings.Contains(err.Error(), `target "events"`) ||
			!strings.Contains(err.Error(), "make it, or name another path") {
			t.Errorf("%s: %v", parent, err)
		}
		if err := Target(Config{Path: path}).(sinks.Checker).Check(t.Context(), sinks.OpenRequest{
			App: "a", Target: "events", Incarnation: "i", Outputs: []sinks.Output{sinktest.Stream},
		}); !errors.Is(err, sinks.ErrConfig) {
			t.Errorf("%s: the check says %v", parent, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "nowhere")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the directory: %v", err)
		}
	}
}
