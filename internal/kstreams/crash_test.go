package kstreams_test

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/kstreams"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// TestCrashes runs the cases of each family, which TestFuzz compares with Kafka Streams,
// with several records an epoch and crashes between any two records, which lose what is
// not committed; whole, and in 1 or 16 partitions. What comes out in the end is the same:
// the records of each stream in the same order, and the changes of each key of a table.
func TestCrashes(t *testing.T) {
	t.Parallel()
	for _, f := range kstreams.Families() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			eachCase(t, f, func(c *whole) {
				for _, partitions := range []int{0, 1, 16} {
					r := rand.New(rand.NewPCG(uint64(c.number), uint64(partitions)))
					got, err := kstreams.RunCrashing(c.Case, func(int) bool { return r.IntN(2) == 0 },
						topologytest.Steps(1), topologytest.Epochs(2+r.IntN(5)), topologytest.Partitions(partitions),
						topologytest.Memory([]int64{0, 3000}[r.IntN(2)]))
					if err != nil {
						t.Fatal(err)
					}
					if strings.Contains(got.Error, "cannot run in partitions") {
						continue // TestPartitions counts them
					}
					if w, g := sequences(c.result, c.streams), sequences(got, c.streams); !reflect.DeepEqual(w, g) ||
						c.result.Error != got.Error {
						t.Errorf("case %d in %d partitions, %s:\n got %v %s\nwant %v", c.number, partitions, c.Case,
							g, got.Error, w)
					}
				}
			})
		})
	}
}

// sequences are the records of each stream, and the changes of each key of each table, in
// order.
func sequences(r *kstreams.Result, streams map[string]bool) map[string][]string {
	all := map[string][]string{}
	for _, step := range r.Steps {
		for _, o := range step {
			text := o.String()
			of := o.Node
			if !streams[o.Node] {
				key, _, _ := strings.Cut(text, "=")
				of += " " + key
			}
			all[of] = append(all[of], text)
		}
	}
	return all
}
