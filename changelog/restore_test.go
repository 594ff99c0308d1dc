package changelog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/changelog/changelogtest"
	"github.com/tailrace/tailrace/state"
)

var errCrash = errors.New("crash")

// world is a task with two stores on a database that can crash, and a cluster.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	cluster *changelogtest.Cluster
	task    changelog.Task
	fs      *vfs.MemFS
	db      state.DB
	now     time.Time
	tick    time.Duration // by which the clock moves with each look at it
	wiped   []changelog.Reason
	// commits is how many batches are left before the crash; below 0 there is none.
	commits int
	told    []changelog.Progress
}

// crashingDB stops committing when the world says so.
type crashingDB struct {
	state.DB
	w *world
}

func (d crashingDB) Commit(b state.Batch, sync bool) error {
	if d.w.commits == 0 {
		return errCrash
	}
	d.w.commits--
	return d.DB.Commit(b, sync)
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), cluster: changelogtest.New("cluster-1"),
		fs: vfs.NewCrashableMem(), now: time.UnixMilli(1_700_000_000_000).UTC(), commits: -1,
	}
	w.cluster.ChunkSize = 1 + w.rng.IntN(9)
	w.task = changelog.Task{
		Name:     "sums_1",
		Identity: changelog.Identity{Cluster: "cluster-1", App: "shop", Topology: "17"},
		Key:      []byte("\x00\x00\x00\x00checkpoint/sums_1"),
	}
	for i, name := range []string{"sums", "rows"} {
		topic := changelog.Topic("shop", name)
		w.cluster.Create(topic, 2)
		w.task.Stores = append(w.task.Stores, changelog.Store{
			Partition: changelog.Partition{Topic: topic, Number: 1}, ID: uint32(20 - i),
		})
	}
	w.open()
	t.Cleanup(w.close)
	return w
}

func (w *world) open() {
	db, err := state.OpenPebble("db", state.Options{FS: w.fs, MinFreeBytes: -1, BatchBytes: 500})
	if err != nil {
		w.t.Fatal(err)
	}
	w.db = crashingDB{db, w}
}

func (w *world) close() {
	if w.db == nil {
		return
	}
	if err := w.db.Close(); err != nil {
		w.t.Error(err)
	}
	w.db = nil
}

// crash loses what was not synced, or a part of it.
func (w *world) crash() {
	old := w.db
	w.fs = w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.rng.IntN(101), RNG: w.rng})
	_ = old.Close()
	w.commits = -1
	w.open()
}

func (w *world) clock() time.Time {
	w.now = w.now.Add(w.tick)
	return w.now
}

