package file

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
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

// A check says which file it is about, so that two targets that would both write it are found.
func TestCheckClaims(t *testing.T) {
	t.Chdir(t.TempDir())
	var claimed []string
	err := Target(Config{Path: "events"}).(sinks.Checker).Check(t.Context(), sinks.OpenRequest{
		App: "a", Target: "t", Outputs: []sinks.Output{sinktest.Stream},
		Claim: func(resource string) error {
			claimed = append(claimed, resource)
			return sinks.ErrTableTaken
		},
	})
	at, absErr := filepath.Abs("events")
	if !errors.Is(err, sinks.ErrTableTaken) || absErr != nil || !slices.Equal(claimed, []string{"file " + at}) {
		t.Errorf("got %v, and it has claimed %v", err, claimed)
	}
}
