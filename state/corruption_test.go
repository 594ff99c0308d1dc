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
// database. What is read then is right, or the error is ErrCorrupt.
func TestFlippedByteIsNeverAWrongAnswer(t *testing.T) {
	outcomes := map[string]int{}
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
		outcome, err := readAll(t, l, fmt.Sprintf("seed %d, %s", seed, name), o)
		if err != nil && !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("seed %d, %s: %v", seed, name, err)
		}
		outcomes[outcome]++
	}
	t.Logf("outcomes %v", outcomes)
	if outcomes["right"] == 0 || outcomes["corrupt"] == 0 {
		t.Error("the test does not reach both outcomes")
	}
}

func readAll(t *testing.T, l *ledger, what string, o state.Options) (string, error) {
	o.Logger = quiet
	db, err := state.OpenPebble("db", o)
	if err != nil {
		return "corrupt", err
	}
	defer db.Close()
	it, err := db.NewIter(nil, nil)
	if err != nil {
		return "corrupt", err
	}
	for ok := it.First(); ok; ok = it.Next() {
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return "corrupt", err
	}
	if _, _, err := db.Get(nil, []byte(checkpointKey)); err != nil {
		return "corrupt", err
	}
	l.check(t, what, db, l.begun.Load(), l.begun.Load())
	return "right", nil
}
