package state_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// value has parts in the entry and parts outside it.
type value struct {
	N    int64
	Name string
	List []int32
}

type modelRow struct {
	v    value
	time int64
}

// modelTable is what a Table should be: plain maps.
type modelTable struct {
	committed, before, now map[int16]modelRow // DB, before the step, now
	touched                []int16
	times                  map[int16]int64 // of deletions and rows, as of the last write
}

func (m *modelTable) touch(k int16, time int64) {
	if !slices.Contains(m.touched, k) {
		m.touched = append(m.touched, k)
	}
	m.times[k] = time
}

func (m *modelTable) endStep() { m.before, m.touched = maps.Clone(m.now), nil }

func newModelTable() *modelTable {
	return &modelTable{map[int16]modelRow{}, map[int16]modelRow{}, map[int16]modelRow{}, nil, map[int16]int64{}}
}

// world is two tables and an ordered store in one Env beside their models.
type world struct {
	db      state.DB
	env     *state.Env
	newEnv  func() *state.Env
	tables  [2]*state.Table[int16, value]
	models  [2]*modelTable
	ordered *state.Ordered
	// index, pending: what ordered holds, and its uncommitted writes ("-" deletes)
	index, committedIndex map[string]string
	pending               map[string]string
	spills                *int
}

// countingScratch counts what is written to scratch space.
type countingScratch struct {
	state.Scratch
	sets *int
}

func (s countingScratch) Set(k, v []byte) error { *s.sets++; return s.Scratch.Set(k, v) }

func (w *world) open(t *rapid.T) {
	w.env = w.newEnv()
	kc, err := state.KeyCodecOf[int16]()
	must(t, err)
	vc, err := state.CodecOf[value]()
	must(t, err)
	for i := range w.tables {
		w.tables[i] = state.NewTable(w.env, uint32(16+i), kc, vc)
	}
	w.ordered = state.NewOrdered(w.env, 20)
}

func (w *world) stores() []state.Store {
	return []state.Store{w.tables[0], w.tables[1], w.ordered}
}

func drawValue(t *rapid.T) value {
	v := value{N: rapid.Int64Range(0, 3).Draw(t, "n")}
	if rapid.Bool().Draw(t, "rich") {
		v.Name = rapid.StringN(0, 40, 40).Draw(t, "name")
		v.List = rapid.SliceOfN(rapid.Int32(), 0, 5).Draw(t, "list")
	}
	return v
}

var keyGen = rapid.Int16Range(-60, 60)

func sameValue(a, b value) bool {
	return a.N == b.N && a.Name == b.Name && slices.Equal(a.List, b.List) && (a.List == nil) == (b.List == nil)
}

func checkWorld(t *rapid.T, w *world) {
	for i, tab := range w.tables {
		m := w.models[i]
		checkChanges(t, tab, m)
		checkScan(t, tab, m)
		for k := int16(-60); k <= 60; k += 7 {
			checkAt(t, tab, m, k)
		}
	}
	checkOrdered(t, w)
}

func checkAt(t *rapid.T, tab *state.Table[int16, value], m *modelTable, k int16) {
	v, err := tab.At(k)
	must(t, err)
	old, had := m.before[k]
	now, has := m.now[k]
	if v.HasOld() != had || v.HasNew() != has || had && !sameValue(v.Old, old.v) ||
		has && !sameValue(v.New, now.v) {
		t.Fatalf("At(%d) = %+v, want %v %+v, %v %+v", k, v, had, old, has, now)
	}
	if p, err := tab.Get(k); err != nil || (p != nil) != has || has && !sameValue(*p, now.v) {
		t.Fatalf("Get(%d) = %+v, %v; want %v %+v", k, p, err, has, now)
	}
	if has && v.Time != now.time {
		t.Fatalf("At(%d).Time = %d, want %d", k, v.Time, now.time)
	}
}

