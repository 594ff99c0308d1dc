package state_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/tailrace/tailrace/state"
)

// filesOf returns the contents of a directory's files, hashed, by path.
func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(p)
		files[p] = fmt.Sprintf("%x", sha256.Sum256(content))
		return err
	}))
	return files
}

// TestReadDirChangesNothing looks at directories that are not there, in use, and at rest.
func TestReadDirChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if _, err := state.ReadDir(path, state.Options{Logger: quiet}); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a directory that is not there: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("looking made the directory")
	}
	d := mustOpenDir(t, path, state.Identity{App: "app"})
	id, err := d.StoreID("topology", "store")
	must(t, err)
	empty, err := d.StoreID("topology", "empty")
	must(t, err)
	queue, err := d.QueueID("target")
	must(t, err)
	b := d.DB.NewBatch()
	const rows, value = 100, 50
	for i := range rows {
		must(t, b.Set(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, id), uint32(i)),
			make([]byte, value)))
	}
	must(t, d.DB.Commit(b, true))
	if _, err := state.ReadDir(path, state.Options{Logger: quiet}); !errors.Is(err, state.ErrLocked) {
		t.Fatalf("a directory that is in use: %v", err)
	}
	must(t, d.Close())

	before := filesOf(t, path)
	r, err := state.ReadDir(path, state.Options{Logger: quiet})
	must(t, err)
	if r.App() != "app" {
		t.Errorf("the app is %q", r.App())
	}
	stores, err := r.Stores("topology")
	must(t, err)
	queues, err := r.Queues()
	must(t, err)
	if want := map[string]uint32{"store": id, "empty": empty}; !reflect.DeepEqual(stores, want) {
		t.Errorf("stores %v, want %v", stores, want)
	}
	if want := map[string]uint32{"target": queue}; !reflect.DeepEqual(queues, want) {
		t.Errorf("queues %v, want %v", queues, want)
	}
	for store, want := range map[uint32]int64{id: rows * (8 + value), empty: 0, queue: 0} {
		if got, err := r.StoreBytes(store); err != nil || got != want {
			t.Errorf("store %d has %d bytes, %v, want %d", store, got, err, want)
		}
	}
	if _, err := r.StoreID("another", "store"); err == nil {
		t.Error("a directory opened for reading was written to")
	}
	must(t, r.Close())
	if after := filesOf(t, path); !reflect.DeepEqual(after, before) {
		t.Errorf("looking changed the files from %v to %v", before, after)
	}
	mustOpenDir(t, path, state.Identity{App: "app"})
}

// TestSampleStore compares the estimate of a store's size with what it holds.
func TestSampleStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	d := mustOpenDir(t, path, state.Identity{App: "app"})
	small, err := d.StoreID("topology", "small")
	must(t, err)
	large, err := d.StoreID("topology", "large")
	must(t, err)
	r := rand.NewChaCha8([32]byte{1})
	fill := func(id uint32, rows int) {
		b := d.DB.NewBatch()
		value := make([]byte, 92) // of random bytes, so that they are not compressed
		for i := range rows {
			_, _ = r.Read(value)
			must(t, b.Set(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, id), uint32(i)), value))
		}
		must(t, d.DB.Commit(b, true))
	}
	fill(small, 1000)
	fill(large, 50_000)
	must(t, d.Close())
	d = mustOpenDir(t, path, state.Identity{App: "app"}) // What the log holds is in tables now.
	if s, err := d.SampleStore(small); err != nil || s != (state.Size{Bytes: 100_000, Entries: 1000}) {
		t.Errorf("the small store: %+v, %v", s, err)
	}
	s, err := d.SampleStore(large)
	must(t, err)
	if s.Bytes < 4_000_000 || s.Bytes > 6_000_000 || s.Entries < 40_000 || s.Entries > 60_000 {
		t.Errorf("50000 entries of 100 bytes are estimated as %+v", s)
	}
}
