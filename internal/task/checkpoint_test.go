package task_test

import (
	"reflect"
	"testing"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// The checkpoint that a task tells of is that of its last commit, all of it.
func TestCheckpointOfTheLastCommit(t *testing.T) {
	for _, parts := range []int{0, 2} {
		s := &session{
			t: t, top: revenue(), db: state.NewMemory(), ids: map[string]uint32{},
			rels: map[string]*record.Relation{}, parts: parts,
		}
		if err := s.open(); err != nil {
			t.Fatal(err)
		}
		s.tx = &record.Tx{Source: "shop", Position: 16, CommitTime: 1e6}
		s.task.Begin(s.tx)
		if err := s.feed([]string{"insert orders id=7 customer_id=1 cents=250"}); err != nil {
			t.Fatal(err)
		}
		if err := s.task.End(s.tx); err != nil {
			t.Fatal(err)
		}
		if _, err := s.seal(); err != nil {
			t.Fatal(err)
		}
		if err := s.commit(); err != nil {
			t.Fatal(err)
		}
		if got := s.task.Checkpoint(); !reflect.DeepEqual(got, s.saved) || got.Cut != (parts > 0) {
			t.Errorf("with %d partitions: %+v, and the commit has %+v", parts, got, s.saved)
		}
		var none task.Checkpoint
		if reflect.DeepEqual(s.saved, none) {
			t.Error("nothing was committed")
		}
	}
}
