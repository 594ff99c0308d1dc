package view

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

type account struct {
	Owner sql.Null[string]
	Cents int64
	Tags  []string
}

func byOwner() Indexed[string, account] {
	return Index("by-owner", func(_ string, a account) sql.Null[string] { return a.Owner })
}

func byCents() Indexed[string, account] {
	return Index("by-cents", func(_ string, a account) int64 { return a.Cents })
}

// TestReadsEqualMap runs random epochs and compares every way of reading with a
// plain map.
func TestReadsEqualMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e := newEngine(t, HostOptions{})
		tb := addView(e, "accounts", byOwner(), byCents())
		keys := rapid.SampledFrom([]string{"", "a", "aa", "ab", "a\x00", "a\x00b", "b", "ba", "c",
			"\xff", "\xff\xff"})
		owners := rapid.SampledFrom([]string{"", "ann", "bob"})
		for range rapid.IntRange(1, 6).Draw(rt, "epochs") {
			for range rapid.IntRange(0, 12).Draw(rt, "changes") {
				k := keys.Draw(rt, "key")
				if rapid.IntRange(0, 3).Draw(rt, "op") == 0 {
					tb.remove(t, k)
					continue
				}
				owner := owners.Draw(rt, "owner")
				tb.set(t, k, account{
					Owner: sql.Null[string]{V: owner, Valid: owner != ""},
					Cents: rapid.Int64Range(-2, 2).Draw(rt, "cents"),
					Tags:  []string{owner, k},
				})
			}
			e.commit()
			checkReads(t, e, tb, keys.Draw(rt, "from"), keys.Draw(rt, "to"))
		}
		if err := e.host.Close(context.Background()); err != nil {
			rt.Fatal(err)
		}
	})
}

func checkReads(t *testing.T, e *engine, tb *table[string, account], from, to string) {
	t.Helper()
	ctx := context.Background()
	for _, k := range []string{from, to, "nobody"} {
		got, ok, at, err := tb.Get(ctx, k)
		want, wantOK := tb.rows[k]
		if err != nil || ok != wantOK || !sameAccount(got, want) {
			t.Fatalf("Get(%q) = %v, %v, %v; want %v, %v", k, got, ok, err, want, wantOK)
		}
		if at.Sources["shop"] != e.lsn || at.Seq != e.seq || at.AsOf.Unix() != int64(e.seq) {
			t.Fatalf("Get names %v, want %d", at, e.lsn)
		}
	}
	checkRows(t, tb, tb.Range(ctx, All[string]()), func(string, account) bool { return true })
	checkRows(t, tb, tb.Range(ctx, Between(from, to)),
		func(k string, _ account) bool { return k >= from && k < to })
	checkRows(t, tb, tb.Range(ctx, AtLeast(from)), func(k string, _ account) bool { return k >= from })
	checkRows(t, tb, tb.Range(ctx, Below(to)), func(k string, _ account) bool { return k < to })
	checkRows(t, tb, tb.Range(ctx, Prefix(from)),
		func(k string, _ account) bool { return strings.HasPrefix(k, from) })
	checkRows(t, tb, tb.Lookup(ctx, "by-owner", sql.Null[string]{V: "ann", Valid: true}),
		func(_ string, a account) bool { return a.Owner.V == "ann" })
	checkRows(t, tb, tb.Lookup(ctx, "by-owner", sql.Null[string]{}),
		func(_ string, a account) bool { return !a.Owner.Valid })
	checkRows(t, tb, tb.Lookup(ctx, "by-cents", -1), func(_ string, a account) bool { return a.Cents == -1 })
}

