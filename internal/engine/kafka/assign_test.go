package kafka

import (
	"testing"

	"github.com/tailrace/tailrace/internal/kafka"
)

// TestGivenBack: a task whose input was taken away and given back is another run, also where
// nobody has gone on with it: its records come again from the committed offset, and not
// before it is resumed.
func TestGivenBack(t *testing.T) {
	p := kafka.Partition{Topic: "orders"}
	before, after := &kafka.Lease{}, &kafka.Lease{}
	at := kafka.Offset{Next: 7}
	r := &taskRun{inputs: []*buffer{{partition: p, committed: at}}, leases: []*kafka.Lease{before}}
	if r.restarted(map[kafka.Partition]kafka.Owned{p: {Offset: at, Lease: before}}) {
		t.Error("nothing was taken away")
	}
	if !r.restarted(map[kafka.Partition]kafka.Owned{p: {Offset: at, Lease: after}}) {
		t.Error("the input was given back, and the task goes on")
	}
}