func (w *world) restorer() *changelog.Restorer {
	r, err := changelog.NewRestorer(changelog.RestoreConfig{
		DB: w.db, Log: w.cluster.Log(), Now: w.clock,
		Wiped:         func(_ string, reason changelog.Reason) { w.wiped = append(w.wiped, reason) },
		ProgressEvery: time.Nanosecond, Progress: func(p changelog.Progress) { w.told = append(w.told, p) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) restore() (changelog.Checkpoint, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	return w.restorer().Restore(ctx, w.task)
}

func (w *world) mustRestore() changelog.Checkpoint {
	w.t.Helper()
	c, err := w.restore()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, at := range c.Positions {
		if end := w.cluster.End(at.Partition); at.Next != end {
			w.t.Fatalf("%v: restored to %d, and the log ends at %d", at.Partition, at.Next, end)
		}
	}
	w.check()
	return c
}

// content is what a store holds.
func (w *world) content(s changelog.Store) map[string]string {
	w.t.Helper()
	it, err := w.db.NewIter([]byte{0, 0, 0, byte(s.ID)}, []byte{0, 0, 0, byte(s.ID) + 1})
	if err != nil {
		w.t.Fatal(err)
	}
	defer it.Close()
	got := map[string]string{}
	for ok := it.First(); ok; ok = it.Next() {
		got[string(it.Key()[4:])] = string(it.Value())
	}
	if err := it.Error(); err != nil {
		w.t.Fatal(err)
	}
	return got
}

// check holds the state against K1: it is the fold of the changelogs up to the checkpoint,
// but for keys that change behind it: compaction may have removed what they were.
// Without a checkpoint whatever is there will be removed.
func (w *world) check() {
	w.t.Helper()
	c, ok, err := changelog.LoadCheckpoint(w.db, w.task.Key)
	if err != nil {
		w.t.Fatal(err)
	}
	if !ok {
		return
	}
	for _, s := range w.task.Stores {
		at, _ := c.At(s.Partition)
		want, got := w.cluster.Fold(s.Partition, at.Next), w.content(s)
		for key := range w.cluster.Changed(s.Partition, at.Next) {
			delete(want, key)
			delete(got, key)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			w.t.Fatalf("%v at %d: state is not the fold of the changelog (-want +got):\n%s",
				s.Partition, at.Next, diff)
		}
	}
}

// write writes transactions of all kinds; one that stays open is returned.
func (w *world) write(n int, mayStayOpen bool) (open *changelogtest.Tx) {
	for range n {
		tx := w.cluster.Begin()
		for range 1 + w.rng.IntN(6) {
			p := w.task.Stores[w.rng.IntN(2)].Partition
			key := fmt.Appendf(nil, "%0*d", 1+w.rng.IntN(12), w.rng.IntN(12))
			var value []byte
			if w.rng.IntN(4) > 0 {
				value = make([]byte, w.rng.IntN(60))
				for i := range value {
					value[i] = byte(w.rng.IntN(256))
				}
			}
			if w.rng.IntN(20) == 0 {
				w.cluster.Append(p, key, value)
			} else {
				tx.Append(p, key, value)
			}
		}
		switch k := w.rng.IntN(10); {
		case k == 0 && mayStayOpen:
			return tx
		case k < 3:
			tx.Abort()
		default:
			tx.Commit()
		}
	}
	return nil
}

// TestRestoreRandom lets logs grow, be compacted and lie about for days, and crashes
// restores between any two batches; the state is always the fold of the changelogs up to
// its checkpoint, the checkpoint never goes back, and what is restored is everything.
func TestRestoreRandom(t *testing.T) {
	for seed := range uint64(300) {
		w := newWorld(t, seed)
		last := map[changelog.Partition]int64{}
		for range 12 {
			w.write(w.rng.IntN(12), false)
			switch w.rng.IntN(6) {
			case 0:
				w.cluster.Compact(w.task.Stores[w.rng.IntN(2)].Topic, false)
			case 1:
				// Tombstones are removed a day after they were compacted at the earliest; a
				// process that was down for that long has to begin anew.
				w.now = w.now.Add(13 * time.Hour)
				for _, s := range w.task.Stores {
					w.cluster.Compact(s.Topic, true)
				}
				w.write(1, false)
				clear(last)
			}
			w.commits = w.rng.IntN(8)
			_, err := w.restore()
			if err != nil && !errors.Is(err, errCrash) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			w.crash()
			w.check()
			if c, ok, _ := changelog.LoadCheckpoint(w.db, w.task.Key); ok {
				for _, at := range c.Positions {
					last[at.Partition] = at.Next
				}
			}
			if w.rng.IntN(3) == 0 {
				for _, at := range w.mustRestore().Positions {
					if at.Next < last[at.Partition] {
						t.Fatalf("seed %d: %v went back from %d to %d", seed, at.Partition, last[at.Partition], at.Next)
					}
				}
			}
		}
		w.mustRestore()
		for _, reason := range w.wiped {
			if reason != changelog.ReasonOld {
				t.Fatalf("seed %d: state was given up: %v", seed, w.wiped)
			}
		}
		w.close()
	}
}

// TestRestoreWaitsForOpenTransaction: the target lies behind an open transaction, whose
// outcome belongs to what is restored.
func TestRestoreWaitsForOpenTransaction(t *testing.T) {
	for _, commit := range []bool{true, false} {
		w := newWorld(t, 1)
		p := w.task.Stores[0].Partition
		w.write(5, false)
		tx := w.cluster.Begin()
		tx.Append(p, []byte("k"), []byte("of the open transaction"))
		done := make(chan changelog.Checkpoint)
		go func() {
			c, err := w.restore()
			if err != nil {
				t.Error(err)
			}
			done <- c
		}()
		w.cluster.Append(w.task.Stores[1].Partition, []byte("other"), nil) // wakes the reader
		select {
		case <-done:
			t.Fatal("restored before the open transaction's end")
		case <-time.After(50 * time.Millisecond): // a moment in which a hasty one would have ended
		}
		if commit {
			tx.Commit()
		} else {
			tx.Abort()
		}
		<-done
		w.check()
		_, has := w.content(w.task.Stores[0])["k"]
		if has != commit {
			t.Errorf("committed %v, and the state has the key: %v", commit, has)
		}
	}
}

// TestRestoreAnew lists what makes local state useless, with the reason that is counted.
func TestRestoreAnew(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(w *world, p changelog.Partition, at int64)
		want   []changelog.Reason
	}{
		{"nothing", func(w *world, p changelog.Partition, _ int64) {
			w.cluster.Append(p, []byte("k"), []byte("v"))
		}, nil},
		{"an idle day", func(w *world, _ changelog.Partition, _ int64) { w.now = w.now.Add(24 * time.Hour) }, nil},
		{"a day with changes", func(w *world, p changelog.Partition, _ int64) {
			w.now = w.now.Add(13 * time.Hour)
			w.cluster.Append(p, []byte("k"), []byte("v"))
		}, []changelog.Reason{changelog.ReasonOld}},
		{"a minute with changes where tombstones last a minute", func(w *world, p changelog.Partition, _ int64) {
			w.cluster.SetDeleteRetention(p.Topic, time.Minute)
			w.now = w.now.Add(time.Minute)
			w.cluster.Append(p, []byte("k"), []byte("v"))
		}, []changelog.Reason{changelog.ReasonOld}},
		{"recreated", func(w *world, p changelog.Partition, at int64) {
			w.cluster.Create(p.Topic, 2)
			for range at + 3 {
				w.cluster.Append(p, []byte("k"), []byte("v"))
			}
		}, []changelog.Reason{changelog.ReasonRecreated}},
		{"records deleted", func(w *world, p changelog.Partition, at int64) {
			w.cluster.Append(p, []byte("k"), []byte("v"))
			w.cluster.Append(p, []byte("l"), []byte("v"))
			w.cluster.DeleteBefore(p, at+1)
		}, []changelog.Reason{changelog.ReasonOutOfRange}},
		{"truncated", func(w *world, p changelog.Partition, at int64) {
			w.cluster.Truncate(p, at-2)
		}, []changelog.Reason{changelog.ReasonTruncated}},
		{"truncated and grown again", func(w *world, p changelog.Partition, at int64) {
			w.cluster.Truncate(p, at-2)
			for range 9 {
				w.cluster.Append(p, []byte("new"), []byte("v"))
			}
		}, []changelog.Reason{changelog.ReasonTruncated}},
		{"corrupt checkpoint", func(w *world, _ changelog.Partition, _ int64) {
			b := w.db.NewBatch()
			if err := errors.Join(b.Set(w.task.Key, []byte("\x01garbage")), w.db.Commit(b, true)); err != nil {
				w.t.Fatal(err)
			}
		}, []changelog.Reason{changelog.ReasonCorrupt}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 3)
			w.write(30, false)
			w.cluster.Append(w.task.Stores[0].Partition, []byte("last"), []byte("v"))
			ckpt := w.mustRestore()
			at, _ := ckpt.At(w.task.Stores[0].Partition)
			c.damage(w, at.Partition, at.Next)
			w.mustRestore()
			if diff := cmp.Diff(c.want, w.wiped); diff != "" {
				t.Error(diff)
			}
			w.mustRestore()
			if len(w.wiped) != len(c.want) {
				t.Errorf("given up again: %v", w.wiped)
			}
		})
	}
}

