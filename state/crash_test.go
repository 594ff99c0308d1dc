package state_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/state/statetest"
)

// crashSeeds is the number of runs of the crash tests; STATE_CRASH_SEEDS sets
// another.
func crashSeeds(t *testing.T, seeds int) int {
	if s := os.Getenv("STATE_CRASH_SEEDS"); s != "" {
		n, err := strconv.Atoi(s)
		must(t, err)
		return n
	}
	return seeds
}

// ledger makes numbered commits of random writes. Each also writes its number under
// the checkpoint key, so what a database holds after a crash tells which commit it
// stands at, and what it should hold.
type ledger struct {
	rng     *rand.Rand
	history []map[string]string // content after each commit, by number
	synced  atomic.Int64        // the last commit that was reported durable
	begun   atomic.Int64
}

const checkpointKey = "\x00\x00\x00\x00checkpoint"

func newLedger(seed uint64) *ledger {
	return &ledger{rng: rand.New(rand.NewPCG(seed, 7)), history: []map[string]string{{}}}
}

// commit makes the next commit, of up to n rows. The error is that of the database.
func (l *ledger) commit(db state.DB, n int, sync bool) error {
	i := len(l.history)
	content := maps.Clone(l.history[i-1])
	writes := map[string]*string{}
	number := strconv.Itoa(i)
	for range l.rng.IntN(n) + 1 {
		key := fmt.Sprintf("\x00\x00\x00%c%03d", 16+l.rng.IntN(3), l.rng.IntN(200))
		if l.rng.IntN(4) == 0 {
			writes[key] = nil
			delete(content, key)
		} else {
			value := number + string(make([]byte, l.rng.IntN(100)))
			writes[key] = &value
			content[key] = value
		}
	}
	writes[checkpointKey], content[checkpointKey] = &number, number
	l.history = append(l.history, content)
	l.begun.Store(int64(i))
	b := db.NewBatch()
	for _, key := range slices.Sorted(maps.Keys(writes)) {
		var err error
		if v := writes[key]; v == nil {
			err = b.Delete([]byte(key))
		} else {
			err = b.Set([]byte(key), []byte(*v))
		}
		if err != nil {
			return errors.Join(err, b.Close())
		}
	}
	if err := db.Commit(b, sync); err != nil {
		return errors.Join(err, b.Close())
	}
	if sync {
		l.synced.Store(int64(i))
	}
	return b.Close()
}

// check holds the content of a database against the commit that it stands at, which
// has to lie between two numbers.
func (l *ledger) check(t *testing.T, what string, r state.Reader, from, to int64) {
	t.Helper()
	at := int64(0)
	v, ok, err := r.Get(nil, []byte(checkpointKey))
	must(t, err)
	if ok {
		at, err = strconv.ParseInt(string(v), 10, 64)
		must(t, err)
	}
	if at < from || at > to {
		t.Fatalf("%s: stands at commit %d, which is not in %d..%d", what, at, from, to)
	}
	want := l.history[at]
	got := statetest.Dump(t, r)
	if len(got) != len(want) {
		t.Fatalf("%s: %d rows at commit %d, want %d", what, len(got), at, len(want))
	}
	for _, pair := range got {
		key, value, _ := strings.Cut(pair, "=")
		if want[key] != value {
			t.Fatalf("%s: %q at commit %d, want %q", what, pair, at, want[key])
		}
	}
}

// linkFS keeps MemFS.Link and CrashClone apart: together they lock each other out.
type linkFS struct {
	*vfs.MemFS
	mu *sync.Mutex
}

func (f linkFS) Link(oldname, newname string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.MemFS.Link(oldname, newname)
}

// clone is what a crash leaves at one moment, and which commits it may stand at.
type clone struct {
	fs       *vfs.MemFS
	from, to int64
}