func checkChanges(t *rapid.T, tab *state.Table[int16, value], m *modelTable) {
	want := map[int16]bool{}
	for _, k := range m.touched {
		old, had := m.before[k]
		now, has := m.now[k]
		if had != has || had && !sameValue(old.v, now.v) {
			want[k] = true
		}
	}
	seen := map[int16]bool{}
	must(t, tab.Changes(func(chunk []record.Change[int16, value]) bool {
		for _, c := range chunk {
			old, had := m.before[c.Key]
			now, has := m.now[c.Key]
			switch {
			case seen[c.Key] || !want[c.Key]:
				t.Fatalf("change of %d: seen %v, wanted %v", c.Key, seen[c.Key], want[c.Key])
			case c.HasOld() != had || c.HasNew() != has || !sameValue(c.Old, old.v) || !sameValue(c.New, now.v):
				t.Fatalf("change %+v, want %v %+v, %v %+v", c, had, old, has, now)
			case c.Time != m.times[c.Key]:
				t.Fatalf("change of %d has time %d, want %d", c.Key, c.Time, m.times[c.Key])
			}
			seen[c.Key] = true
			checkAt(t, tab, m, c.Key) // reading is allowed in a walk
		}
		return true
	}))
	if len(seen) != len(want) {
		t.Fatalf("changes of %v, want %v", seen, want)
	}
}

func checkScan(t *rapid.T, tab *state.Table[int16, value], m *modelTable) {
	want := slices.Sorted(maps.Keys(m.now))
	var got []int16
	must(t, tab.Scan(func(k int16, v *value) bool {
		if row, ok := m.now[k]; !ok || !sameValue(row.v, *v) {
			t.Fatalf("scan gives %d: %+v, want %v %+v", k, *v, ok, row)
		}
		got = append(got, k)
		return true
	}))
	if !slices.Equal(got, want) {
		t.Fatalf("scan gives %v, want %v", got, want)
	}
}

func checkOrdered(t *rapid.T, w *world) {
	lower := rapid.SampledFrom([]string{"", "a", "ab", "b", "bb"}).Draw(t, "lower")
	upper := rapid.SampledFrom([]string{"", "a", "b", "ba", "c"}).Draw(t, "upper")
	reverse := rapid.Bool().Draw(t, "reverse")
	var want []string
	for _, k := range slices.Sorted(maps.Keys(w.index)) {
		if k >= lower && (upper == "" || k < upper) {
			want = append(want, k+"="+w.index[k])
		}
	}
	if reverse {
		slices.Reverse(want)
	}
	var got []string
	to := []byte(upper)
	if upper == "" {
		to = nil
	}
	must(t, w.ordered.ScanRange([]byte(lower), to, reverse, func(k, v []byte) bool {
		got = append(got, fmt.Sprintf("%s=%s", k, v))
		nested := 0
		must(t, w.ordered.Scan(k, !reverse, func(k2, _ []byte) bool {
			if !bytes.HasPrefix(k2, k) {
				t.Fatalf("prefix %q gives %q", k, k2)
			}
			nested++
			return true
		}))
		if nested == 0 {
			t.Fatalf("a scan for %q inside a scan does not find it", k)
		}
		return true
	}))
	if !slices.Equal(got, want) {
		t.Fatalf("scan %q %q %v gives %q, want %q", lower, upper, reverse, got, want)
	}
	for _, k := range append(slices.Sorted(maps.Keys(w.pending)), lower, upper) {
		got, ok, err := w.ordered.Get([]byte("p"), []byte(k))
		must(t, err)
		if want, has := w.index[k]; ok != has || string(got) != "p"+want {
			t.Fatalf("Get(%q) = %q, %v; want %q, %v", k, got, ok, want, has)
		}
	}
	dirty := map[string]string{}
	last := ""
	must(t, w.ordered.Dirty(func(k, v []byte, deleted bool) bool {
		if string(k) < last {
			t.Fatalf("dirty keys %q after %q", k, last)
		}
		last = string(k)
		if dirty[last] = string(v); deleted {
			dirty[last] = "-"
		}
		return true
	}))
	if !maps.Equal(dirty, w.pending) {
		t.Fatalf("dirty %v, want %v", dirty, w.pending)
	}
}