// TestRestoreMeanwhile changes the log while it is read.
func TestRestoreMeanwhile(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(w *world, p changelog.Partition)
		want   changelog.Reason
	}{
		{"recreated", func(w *world, p changelog.Partition) {
			w.cluster.Create(p.Topic, 2)
		}, changelog.ReasonRecreated},
		{"deleted", func(w *world, p changelog.Partition) {
			w.cluster.DeleteBefore(p, w.cluster.End(p))
		}, changelog.ReasonOutOfRange},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 4)
			p := w.task.Stores[0].Partition
			w.write(50, false)
			w.cluster.ChunkSize, w.tick = 1, time.Millisecond
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, err := changelog.NewRestorer(changelog.RestoreConfig{
				DB: w.db, Log: w.cluster.Log(), Now: w.clock, ProgressEvery: time.Nanosecond,
				Wiped: func(_ string, reason changelog.Reason) { w.wiped = append(w.wiped, reason) },
				Progress: func(p2 changelog.Progress) {
					if len(w.wiped) == 0 && p2.Records > 2 && !p2.Done {
						c.change(w, p)
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Restore(ctx, w.task); err != nil {
				t.Fatal(err)
			}
			w.check()
			if diff := cmp.Diff([]changelog.Reason{c.want}, w.wiped); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRestoreRefuses names what is neither continued nor thrown away.
func TestRestoreRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(w *world)
		want   error
	}{
		{"cluster", func(w *world) { w.task.Cluster = "cluster-2" }, changelog.ErrForeign},
		{"app", func(w *world) { w.task.App = "other" }, changelog.ErrForeign},
		{"topology", func(w *world) { w.task.Topology = "18" }, changelog.ErrForeign},
		{"topic", func(w *world) { w.cluster.Delete(w.task.Stores[1].Topic) }, changelog.ErrNoTopic},
		{"partition", func(w *world) { w.task.Stores[1].Number = 2 }, changelog.ErrNoTopic},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 5)
			w.write(5, false)
			w.mustRestore()
			c.change(w)
			if _, err := w.restore(); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if len(w.wiped) > 0 {
				t.Errorf("state was given up: %v", w.wiped)
			}
		})
	}
}

