package state_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/state/statetest"
)

func openDir(t testing.TB, path string, id state.Identity) (*state.Dir, error) {
	t.Helper()
	return state.OpenDir(path, id, state.Options{Logger: quiet, MemTableBytes: 1 << 20})
}

func mustOpenDir(t testing.TB, path string, id state.Identity) *state.Dir {
	t.Helper()
	d, err := openDir(t, path, id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func must(t interface {
	Helper()
	Fatal(...any)
}, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDirIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	d := mustOpenDir(t, path, state.Identity{App: "app"})
	_, err := d.StoreID("a", "b")
	must(t, err)
	s, err := d.Scratch()
	must(t, err)
	must(t, s.Set([]byte("k"), []byte("v")))
	must(t, filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		must(t, err)
		info, err := e.Info()
		must(t, err)
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", p, info.Mode().Perm(), want)
		}
		return nil
	}))
	must(t, s.Close())
	must(t, d.Close())

	must(t, os.Chmod(path, 0o755))
	must(t, mustOpenDir(t, path, state.Identity{App: "app"}).Close())
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o700 {
		t.Errorf("a directory with wider rights stays at %v", info.Mode().Perm())
	}
}

func TestDirKeepsWhatItWasTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d := mustOpenDir(t, path, state.Identity{App: "app", Systems: map[string]string{"shop": "1"}})
	incarnation := d.Incarnation()
	if len(incarnation) != 32 {
		t.Errorf("incarnation %q", incarnation)
	}
	ids := map[string]uint32{}
	for _, store := range []string{"orders", "customers", "orders"} {
		id, err := d.StoreID("revenue", store)
		must(t, err)
		if old, ok := ids[store]; ok && old != id {
			t.Errorf("%s has ids %d and %d", store, old, id)
		}
		ids[store] = id
	}
	other, err := d.StoreID("other", "orders")
	must(t, err)
	queue, err := d.QueueID("warehouse")
	must(t, err)
	if ids["orders"] < state.FirstStoreID || other == ids["orders"] || queue < state.FirstQueueID {
		t.Errorf("ids %v, %d, %d", ids, other, queue)
	}
	must(t, d.Close())

	d = mustOpenDir(t, path, state.Identity{App: "app"})
	defer d.Close()
	if d.Incarnation() != incarnation {
		t.Error("incarnation changed")
	}
	for store, id := range ids {
		if again, err := d.StoreID("revenue", store); err != nil || again != id {
			t.Errorf("%s: %d, %v; was %d", store, again, err, id)
		}
	}
	if err := d.BindSystem("shop", "2"); !errors.Is(err, state.ErrMismatch) {
		t.Errorf("another system: %v", err)
	}
	must(t, d.BindSystem("shop", "1"))
}

func TestDirDropsStores(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	d := mustOpenDir(t, path, state.Identity{App: "app"})
	pairs := map[string][]byte{}
	key := func(topology, store string) string {
		id, err := d.StoreID(topology, store)
		must(t, err)
		return string([]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}) + "row"
	}
	kept := key("revenue", "sum")
	old := key("revenue", "join/left")
	pairs[kept], pairs[old], pairs[key("revenue", "join/right")] = []byte("1"), []byte("1"), []byte("1")
	elsewhere := key("revenue2", "join/left")
	pairs[elsewhere] = []byte("1")
	statetest.Commit(t, d.DB, pairs)
	must(t, d.DropStores("revenue", "join/"))
	for k, want := range map[string]bool{kept: true, elsewhere: true, old: false} {
		if _, ok, err := d.DB.Get(nil, []byte(k)); err != nil || ok != want {
			t.Errorf("%x is there: %v, %v", k, ok, err)
		}
	}
	must(t, d.ClearStores("revenue"))
	for k, want := range map[string]bool{kept: false, elsewhere: true} {
		if _, ok, err := d.DB.Get(nil, []byte(k)); err != nil || ok != want {
			t.Errorf("%x is there after clearing: %v, %v", k, ok, err)
		}
	}
	if again := key("revenue", "sum"); again != kept {
		t.Error("a cleared store got another id")
	}
	if again := key("revenue", "join/left"); again == old {
		t.Error("the id of a dropped store was given away again")
	}
	stores, err := d.Stores("revenue")
	must(t, err)
	if len(stores) != 2 {
		t.Errorf("stores %v", stores)
	}
	must(t, d.Close())
}

// withFormat makes a directory whose manifest says another format.
func withFormat(t *testing.T, dir string, id state.Identity, format int) string {
	d := mustOpenDir(t, dir, id)
	key := []byte("\x00\x00\x00\x01manifest")
	m, _, err := d.DB.Get(nil, key)
	must(t, err)
	other := strings.Replace(string(m), `"format":3`, fmt.Sprintf(`"format":%d`, format), 1)
	if other == string(m) {
		t.Fatalf("the manifest is %s", m)
	}
	statetest.Commit(t, d.DB, map[string][]byte{string(key): []byte(other)})
	must(t, d.Close())
	return dir
}

