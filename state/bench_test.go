package state_test

import (
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// sums is a value without pointers, as aggregates have.
type sums struct{ Count, Cents, Last int64 }

// order is a row with strings, a time and a decimal.
type order struct {
	ID       int64
	Customer string
	Note     sql.Null[string]
	Created  time.Time
	Price    apd.Decimal
	Items    int32
}

type pair struct {
	Region string
	ID     int64
}

func newTable[K comparable, V any](t testing.TB, env *state.Env, id uint32) *state.Table[K, V] {
	t.Helper()
	kc, err := state.KeyCodecOf[K]()
	must(t, err)
	vc, err := state.CodecOf[V]()
	must(t, err)
	return state.NewTable(env, id, kc, vc)
}

func testOrder(i int64) order {
	return order{i, fmt.Sprintf("customer-%08d", i), sql.Null[string]{V: "leave at door", Valid: i%2 == 0},
		time.Unix(1_700_000_000+i, 0).UTC(), *apd.New(i*100+99, -2), int32(i % 9)}
}

// The hot paths do not allocate for keys that are in memory and values without
// pointers; a step, too, costs nothing once its buffers have grown.
func TestHotPathsDoNotAllocate(t *testing.T) {
	env := &state.Env{DB: state.NewMemory(), Memory: state.NewBudget(64 << 20)}
	ints := newTable[int64, sums](t, env, 16)
	strs := newTable[string, sums](t, env, 17)
	pairs := newTable[pair, order](t, env, 18)
	keys := make([]string, 100)
	o := testOrder(1)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%d", i)
	}
	sum := int64(0)
	step := func() {
		for i, key := range keys {
			k := int64(i)
			must(t, ints.Put(k, sums{Count: k}, 1))
			v, _, _ := strs.Edit(key, 1)
			v.Count++
			must(t, pairs.Put(pair{key, k}, o, 1))
			if v, _ := ints.Get(k); v != nil {
				sum += v.Count
			}
			at, _ := strs.At(key)
			sum += at.New.Count
		}
		must(t, strs.EditTouched(func(_ string, v *sums, _ bool) (bool, error) { v.Cents++; return true, nil }))
		must(t, strs.Changes(func(c []record.Change[string, sums]) bool { sum += int64(len(c)); return true }))
		must(t, pairs.Changes(func(c []record.Change[pair, order]) bool { sum += int64(len(c)); return true }))
		ints.EndStep()
		strs.EndStep()
		pairs.EndStep()
	}
	step()
	if n := testing.AllocsPerRun(50, step); n > 2 {
		t.Errorf("a step of 300 writes allocates %v times", n)
	}
	ordered := state.NewOrdered(env, 19)
	var key [12]byte
	writes := func() {
		for i := range 1000 {
			binary.BigEndian.PutUint64(key[:], uint64(i*7919%1000))
			must(t, ordered.Set(key[:], key[:4]))
		}
	}
	writes()
	if n := testing.AllocsPerRun(20, writes); n > 0 {
		t.Errorf("1000 ordered writes allocate %v times", n)
	}
}

func BenchmarkTableUpdate(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprintf("int64/%d", n), func(b *testing.B) {
			keys := make([]int64, n)
			for i := range keys {
				keys[i] = int64(i)
			}
			benchUpdate(b, keys)
		})
		b.Run(fmt.Sprintf("string/%d", n), func(b *testing.B) {
			keys := make([]string, n)
			for i := range keys {
				keys[i] = fmt.Sprintf("key-%012d", i)
			}
			benchUpdate(b, keys)
		})
	}
}

func benchUpdate[K comparable](b *testing.B, keys []K) {
	env := &state.Env{DB: state.NewMemory(), Memory: state.NewBudget(1 << 30)}
	t := newTable[K, sums](b, env, 16)
	rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for _, k := range keys {
		must(b, t.Put(k, sums{}, 1))
	}
	t.EndStep()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		v, _, err := t.Edit(keys[i%len(keys)], 1)
		if err != nil {
			b.Fatal(err)
		}
		v.Count++
		if i%10_000 == 9_999 {
			t.EndStep()
		}
	}
}

