package state_test

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// TestGiantStepStaysWithinMemory runs one step that writes many times what the
// budget allows, twice over the same rows and with reads of both versions, an index
// beside it, and commits it in one batch.
func TestGiantStepStaysWithinMemory(t *testing.T) {
	rows, limit := 150_000, int64(8<<20)
	if raceDetector {
		rows, limit = rows/8, limit/8
	}
	dir := mustOpenDir(t, t.TempDir(), state.Identity{App: "giant"})
	defer dir.Close()
	env := &state.Env{DB: dir.DB, Memory: state.NewBudget(limit), Scratch: dir.Scratch}
	tab := newTable[int64, order](t, env, 16)
	index := state.NewOrdered(env, 17)
	rng := rand.New(rand.NewPCG(1, 1))
	perm := rng.Perm(rows)
	start := time.Now()
	peak := int64(0)
	for i, k := range perm {
		o := testOrder(int64(k))
		must(t, tab.Put(o.ID, o, 1))
		must(t, index.Set([]byte(o.Customer), nil))
		if i%1000 == 0 {
			peak = max(peak, env.Memory.Used())
		}
	}
	for i := range rows / 10 {
		k := int64(perm[i*7%rows])
		v, existed, err := tab.Edit(k, 2)
		must(t, err)
		if !existed || v.ID != k {
			t.Fatalf("row %d: %v %+v", k, existed, v)
		}
		v.Items += 1000
		peak = max(peak, env.Memory.Used())
	}
	// Other stores can only be asked between calls, so a quantum each may go beyond.
	if peak > limit+limit/4 {
		t.Errorf("%d bytes in use at a limit of %d", peak, limit)
	}
	changes, edited := 0, 0
	must(t, tab.Changes(func(c []record.Change[int64, order]) bool {
		for i := range c {
			if c[i].HasOld() || c[i].New.Customer != testOrder(c[i].Key).Customer {
				t.Fatalf("change %+v", c[i])
			}
			if c[i].New.Items >= 1000 {
				edited++
			}
			changes++
		}
		return true
	}))
	if changes != rows || edited == 0 {
		t.Errorf("%d changes, %d edited", changes, edited)
	}
	tab.EndStep()
	b := dir.DB.NewBatch()
	must(t, tab.Flush(b))
	must(t, index.Flush(b))
	must(t, dir.DB.Commit(b, true))
	must(t, b.Close())
	tab.Committed()
	index.Committed()
	if _, err := tab.Get(1); err != nil || env.Memory.Used() > limit {
		t.Errorf("%d bytes in use after the commit, %v", env.Memory.Used(), err)
	}
	found := 0
	must(t, tab.Scan(func(int64, *order) bool { found++; return true }))
	must(t, index.Scan([]byte("customer-"), true, func(_, _ []byte) bool { found++; return true }))
	if found != 2*rows {
		t.Errorf("%d rows found, want %d", found, 2*rows)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d rows in %v, peak of the budget %d KiB, heap %d MiB",
		rows, time.Since(start).Round(time.Millisecond), peak>>10, m.HeapSys>>20)
	must(t, env.Close())
}

// A giant step that is rolled back leaves a cache of the size of what is kept, with
// the same content; so does one that is committed once its rows are clean.
func TestCacheShrinksAfterGiantStep(t *testing.T) {
	db := state.NewMemory()
	env := &state.Env{DB: db, Memory: state.NewBudget(4 << 20)}
	tab := newTable[int64, order](t, env, 16)
	commit := func() {
		b := db.NewBatch()
		must(t, tab.Flush(b))
		must(t, db.Commit(b, true))
		must(t, b.Close())
		tab.Committed()
	}
	for k := range int64(50) {
		must(t, tab.Put(k, testOrder(k), 1))
	}
	commit()
	small := tab.Bytes()
	const many = 20_000
	for k := range int64(many) {
		must(t, tab.Put(k, order{ID: k}, 2))
	}
	giant := tab.Bytes()
	tab.Rollback()
	if tab.Bytes() > small || giant < 10*small {
		t.Errorf("%d bytes before, %d in the step, %d after its rollback", small, giant, tab.Bytes())
	}
	for k := range int64(50) {
		if v, err := tab.Get(k); err != nil || v == nil || v.Customer != testOrder(k).Customer {
			t.Fatalf("row %d is %+v, %v", k, v, err)
		}
	}
	for k := range int64(many) {
		must(t, tab.Put(k, testOrder(k), 2))
	}
	commit()
	if _, err := tab.Get(1); err != nil || tab.Bytes() > 4<<20 {
		t.Errorf("%d bytes after the commit, %v", tab.Bytes(), err)
	}
	for k := range int64(many) {
		if v, err := tab.Get(k); err != nil || v == nil || v.ID != k {
			t.Fatalf("row %d is %+v, %v", k, v, err)
		}
	}
}