// TestCrashKeepsWholeCommits crashes at random file operations, in the middle of
// commits, flushes, compactions and ingestions, with 0 to 100 % of the unsynced
// data kept, and wants the state of one commit, none before the last synced one.
func TestCrashKeepsWholeCommits(t *testing.T) {
	ingested, crashes := 0, 0
	for seed := range crashSeeds(t, 40) {
		mem := vfs.NewCrashableMem()
		l := newLedger(uint64(seed))
		var mu sync.Mutex
		var clones []clone
		var ops, next atomic.Int64
		next.Store(-1)
		pick := rand.New(rand.NewPCG(uint64(seed), 99))
		hook := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && ops.Add(1) == next.Load() {
				mu.Lock()
				defer mu.Unlock()
				from := l.synced.Load()
				c := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: pick.IntN(5) * 25, RNG: pick})
				clones = append(clones, clone{c, from, l.begun.Load()})
				next.Store(ops.Load() + 1 + pick.Int64N(60))
			}
			return nil
		})
		o := state.Options{FS: errorfs.Wrap(linkFS{mem, &mu}, hook), MemTableBytes: 32 << 10, BatchBytes: 4 << 10}
		db := openPebble(t, "db", o)
		next.Store(ops.Load() + 1)
		for range 40 {
			rows := 10
			if l.rng.IntN(4) == 0 {
				rows, ingested = 300, ingested+1
			}
			must(t, l.commit(db, rows, l.rng.IntN(3) == 0))
		}
		next.Store(-1)
		must(t, db.Close())
		crashes += len(clones)
		for i, c := range clones {
			db := openPebble(t, "db", state.Options{FS: c.fs, MemTableBytes: 32 << 10, BatchBytes: 4 << 10})
			l.check(t, fmt.Sprintf("seed %d, crash %d", seed, i), db, c.from, c.to)
			must(t, db.Close())
		}
	}
	t.Logf("%d crashes, %d commits by ingestion", crashes, ingested)
	if ingested == 0 || crashes == 0 {
		t.Error("nothing was ingested, or nothing crashed")
	}
}

// TestIOErrorStopsCleanly lets one file operation of a run fail, each in turn: the
// commit reports it, and what is on disk is the state of one commit.
func TestIOErrorStopsCleanly(t *testing.T) {
	failures := 0
	for seed := range crashSeeds(t, 50) {
		mem := vfs.NewCrashableMem()
		l := newLedger(uint64(seed))
		var ops, failAt atomic.Int64
		failAt.Store(-1)
		hook := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && ops.Add(1) == failAt.Load() {
				return &os.PathError{Op: "write", Path: op.Path, Err: syscall.EIO}
			}
			return nil
		})
		o := state.Options{FS: errorfs.Wrap(mem, hook), MemTableBytes: 32 << 10, BatchBytes: 4 << 10}
		db := openPebble(t, "db", o)
		failAt.Store(ops.Load() + 1 + int64(seed))
		var err error
		for i := 0; err == nil && i < 40; i++ {
			err = l.commit(db, []int{10, 300}[i%2], i%3 == 0)
		}
		if err != nil {
			failures++
		}
		to := l.begun.Load()
		from := l.synced.Load()
		c := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
		again := openPebble(t, "db", state.Options{FS: c})
		l.check(t, fmt.Sprintf("failure at operation %d (%v)", seed, err), again, from, to)
		must(t, again.Close())
		if err == nil {
			_ = db.Close() // the failure may lie in background work
		}
	}
	t.Logf("%d failures were reported", failures)
	if failures == 0 {
		t.Error("no failure was reported")
	}
}