func (w *world) actions(t *rapid.T) map[string]func(*rapid.T) {
	pick := func(t *rapid.T) (*state.Table[int16, value], *modelTable) {
		i := rapid.IntRange(0, 1).Draw(t, "table")
		return w.tables[i], w.models[i]
	}
	clock := int64(0)
	orderedKey := rapid.StringMatching(`[abc]{0,4}`)
	a := map[string]func(*rapid.T){
		"": func(t *rapid.T) { checkWorld(t, w) },
		"put": func(t *rapid.T) {
			tab, m := pick(t)
			for range rapid.IntRange(1, 40).Draw(t, "puts") {
				k, v := keyGen.Draw(t, "k"), drawValue(t)
				clock++
				must(t, tab.Put(k, v, clock))
				m.touch(k, clock)
				m.now[k] = modelRow{v, clock}
			}
		},
		"delete": func(t *rapid.T) {
			tab, m := pick(t)
			k := keyGen.Draw(t, "k")
			clock++
			must(t, tab.Delete(k, clock))
			if _, ok := m.now[k]; ok {
				m.touch(k, clock)
				delete(m.now, k)
			}
		},
		"clear": func(t *rapid.T) {
			tab, m := pick(t)
			clock++
			must(t, tab.Clear(clock, nil))
			for _, k := range slices.Sorted(maps.Keys(m.now)) {
				m.touch(k, clock)
				delete(m.now, k)
			}
		},
		"edit": func(t *rapid.T) {
			tab, m := pick(t)
			k := keyGen.Draw(t, "k")
			clock++
			v, existed, err := tab.Edit(k, clock)
			must(t, err)
			row, had := m.now[k]
			if existed != had || !sameValue(*v, row.v) {
				t.Fatalf("Edit(%d) = %+v, %v; want %+v, %v", k, *v, existed, row.v, had)
			}
			// The other stores may ask this one for memory while the value is out.
			other := w.tables[0]
			om := w.models[0]
			if other == tab {
				other, om = w.tables[1], w.models[1]
			}
			for range rapid.IntRange(0, 30).Draw(t, "others") {
				k := keyGen.Draw(t, "ok")
				ov := drawValue(t)
				must(t, other.Put(k, ov, clock))
				om.touch(k, clock)
				om.now[k] = modelRow{ov, clock}
			}
			changed := drawValue(t)
			*v = changed
			m.touch(k, clock)
			m.now[k] = modelRow{changed, clock}
		},
		"editTouched": func(t *rapid.T) {
			tab, m := pick(t)
			seen, order := map[int16]bool{}, []int16(nil)
			must(t, tab.EditTouched(func(k int16, v *value, existed bool) (bool, error) {
				row, had := m.now[k]
				if seen[k] || existed != had || !sameValue(*v, row.v) {
					t.Fatalf("EditTouched gives %d %+v %v, seen %v; want %+v %v", k, *v, existed, seen[k], row.v, had)
				}
				seen[k] = true
				order = append(order, k)
				if k%3 == 0 {
					delete(m.now, k)
					return false, nil
				}
				v.N++
				v.Name += "x"
				if row.time == 0 {
					row.time = m.times[k]
				}
				m.now[k] = modelRow{*v, row.time}
				return true, nil
			}))
			if w.env.Scratch == nil && !slices.Equal(order, m.touched) || len(order) != len(m.touched) {
				t.Fatalf("EditTouched visits %v, want %v", order, m.touched)
			}
		},
		"ordered": func(t *rapid.T) {
			for range rapid.IntRange(1, 20).Draw(t, "n") {
				k := orderedKey.Draw(t, "key")
				if rapid.Bool().Draw(t, "delete") {
					must(t, w.ordered.Delete([]byte(k)))
					delete(w.index, k)
					w.pending[k] = "-"
				} else {
					v := rapid.StringMatching(`[xy]{0,6}`).Draw(t, "val")
					must(t, w.ordered.Set([]byte(k), []byte(v)))
					w.index[k], w.pending[k] = v, v
				}
				got, ok, err := w.ordered.Get([]byte("p"), []byte(k))
				must(t, err)
				if want, has := w.index[k]; ok != has || string(got) != "p"+want {
					t.Fatalf("Get(%q) = %q, %v; want %q, %v", k, got, ok, want, has)
				}
			}
		},
		"endStep": func(t *rapid.T) { w.endStep() },
	}
	w.epochActions(a)
	return a
}