// checkRows walks rows both ways, and once leaves the loop early.
func checkRows(
	t *testing.T, tb *table[string, account], rows *Rows[string, account], want func(string, account) bool,
) {
	t.Helper()
	var keys []string
	for k, v := range tb.rows {
		if want(k, v) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for range rows.All() {
		break
	}
	for range 2 {
		var got []string
		for k, v := range rows.All() {
			got = append(got, k)
			if !sameAccount(v, tb.rows[k]) {
				t.Fatalf("row %q is %v, want %v", k, v, tb.rows[k])
			}
			v.Tags[0] = "changed by the reader"
		}
		if rows.Err() != nil || !slices.Equal(got, keys) {
			t.Fatalf("rows are %q, %v; want %q", got, rows.Err(), keys)
		}
		rows.Reverse()
		slices.Reverse(keys)
	}
}

func sameAccount(a, b account) bool {
	return a.Owner == b.Owner && a.Cents == b.Cents && slices.Equal(a.Tags, b.Tags)
}

func TestStates(t *testing.T) {
	ctx := context.Background()
	v, err := New("top", "v", byOwner())
	if err != nil {
		t.Fatal(err)
	}
	wantErr := func(want, err error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("error is %v, want %v", err, want)
		}
	}
	get := func() error { _, _, _, err := v.Get(ctx, "a"); return err }
	wantErr(ErrNotBound, get())

	h := NewHost(HostOptions{Sources: []string{"shop"}})
	ids := func(string) uint32 { return 1 }
	wantErr(nil, h.Bind(v, ids))
	wantErr(nil, h.Bind(v, ids))
	wantErr(ErrNotReady, get())
	wantErr(ErrUnknownSource, v.WaitFor(ctx, record.Positions{"stock": 1}))
	wantErr(nil, h.Advance(record.Positions{"shop": 1}))
	wantErr(ErrNotReady, get())

	other, _ := New[string, account]("other", "v")
	wantErr(ErrBound, h.Bind(other, ids))
	h2 := NewHost(HostOptions{})
	wantErr(ErrBound, h2.Bind(v, ids))

	db := state.NewMemory()
	wantErr(nil, h.Publish(Commit{Positions: record.Positions{"shop": 1}, Snapshot: db.NewSnapshot()}))
	wantErr(nil, get())
	wantErr(ErrNoIndex, walk(v.Lookup(ctx, "by-size", "x")))
	wantErr(ErrNoIndex, walk(v.Lookup(ctx, "by-owner", 7)))
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	wantErr(context.Canceled, walk(v.Range(cancelled, All[string]())))

	m, err := At(ctx, v)
	wantErr(nil, err)
	r := v.At(m)
	_, _, err = r.Get("a")
	wantErr(nil, err)
	wantErr(context.Canceled, h.Close(cancelled)) // The moment is still open.
	m.Close()
	_, _, err = r.Get("a")
	wantErr(ErrClosed, err)
	wantErr(nil, h.Close(ctx))
	wantErr(ErrClosed, get())
	wantErr(ErrClosed, v.WaitFor(ctx, nil))
	wantErr(ErrClosed, h.Publish(Commit{Snapshot: db.NewSnapshot()}))

	// A closed host lets go of its views.
	wantErr(nil, h2.Bind(v, ids))
	wantErr(ErrNotReady, get())
	wantErr(nil, h2.Close(ctx))
}

func walk[K comparable, V any](rows *Rows[K, V]) error {
	for range rows.All() {
	}
	return rows.Err()
}

func TestNewReportsEverything(t *testing.T) {
	bad := func(float64, []chan int) float64 { return 0 }
	_, err := New("top", "v", Index("x", bad), Index("x", bad), Index[float64, []chan int, int]("", nil))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"float64", "chan int", `index "x"`, "empty or taken", "has no function"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
}

// TestHeldTopology: a topology that stands still keeps its own position, and its
// views are not read together with others.
func TestHeldTopology(t *testing.T) {
	e := newEngine(t, HostOptions{})
	a, b := addView[int64, int64](e, "a"), addView[int64, int64](e, "b")
	b.core.topology = "slow"
	e.commit()
	held := map[string]Standing{"slow": {Positions: maps.Clone(e.positions()), AsOf: 5}}
	e.commitHeld(held)
	e.advance()
	_, _, at, err := a.Get(context.Background(), 1)
	if err != nil || at.Sources["shop"] != 48 {
		t.Fatalf("a is at %v, %v", at, err)
	}
	_, _, at, err = b.Get(context.Background(), 1)
	if err != nil || at.Sources["shop"] != 16 {
		t.Fatalf("b is at %v, %v", at, err)
	}
	if _, err := At(context.Background(), a, b); !errors.Is(err, ErrPositions) {
		t.Fatalf("At both: %v", err)
	}
}

// TestPositionsNeverGoBack: an engine that reads again from its checkpoint publishes a
// position before one that Advance has shown.
func TestPositionsNeverGoBack(t *testing.T) {
	e := newEngine(t, HostOptions{})
	tb := addView[int64, int64](e, "a")
	tb.core.topology = "slow"
	e.commit()
	e.advance()
	e.advance()
	e.lsn = 0
	e.commit()
	if p, _ := e.host.Position(); p.Sources["shop"] != 48 {
		t.Errorf("after going back: %v, want 0/30", p)
	}
	e.lsn = 0
	e.commitHeld(map[string]Standing{"slow": {Positions: record.Positions{"shop": 16}}})
	if _, _, p, _ := tb.Get(context.Background(), 1); p.Sources["shop"] != 48 {
		t.Errorf("held: %v, want 0/30", p)
	}
}

func TestLeadingFields(t *testing.T) {
	type key struct {
		A int64
		B string
		C int64
	}
	e := newEngine(t, HostOptions{})
	tb := addView[key, int64](e, "v")
	n := map[int]int{}
	for a := int64(-2); a < 2; a++ {
		for _, b := range []string{"", "x", "xy"} {
			for c := range int64(2) {
				tb.set(t, key{a, b, c}, 1)
			}
		}
	}
	e.commit()
	for fields := range 4 {
		rows := tb.Range(context.Background(), Leading(key{-1, "x", 1}, fields))
		for range rows.All() {
			n[fields]++
		}
		if rows.Err() != nil {
			t.Error(rows.Err())
		}
	}
	if n[0] != 24 || n[1] != 6 || n[2] != 2 || n[3] != 1 {
		t.Errorf("rows by leading fields: %v", n)
	}
	if err := walk(tb.Range(context.Background(), Leading(key{}, 4))); err == nil {
		t.Error("four leading fields of three are taken")
	}
	if err := walk(addView[int64, int64](e, "w").Range(context.Background(), Leading(int64(1), 1))); err == nil {
		t.Error("leading fields of an integer are taken")
	}
}