// TestRestoreTopologyOfDroppedApp: another topology whose changelogs were made anew begins
// anew as well.
func TestRestoreTopologyOfDroppedApp(t *testing.T) {
	w := newWorld(t, 6)
	w.write(5, false)
	w.mustRestore()
	for _, s := range w.task.Stores {
		w.cluster.Create(s.Topic, 2)
	}
	w.task.Topology = "18"
	w.mustRestore()
	if diff := cmp.Diff([]changelog.Reason{changelog.ReasonRecreated}, w.wiped); diff != "" {
		t.Error(diff)
	}
}

// TestRestoreRenewsTime: a task that is restored every ten hours is never too old.
func TestRestoreRenewsTime(t *testing.T) {
	w := newWorld(t, 13)
	for range 4 {
		w.write(5, false)
		w.cluster.Append(w.task.Stores[0].Partition, []byte("k"), []byte("v"))
		w.mustRestore()
		w.now = w.now.Add(10 * time.Hour)
	}
	if len(w.wiped) > 0 {
		t.Errorf("state was given up: %v", w.wiped)
	}
}

// TestWipeCrashes: a wipe that did not finish is finished before anything is restored.
func TestWipeCrashes(t *testing.T) {
	w := newWorld(t, 7)
	w.write(20, false)
	w.mustRestore()
	w.commits = 1 // the checkpoint's removal; the stores' are no commits
	b := w.db.NewBatch()
	if err := errors.Join(b.Delete(w.task.Key), w.db.Commit(b, true)); err != nil {
		t.Fatal(err)
	}
	w.crash()
	if len(w.content(w.task.Stores[0])) == 0 {
		t.Fatal("nothing is left to be cleared")
	}
	for _, s := range w.task.Stores {
		w.cluster.Append(s.Partition, []byte("k"), nil)
		w.cluster.DeleteBefore(s.Partition, w.cluster.End(s.Partition)-1)
	}
	w.mustRestore()
	if n := len(w.content(w.task.Stores[0])); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

func TestProgress(t *testing.T) {
	w := newWorld(t, 8)
	w.tick = time.Millisecond
	w.write(30, false)
	w.mustRestore()
	last := w.told[len(w.told)-1]
	if !last.Done || last.Left != 0 || last.Records == 0 || last.Task != w.task.Name {
		t.Errorf("the last word is %+v", last)
	}
	if len(w.told) < 5 {
		t.Errorf("told %d times", len(w.told))
	}
	for i := 1; i < len(w.told); i++ {
		if w.told[i].Records < w.told[i-1].Records || w.told[i].Left > w.told[i-1].Left {
			t.Errorf("progress goes from %+v to %+v", w.told[i-1], w.told[i])
		}
	}
}