// BenchmarkEpoch writes 10,000 random rows of 100,000, computes the changes and
// commits to Pebble without sync; ns/op is per row.
func BenchmarkEpoch(b *testing.B) {
	db := openPebble(b, b.TempDir(), state.Options{MemTableBytes: 64 << 20})
	defer db.Close()
	env := &state.Env{DB: db, Memory: state.NewBudget(1 << 30)}
	t := newTable[int64, sums](b, env, 16)
	const step = 10_000
	epoch := func(n int) {
		for range n {
			v, _, err := t.Edit(rand.Int64N(100_000), 1)
			if err != nil {
				b.Fatal(err)
			}
			v.Count++
		}
		must(b, t.Changes(func([]record.Change[int64, sums]) bool { return true }))
		t.EndStep()
		batch := db.NewBatch()
		must(b, t.Flush(batch))
		must(b, db.Commit(batch, false))
		must(b, batch.Close())
		t.Committed()
	}
	for range 20 {
		epoch(step)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += step {
		epoch(min(step, b.N-done))
	}
	b.StopTimer()
}

func BenchmarkMiss(b *testing.B) {
	db := openPebble(b, b.TempDir(), state.Options{MemTableBytes: 64 << 20})
	defer db.Close()
	const n = 1_000_000
	fill := newTable[int64, sums](b, &state.Env{DB: db}, 16)
	for i := range int64(n) {
		must(b, fill.Put(i, sums{Count: i}, 1))
	}
	batch := db.NewBatch()
	must(b, fill.Flush(batch))
	must(b, db.Commit(batch, true))
	must(b, batch.Close())
	fill.Committed()
	t := newTable[int64, sums](b, &state.Env{DB: db, Memory: state.NewBudget(8 << 20)}, 16)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := t.Get(rand.Int64N(n)); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer() // closing waits for the flush
}

func BenchmarkCodec(b *testing.B) {
	c, err := state.CodecOf[order]()
	must(b, err)
	o, p := testOrder(123456), testOrder(123456)
	enc := c.Append(nil, &o)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, 256)
		for range b.N {
			buf = c.Append(buf[:0], &o)
		}
		b.ReportMetric(float64(len(buf)), "bytes")
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if err := c.Decode(enc, &p); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("equal", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if !c.Equal(&o, &p) {
				b.Fatal("not equal")
			}
		}
	})
	b.Run("size", func(b *testing.B) {
		for range b.N {
			c.Size(&o)
		}
	})
	kc, err := state.KeyCodecOf[pair]()
	must(b, err)
	b.Run("key", func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, 64)
		for i := range b.N {
			buf = kc.Append(buf[:0], pair{"north", int64(i)})
		}
	})
}

func BenchmarkOrdered(b *testing.B) {
	env := &state.Env{DB: state.NewMemory()}
	o := state.NewOrdered(env, 16)
	var key [16]byte
	b.Run("set", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			binary.BigEndian.PutUint64(key[:], uint64(i*7919%100_000))
			must(b, o.Set(key[:], nil))
		}
	})
	db := openPebble(b, b.TempDir(), state.Options{MemTableBytes: 64 << 20})
	defer db.Close()
	env = &state.Env{DB: db}
	o = state.NewOrdered(env, 16)
	for parent := range 1000 {
		for child := range 10 {
			binary.BigEndian.PutUint64(key[:], uint64(parent))
			binary.BigEndian.PutUint64(key[8:], uint64(child))
			must(b, o.Set(key[:], nil))
		}
	}
	batch := db.NewBatch()
	must(b, o.Flush(batch))
	must(b, db.Commit(batch, true))
	must(b, batch.Close())
	o.Committed()
	b.Run("scan10", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			binary.BigEndian.PutUint64(key[:], uint64(i%1000))
			n := 0
			must(b, o.Scan(key[:8], false, func(_, _ []byte) bool { n++; return true }))
			if n != 10 {
				b.Fatal(n)
			}
		}
	})
	must(b, env.Close())
}
