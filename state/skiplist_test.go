package state

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSkiplist compares a large list, written in runs of near keys and at random, with
// a map.
func TestSkiplist(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round, l := 0, new(skiplist); round < 3; round++ {
		l.reset()
		want := map[string]string{}
		for i, base := 0, 0; i < 20_000; i++ {
			if i%97 == 0 {
				base = rnd.IntN(1 << 20)
			}
			key := fmt.Sprintf("%08d", base+rnd.IntN(50)+i%97)
			value := bytes.Repeat([]byte{byte(i)}, rnd.IntN(40))
			if i%5000 == 7 {
				value = bytes.Repeat([]byte{byte(i)}, arenaBlock+i)
			}
			deleted := i%7 == 0
			l.set([]byte(key), value, deleted)
			want[key] = fmt.Sprintf("%v%s", deleted, value)
		}
		checkSkiplist(t, l, want)
	}
}

func checkSkiplist(t *testing.T, l *skiplist, want map[string]string) {
	t.Helper()
	keys := slices.Sorted(maps.Keys(want))
	if l.live != len(keys) {
		t.Fatalf("%d live, want %d", l.live, len(keys))
	}
	i, last := 0, uint32(0)
	for n := l.first(); n != 0; n = l.next(n, 0) {
		if i == len(keys) || string(l.key(n)) != keys[i] || l.nodes.at(int(n)).prev != last {
			t.Fatalf("node %d is %q, after %d", i, l.key(n), l.nodes.at(int(n)).prev)
		}
		if got := fmt.Sprintf("%v%s", l.deleted(n), l.value(n)); got != want[keys[i]] {
			t.Fatalf("%q holds %.50q, want %.50q", keys[i], got, want[keys[i]])
		}
		if l.find(l.key(n)) != n || l.seek(append(l.key(n), 0)) != l.next(n, 0) ||
			l.last(l.key(n)) != last || l.last(append(l.key(n), 0)) != n {
			t.Fatalf("%q is not found", keys[i])
		}
		i, last = i+1, n
	}
	if i != len(keys) || l.last(nil) != last {
		t.Fatalf("%d nodes, want %d; the last is %d, not %d", i, len(keys), l.last(nil), last)
	}
	for lv := 1; lv < l.level; lv++ {
		n := 0
		for at, before := l.next(0, lv), []byte(nil); at != 0; at = l.next(at, lv) {
			if before != nil && bytes.Compare(before, l.key(at)) >= 0 {
				t.Fatalf("level %d is out of order at %q", lv, l.key(at))
			}
			before, n = l.key(at), n+1
		}
		if limit := 4 * len(keys) >> lv; n > limit {
			t.Errorf("level %d has %d nodes of %d", lv, n, len(keys))
		}
	}
}