func TestDirRefuses(t *testing.T) {
	id := state.Identity{App: "app", Systems: map[string]string{"shop": "7001"}}
	tests := []struct {
		name string
		// make prepares the directory and returns the path to open and the identity.
		make func(t *testing.T, dir string) (string, state.Identity)
		want error
		says string
	}{
		{"another app", func(t *testing.T, dir string) (string, state.Identity) {
			must(t, mustOpenDir(t, dir, id).Close())
			return dir, state.Identity{App: "other"}
		}, state.ErrMismatch, `app "app"`},
		{"another system", func(t *testing.T, dir string) (string, state.Identity) {
			must(t, mustOpenDir(t, dir, id).Close())
			return dir, state.Identity{App: "app", Systems: map[string]string{"shop": "7002"}}
		}, state.ErrMismatch, "7001"},
		{"symbolic link", func(t *testing.T, dir string) (string, state.Identity) {
			must(t, mustOpenDir(t, dir, id).Close())
			must(t, os.Symlink(dir, dir+"-link"))
			return dir + "-link", id
		}, state.ErrMismatch, "symbolic link"},
		{"symbolic link and slash", func(t *testing.T, dir string) (string, state.Identity) {
			must(t, mustOpenDir(t, dir, id).Close())
			must(t, os.Symlink(dir, dir+"-link"))
			return dir + "-link/", id
		}, state.ErrMismatch, "symbolic link"},
		{"file", func(t *testing.T, dir string) (string, state.Identity) {
			must(t, os.WriteFile(dir, nil, 0o600))
			return dir, id
		}, state.ErrMismatch, "not a directory"},
		{"foreign files", func(t *testing.T, dir string) (string, state.Identity) {
			must(t, os.MkdirAll(dir, 0o700))
			must(t, os.WriteFile(filepath.Join(dir, "thesis.doc"), nil, 0o600))
			return dir, id
		}, state.ErrMismatch, "thesis.doc"},
		{"foreign database", func(t *testing.T, dir string) (string, state.Identity) {
			db := openPebble(t, filepath.Join(dir, "db"), state.Options{})
			statetest.Commit(t, db, map[string][]byte{"k": []byte("v")})
			must(t, db.Close())
			return dir, id
		}, state.ErrMismatch, "did not make"},
		{"newer format", func(t *testing.T, dir string) (string, state.Identity) {
			return withFormat(t, dir, id, 4), id
		}, state.ErrMismatch, "use the release that wrote it"},
		{"older format", func(t *testing.T, dir string) (string, state.Identity) {
			return withFormat(t, dir, id, 2), id
		}, state.ErrMismatch, "remove the directory"},
		{"open already", func(t *testing.T, dir string) (string, state.Identity) {
			d := mustOpenDir(t, dir, id)
			t.Cleanup(func() { must(t, d.Close()) })
			return dir, id
		}, state.ErrLocked, "this process has it open itself"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path, id := test.make(t, filepath.Join(t.TempDir(), "state"))
			d, err := openDir(t, path, id)
			if err == nil {
				d.Close()
			}
			if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Fatalf("got %v, want %v with %q", err, test.want, test.says)
			}
		})
	}
	if _, err := openDir(t, t.TempDir(), state.Identity{}); err == nil {
		t.Error("an app without a name was accepted")
	}
}

// Another process is refused while this one has the directory open. The test runs
// itself again as that process.
func TestDirLockedAgainstOtherProcess(t *testing.T) {
	if path := os.Getenv("STATE_TEST_OPEN"); path != "" {
		_, err := openDir(t, path, state.Identity{App: "app"})
		if !errors.Is(err, state.ErrLocked) {
			t.Fatalf("got %v", err)
		}
		holder := "fuser " + filepath.Join(path, "LOCK")
		if locks, _ := os.ReadFile("/proc/locks"); strings.Contains(string(locks), strconv.Itoa(os.Getppid())) {
			holder = fmt.Sprintf("process %d", os.Getppid())
		}
		if !strings.Contains(err.Error(), holder) || !strings.Contains(err.Error(), "directory of its own") {
			t.Errorf("it does not say %s: %v", holder, err)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "state")
	d := mustOpenDir(t, path, state.Identity{App: "app"})
	defer d.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestDirLockedAgainstOtherProcess$")
	cmd.Env = append(os.Environ(), "STATE_TEST_OPEN="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// Stores that are to replace others are apart from them until they do, and forgotten
// where they do not.
func TestReplaceStores(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	open := func() *state.Dir {
		d, err := state.OpenDir(path, state.Identity{App: "revenue"}, state.Options{})
		must(t, err)
		return d
	}
	id := func(of func(topology, store string) (uint32, error), topology, store string) uint32 {
		n, err := of(topology, store)
		must(t, err)
		return n
	}
	d := open()
	old, gone := id(d.StoreID, "a", "rows"), id(d.StoreID, "a", "gone")
	other := id(d.StoreID, "b", "rows")
	for _, store := range []uint32{old, gone, other} {
		b := d.DB.NewBatch()
		must(t, b.Set(binary.BigEndian.AppendUint32(nil, store), []byte("v")))
		must(t, d.DB.Commit(b, true))
	}
	forgotten := id(d.NextStoreID, "a", "rows")
	must(t, d.Close())
	d = open()
	next, added := id(d.NextStoreID, "a", "rows"), id(d.NextStoreID, "a", "added")
	if next == forgotten || next == old || id(d.NextStoreID, "a", "rows") != next ||
		id(d.StoreID, "a", "rows") != old {
		t.Fatalf("ids %d, then %d, %d and %d", old, forgotten, next, added)
	}
	must(t, d.ReplaceStores("a"))
	for range 2 {
		got, err := d.Stores("a")
		must(t, err)
		if want := map[string]uint32{"rows": next, "added": added}; !maps.Equal(got, want) {
			t.Errorf("stores %v, want %v", got, want)
		}
		for store, want := range map[uint32]bool{old: false, gone: false, other: true} {
			if _, ok, err := d.DB.Get(nil, binary.BigEndian.AppendUint32(nil, store)); ok != want || err != nil {
				t.Errorf("store %d has its value: %v, %v", store, ok, err)
			}
		}
		must(t, d.Close())
		d = open()
	}
	must(t, d.Close())
}
