// Package statetest holds the conformance suite of databases behind state.DB.
package statetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tailrace/tailrace/state"
)

// Exercise checks that the databases which open makes keep the contract of
// state.DB. Each call of open must return an empty database; Exercise closes it.
func Exercise(t *testing.T, open func(t *testing.T) state.DB) {
	tests := []struct {
		name string
		run  func(t *testing.T, db state.DB)
	}{
		{"Get", testGet},
		{"BatchOrder", testBatchOrder},
		{"BatchDropped", testBatchDropped},
		{"Iter", testIter},
		{"Snapshot", testSnapshot},
		{"DeleteRange", testDeleteRange},
		{"LargeBatch", testLargeBatch},
		{"Random", testRandom},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			db := open(t)
			defer func() {
				if err := db.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			test.run(t, db)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Commit writes pairs, in any order, as one batch; a nil value deletes.
func Commit(t *testing.T, db state.DB, pairs map[string][]byte) {
	t.Helper()
	keys := make([]string, 0, len(pairs))
	for k := range pairs {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b := db.NewBatch()
	for _, k := range keys {
		if v := pairs[k]; v == nil {
			must(t, b.Delete([]byte(k)))
		} else {
			must(t, b.Set([]byte(k), v))
		}
	}
	must(t, db.Commit(b, false))
	must(t, b.Close())
}

// Dump returns all pairs of a reader in order as key=value.
func Dump(t *testing.T, r state.Reader) []string {
	t.Helper()
	it, err := r.NewIter(nil, nil)
	must(t, err)
	var out []string
	for ok := it.First(); ok; ok = it.Next() {
		out = append(out, fmt.Sprintf("%s=%s", it.Key(), it.Value()))
	}
	must(t, it.Error())
	must(t, it.Close())
	return out
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %q, want %q", what, got, want)
	}
}

func testGet(t *testing.T, db state.DB) {
	Commit(t, db, map[string][]byte{"a": []byte("1"), "b": {}, "": []byte("empty")})
	for key, want := range map[string]string{"a": "x1", "b": "x", "": "xempty"} {
		got, ok, err := db.Get([]byte("x"), []byte(key))
		if err != nil || !ok || string(got) != want {
			t.Errorf("Get(%q) = %q, %v, %v; want %q", key, got, ok, err, want)
		}
	}
	got, ok, err := db.Get([]byte("x"), []byte("c"))
	if err != nil || ok || string(got) != "x" {
		t.Errorf("Get of an absent key = %q, %v, %v", got, ok, err)
	}
	Commit(t, db, map[string][]byte{"a": nil, "absent": nil, "b": []byte("2")})
	same(t, "after delete", Dump(t, db), []string{"=empty", "b=2"})
}

func testBatchOrder(t *testing.T, db state.DB) {
	for _, second := range []string{"a", "b"} {
		b := db.NewBatch()
		must(t, b.Set([]byte("b"), nil))
		if b.Set([]byte(second), nil) == nil || b.Delete([]byte(second)) == nil {
			t.Errorf("a batch took %q after b", second)
		}
		must(t, b.Close())
	}
	b := db.NewBatch()
	key := []byte("k1")
	must(t, b.Set(key, []byte("1")))
	key[1] = '2' // the batch must have copied the key
	must(t, b.Set(key, []byte("2")))
	if b.Len() < 6 {
		t.Errorf("Len = %d", b.Len())
	}
	must(t, db.Commit(b, true))
	if db.Commit(b, true) == nil {
		t.Error("a batch was committed twice")
	}
	must(t, b.Close())
	same(t, "content", Dump(t, db), []string{"k1=1", "k2=2"})
}

func testBatchDropped(t *testing.T, db state.DB) {
	b := db.NewBatch()
	must(t, b.Set([]byte("a"), []byte("1")))
	same(t, "before commit", Dump(t, db), nil)
	must(t, b.Close())
	same(t, "after close", Dump(t, db), nil)
}

func testIter(t *testing.T, db state.DB) {
	pairs := map[string][]byte{}
	for _, k := range []string{"a", "b", "ba", "c", "d"} {
		pairs[k] = []byte("v" + k)
	}
	Commit(t, db, pairs)
	it, err := db.NewIter([]byte("b"), []byte("d"))
	must(t, err)
	defer it.Close()
	Commit(t, db, map[string][]byte{"bb": []byte("later")})
	at := func(what string, ok bool, want string) {
		t.Helper()
		switch {
		case ok != (want != "") || it.Valid() != ok:
			t.Errorf("%s = %v (valid %v), want %q", what, ok, it.Valid(), want)
		case ok && (string(it.Key()) != want || string(it.Value()) != "v"+want):
			t.Errorf("%s stands on %q=%q, want %q", what, it.Key(), it.Value(), want)
		}
	}
	at("First", it.First(), "b")
	at("Next", it.Next(), "ba")
	at("Next", it.Next(), "c")
	at("Next", it.Next(), "")
	at("Last", it.Last(), "c")
	at("Prev", it.Prev(), "ba")
	at("Next", it.Next(), "c")
	at("SeekGE a", it.SeekGE([]byte("a")), "b")
	at("Prev", it.Prev(), "")
	at("SeekGE baa", it.SeekGE([]byte("baa")), "c")
	at("SeekGE d", it.SeekGE([]byte("d")), "")
	at("SeekLT z", it.SeekLT([]byte("z")), "c")
	at("SeekLT c", it.SeekLT([]byte("c")), "ba")
	at("SeekLT b", it.SeekLT([]byte("b")), "")
	at("SeekLT a", it.SeekLT([]byte("a")), "")
	must(t, it.Error())
}

func testSnapshot(t *testing.T, db state.DB) {
	Commit(t, db, map[string][]byte{"a": []byte("1"), "b": []byte("1")})
	s := db.NewSnapshot()
	defer s.Close()
	Commit(t, db, map[string][]byte{"a": nil, "b": []byte("2"), "c": []byte("2")})
	must(t, db.DeleteRange([]byte("b"), []byte("c")))
	same(t, "snapshot", Dump(t, s), []string{"a=1", "b=1"})
	same(t, "database", Dump(t, db), []string{"c=2"})
	if v, ok, err := s.Get(nil, []byte("a")); err != nil || !ok || string(v) != "1" {
		t.Errorf("snapshot Get = %q, %v, %v", v, ok, err)
	}
}

func testDeleteRange(t *testing.T, db state.DB) {
	pairs := map[string][]byte{}
	for _, k := range []string{"a", "b", "c", "d", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
		pairs[k] = []byte("1")
	}
	Commit(t, db, pairs)
	must(t, db.DeleteRange([]byte("b"), []byte("b")))
	must(t, db.DeleteRange([]byte("b"), []byte("d")))
	if got := Dump(t, db); len(got) != 3 || got[0] != "a=1" || got[1] != "d=1" {
		t.Errorf("after DeleteRange: %q", got)
	}
	must(t, db.DeleteRange([]byte("d"), nil))
	same(t, "after an open range", Dump(t, db), []string{"a=1"})
	Commit(t, db, map[string][]byte{"b": []byte("new")})
	must(t, db.DeleteRange(nil, []byte("b")))
	same(t, "written after a range", Dump(t, db), []string{"b=new"})
	must(t, db.DeleteRange(nil, nil))
	same(t, "everything", Dump(t, db), nil)
}

// testLargeBatch writes more than implementations keep in memory, over keys that
// exist, and with deletes among them.
func testLargeBatch(t *testing.T, db state.DB) {
	const n = 40_000
	key := func(i int) []byte { return fmt.Appendf(nil, "key%07d", i) }
	write := func(value func(i int) []byte) {
		b := db.NewBatch()
		for i := range n {
			if v := value(i); v != nil {
				must(t, b.Set(key(i), v))
			} else {
				must(t, b.Delete(key(i)))
			}
		}
		must(t, db.Commit(b, false))
		must(t, b.Close())
	}
	write(func(i int) []byte { return fmt.Appendf(nil, "first%0100d", i) })
	Commit(t, db, map[string][]byte{string(key(7)): []byte("small")})
	write(func(i int) []byte {
		if i%3 == 0 {
			return nil
		}
		return fmt.Appendf(nil, "second%0100d", i)
	})
	it, err := db.NewIter(nil, nil)
	must(t, err)
	defer it.Close()
	ok := it.First()
	for i := range n {
		if i%3 == 0 {
			continue
		}
		if !ok || !bytes.Equal(it.Key(), key(i)) || string(it.Value()) != fmt.Sprintf("second%0100d", i) {
			t.Fatalf("row %d is wrong: valid %v", i, ok)
		}
		ok = it.Next()
	}
	if ok {
		t.Fatalf("a row too many: %q", it.Key())
	}
}

// testRandom compares random batches, ranges and walks with a map.
func testRandom(t *testing.T, db state.DB) {
	rng := rand.New(rand.NewPCG(1, 2))
	model := map[string]string{}
	key := func() string { return fmt.Sprintf("%03d", rng.IntN(300)) }
	for round := range 200 {
		if rng.IntN(10) == 0 {
			lo, hi := key(), key()
			if lo > hi {
				lo, hi = hi, lo
			}
			must(t, db.DeleteRange([]byte(lo), []byte(hi)))
			for k := range model {
				if lo <= k && k < hi {
					delete(model, k)
				}
			}
		}
		pairs := map[string][]byte{}
		for range rng.IntN(20) {
			k := key()
			if rng.IntN(3) == 0 {
				pairs[k] = nil
				delete(model, k)
			} else {
				pairs[k] = fmt.Appendf(nil, "%d", round)
				model[k] = fmt.Sprint(round)
			}
		}
		Commit(t, db, pairs)
		want := make([]string, 0, len(model))
		for k, v := range model {
			want = append(want, k+"="+v)
		}
		slices.Sort(want)
		same(t, fmt.Sprintf("round %d", round), Dump(t, db), want)
	}
}
