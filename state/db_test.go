package state_test

import (
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/state/statetest"
)

// quiet keeps Pebble's log out of the test output.
var quiet = slog.New(slog.DiscardHandler)

func openPebble(t testing.TB, dir string, o state.Options) state.DB {
	t.Helper()
	o.Logger = quiet
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 4 << 20
	}
	db, err := state.OpenPebble(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestMemoryConforms(t *testing.T) {
	statetest.Exercise(t, func(*testing.T) state.DB { return state.NewMemory() })
}

func TestPebbleConforms(t *testing.T) {
	statetest.Exercise(t, func(t *testing.T) state.DB { return openPebble(t, t.TempDir(), state.Options{}) })
}

// Every batch of more than a few keys takes the way over ingested tables.
func TestPebbleConformsWithIngest(t *testing.T) {
	statetest.Exercise(t, func(t *testing.T) state.DB {
		return openPebble(t, "db", state.Options{FS: vfs.NewMem(), BatchBytes: 16})
	})
}
