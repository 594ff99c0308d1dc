package state_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tailrace/tailrace/state"
)

// flipByte changes one byte of a file.
func flipByte(t *testing.T, fs *vfs.MemFS, path string, rng *rand.Rand) {
	f, err := fs.Open(path)
	must(t, err)
	data, err := io.ReadAll(f)
	must(t, err)
	must(t, f.Close())
	data[rng.IntN(len(data))] ^= byte(1 + rng.IntN(255))
	f, err = fs.Create(path, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write(data)
	must(t, err)
	must(t, f.Close())
}

// TestFlippedByteIsNeverAWrongAnswer flips one byte of one file of a closed
// database. What is read then is right, or the error is ErrCorrupt: row by row, of
// which most do not lie where the byte does, and then all of them.
func TestFlippedByteIsNeverAWrongAnswer(t *testing.T) {
	var rows, wholes outcomes
	for seed := range crashSeeds(t, 60) {
		mem := vfs.NewMem()
		l := newLedger(uint64(seed))
		o := state.Options{FS: mem, MemTableBytes: 32 << 10, BatchBytes: 8 << 10}
		db := openPebble(t, "db", o)
		for i := range 20 {
			must(t, l.commit(db, []int{10, 200}[i%2], i%5 == 0))
		}
		must(t, db.Close())
		files, err := mem.List("db")
		must(t, err)
		rng := rand.New(rand.NewPCG(uint64(seed), 5))
		name := ""
		for name == "" {
			name = files[rng.IntN(len(files))]
			if info, err := mem.Stat("db/" + name); err != nil || info.IsDir() || info.Size() == 0 {
				name = ""
			}
		}
		flipByte(t, mem, "db/"+name, rng)
		what := fmt.Sprintf("seed %d, %s", seed, name)
		o.Logger = quiet
		db, err = state.OpenPebble("db", o)
		if err != nil {
			wholes.count(t, what, err)
			continue
		}
		readRows(t, what, db, l.history[l.begun.Load()], &rows)
		wholes.count(t, what, readAll(t, what, db, l))
		_ = db.Close() // it may find the damage too
	}
	t.Logf("rows %+v, wholes %+v", rows, wholes)
	if rows.right == 0 || rows.corrupt == 0 || wholes.corrupt == 0 {
		t.Error("the test does not reach both outcomes")
	}
}

// outcomes counts what reading comes to.
type outcomes struct{ right, corrupt int }

func (o *outcomes) count(t *testing.T, what string, err error) {
	t.Helper()
	switch {
	case err == nil:
		o.right++
	case errors.Is(err, state.ErrCorrupt):
		o.corrupt++
	default:
		t.Errorf("%s: %v", what, err)
	}
}

// readRows reads some rows that are there or might be, each by itself.
func readRows(t *testing.T, what string, db state.DB, want map[string]string, o *outcomes) {
	t.Helper()
	keys := []string{checkpointKey}
	for store := range 3 {
		for row := store; row < 200; row += 30 {
			keys = append(keys, fmt.Sprintf("\x00\x00\x00%c%03d", 16+store, row))
		}
	}
	for _, key := range keys {
		got, ok, err := db.Get(nil, []byte(key))
		if value, has := want[key]; err == nil && (ok != has || string(got) != value) {
			t.Fatalf("%s: %q is %q, %v; want %q, %v", what, key, got, ok, value, has)
		}
		o.count(t, what, err)
	}
}

// readAll reads all rows. Where there is no error they are right.
func readAll(t *testing.T, what string, db state.DB, l *ledger) error {
	t.Helper()
	it, err := db.NewIter(nil, nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return err
	}
	if _, _, err := db.Get(nil, []byte(checkpointKey)); err != nil {
		return err
	}
	l.check(t, what, db, l.begun.Load(), l.begun.Load())
	return nil
}
