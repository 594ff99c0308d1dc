package state_test

import (
	"testing"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

func TestTableSmoke(t *testing.T) {
	db := state.NewMemory()
	env := &state.Env{DB: db}
	kc, _ := state.KeyCodecOf[int64]()
	vc, _ := state.CodecOf[string]()
	tab := state.NewTable(env, 16, kc, vc)
	tab.Put(1, "a", 1)
	tab.Put(-2, "b", 1)
	b := db.NewBatch()
	if err := tab.Flush(b); err != nil {
		t.Fatal(err)
	}
	db.Commit(b, true)
	tab.Committed()
	tab.Put(1, "c", 2)
	tab.Delete(-2, 2)
	tab.Put(3, "d", 2)
	n := 0
	tab.Changes(func(c []record.Change[int64, string]) bool { n += len(c); return true })
	if n != 3 {
		t.Fatal(n)
	}
	var keys []int64
	tab.Scan(func(k int64, v *string) bool { keys = append(keys, k); return true })
	if len(keys) != 2 {
		t.Fatal(keys)
	}
	tab.Rollback()
	if v, _ := tab.Get(1); *v != "a" {
		t.Fatal(*v)
	}
}