// TestDiskFullIsReportedFast fills the disk below the database: commits fail with
// ErrDiskFull instead of waiting, nothing committed is lost, and after space is there again
// a new start goes on.
func TestDiskFullIsReportedFast(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var full atomic.Bool
	hook := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && (op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileWriteAt ||
			op.Kind == errorfs.OpFilePreallocate || op.Kind == errorfs.OpCreate) {
			return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
		}
		return nil
	})
	l := newLedger(1)
	db := openPebble(t, "db", state.Options{FS: errorfs.Wrap(mem, hook), MemTableBytes: 32 << 10})
	for range 10 {
		must(t, l.commit(db, 10, true))
	}
	full.Store(true)
	start := time.Now()
	var err error
	for err == nil && time.Since(start) < time.Minute {
		err = l.commit(db, 300, false)
	}
	if !errors.Is(err, state.ErrDiskFull) {
		t.Fatalf("after %v: %v", time.Since(start), err)
	}
	if err := l.commit(db, 10, true); !errors.Is(err, state.ErrDiskFull) {
		t.Fatalf("a commit after the failure: %v", err)
	}
	if err := db.Close(); !errors.Is(err, state.ErrDiskFull) {
		t.Fatalf("Close: %v", err)
	}
	c := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	again := openPebble(t, "db", state.Options{FS: c})
	defer again.Close()
	l.check(t, "after a full disk", again, l.synced.Load(), l.begun.Load())
}

// TestDirSurvivesCrash loses all that was not synced once a state directory is open: what was
// committed is there, though the directory had not been, or had been made by a start that came
// no further.
func TestDirSurvivesCrash(t *testing.T) {
	for _, made := range []string{"state/db", "state", ""} {
		mem := vfs.NewCrashableMem()
		parent := t.TempDir()
		must(t, mem.MkdirAll(parent, 0o700))
		for above := filepath.Dir(parent); ; above = filepath.Dir(above) {
			dir, err := mem.OpenDir(above)
			must(t, err)
			must(t, errors.Join(dir.Sync(), dir.Close()))
			if above == filepath.Dir(above) {
				break
			}
		}
		must(t, mem.MkdirAll(filepath.Join(parent, made), 0o700))
		path := filepath.Join(parent, "state")
		if made == "" {
			path = filepath.Join(parent, "not/there/state")
		}
		d, err := state.OpenDir(path, state.Identity{App: "app"}, state.Options{FS: mem})
		must(t, err)
		must(t, d.BindSystem("shop", "one"))
		left := mem.CrashClone(vfs.CrashCloneCfg{})
		must(t, d.Close())
		d, err = state.OpenDir(path, state.Identity{App: "app"}, state.Options{FS: left})
		must(t, err)
		if d.System("shop") != "one" {
			t.Errorf("made before: %q: the directory was lost, though its manifest had been written", made)
		}
		must(t, d.Close())
	}
}

// roomFS has as much free space as it is told.
type roomFS struct {
	vfs.FS
	free *atomic.Uint64
}

func (f roomFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: f.free.Load(), TotalBytes: 1 << 40}, nil
}

// TestLowSpaceStopsBeforeTheDiskIsFull goes below the watermark and back: the
// database refuses commits and goes on afterwards, without a restart.
func TestLowSpaceStopsBeforeTheDiskIsFull(t *testing.T) {
	var free atomic.Uint64
	free.Store(1 << 40)
	o := state.Options{FS: roomFS{vfs.NewMem(), &free}, MinFreeBytes: 1 << 20, BatchBytes: 1 << 10}
	db := openPebble(t, "db", o)
	defer db.Close()
	set := func(n int) error {
		b := db.NewBatch()
		defer b.Close()
		for i := range n {
			if err := b.Set(binary.BigEndian.AppendUint32(nil, uint32(i)), make([]byte, 100)); err != nil {
				return err
			}
		}
		return db.Commit(b, true)
	}
	for _, rows := range []int{5, 5000} {
		must(t, set(rows))
		free.Store(1 << 20)
		var err error
		// The space is looked up by bytes written and by time.
		for start := time.Now(); err == nil && time.Since(start) < time.Minute; {
			err = set(rows)
		}
		if !errors.Is(err, state.ErrDiskFull) {
			t.Fatalf("%d rows: %v", rows, err)
		}
		free.Store(1 << 40)
		must(t, set(rows))
	}
}