func (w *world) endStep() {
	for i, s := range w.stores() {
		s.EndStep()
		if i < len(w.models) {
			w.models[i].endStep()
		}
	}
}

func (w *world) epochActions(a map[string]func(*rapid.T)) {
	flush := func(t *rapid.T) state.Batch {
		b := w.db.NewBatch()
		for _, s := range w.stores() {
			must(t, s.Flush(b))
		}
		return b
	}
	a["commit"] = func(t *rapid.T) {
		b := flush(t)
		must(t, w.db.Commit(b, true))
		must(t, b.Close())
		for _, s := range w.stores() {
			s.Committed()
		}
		for _, m := range w.models {
			m.committed = maps.Clone(m.now)
			m.endStep()
		}
		w.committedIndex, w.pending = maps.Clone(w.index), map[string]string{}
	}
	back := func() {
		for _, m := range w.models {
			m.now = maps.Clone(m.committed)
			m.endStep()
		}
		w.index, w.pending = maps.Clone(w.committedIndex), map[string]string{}
	}
	a["rollback"] = func(t *rapid.T) {
		if rapid.Bool().Draw(t, "flushed") {
			must(t, flush(t).Close())
		}
		for _, s := range w.stores() {
			s.Rollback()
		}
		back()
	}
	a["crash"] = func(t *rapid.T) {
		must(t, w.env.Close())
		w.open(t)
		back()
	}
}

func runModel(t *testing.T, open func() state.DB, newEnv func(db state.DB, spills *int) *state.Env) {
	spills := 0
	rapid.Check(t, func(t *rapid.T) {
		w := &world{db: open(), index: map[string]string{}, committedIndex: map[string]string{},
			pending: map[string]string{}, spills: &spills}
		w.models = [2]*modelTable{newModelTable(), newModelTable()}
		w.newEnv = func() *state.Env { return newEnv(w.db, &spills) }
		w.open(t)
		t.Repeat(w.actions(t))
		must(t, w.env.Close())
		if used := w.env.Memory.Used(); used != 0 {
			t.Fatalf("%d bytes of the budget are still in use", used)
		}
		must(t, w.db.Close())
	})
	t.Logf("%d rows were spilled", spills)
	if spills == 0 && strings.HasSuffix(t.Name(), "Spill") {
		t.Error("nothing was spilled: the test does not test what it says")
	}
}

func memoryScratch(spills *int) func() (state.Scratch, error) {
	return func() (state.Scratch, error) { return countingScratch{state.NewMemoryScratch(), spills}, nil }
}

func TestModelUnbounded(t *testing.T) {
	runModel(t, state.NewMemory, func(db state.DB, _ *int) *state.Env { return &state.Env{DB: db} })
}

func TestModelEviction(t *testing.T) {
	runModel(t, state.NewMemory, func(db state.DB, _ *int) *state.Env {
		return &state.Env{DB: db, Memory: state.NewBudget(2000)}
	})
}

func TestModelSpill(t *testing.T) {
	runModel(t, state.NewMemory, func(db state.DB, spills *int) *state.Env {
		return &state.Env{DB: db, Memory: state.NewBudget(5000), Scratch: memoryScratch(spills)}
	})
}

func TestModelConstantSpill(t *testing.T) {
	runModel(t, state.NewMemory, func(db state.DB, spills *int) *state.Env {
		return &state.Env{DB: db, Memory: state.NewBudget(300), Scratch: memoryScratch(spills)}
	})
}

func TestModelPebbleSpill(t *testing.T) {
	open := func() state.DB { return openPebble(t, "db", state.Options{FS: vfs.NewMem(), BatchBytes: 2000}) }
	runModel(t, open, func(db state.DB, spills *int) *state.Env {
		return &state.Env{DB: db, Memory: state.NewBudget(5000), Scratch: func() (state.Scratch, error) {
			s, err := state.OpenScratch(
				"scratch",
				state.Options{FS: vfs.NewMem(), Logger: quiet, MemTableBytes: 1 << 20},
			)
			return countingScratch{s, spills}, err
		}}
	})
}
