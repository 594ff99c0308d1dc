package kstreams_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/kstreams"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// TestPartitions runs the cases of each family, which TestFuzz compares with Kafka
// Streams, in several partitions: also in one that is cut, through the encoding of what
// is exchanged, with little memory, and with another number after each restart. Every
// output is the same, at the same step, with the same time; records of streams are in the
// same order.
func TestPartitions(t *testing.T) {
	t.Parallel()
	cases := setting(t, "CASES", 25)
	for _, f := range kstreams.Families() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			outputs, refused := 0, 0
			for number := 1; number <= cases && !t.Failed(); number++ {
				c := f.Case(uint64(setting(t, "SEED", 1)), number)
				want, err := kstreams.Run(c, kstreams.Never)
				if err != nil {
					t.Fatal(err)
				}
				streams, err := kstreams.Streams(c)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range want.Steps {
					outputs += len(s)
				}
				for _, w := range partitionings(uint64(number)) {
					got, err := kstreams.RunWith(c, w.choose)
					if err != nil {
						t.Fatal(err)
					}
					if strings.Contains(got.Error, "cannot run in partitions") {
						refused++
						break
					}
					if i := difference(want, got, streams); i >= 0 {
						t.Errorf("case %d, %s: input %d of %s:\n got %v %s\nwant %v", number, w.name, i+1, c,
							step(got, i), got.Error, step(want, i))
						break
					}
				}
			}
			t.Logf("%d cases with %d outputs, %d cannot be cut", cases, outputs, refused)
			if outputs == 0 || refused > cases/2 {
				t.Errorf("the cases prove nothing: %d outputs, %d of %d refused", outputs, refused, cases)
			}
		})
	}
}

type partitioning struct {
	name   string
	choose func(record int) ([]topologytest.Option, bool)
}

func partitionings(seed uint64) []partitioning {
	always := func(name string, opts ...topologytest.Option) partitioning {
		return partitioning{name, func(int) ([]topologytest.Option, bool) { return opts, false }}
	}
	r := rand.New(rand.NewPCG(seed, 7))
	return []partitioning{
		always("cut, in one", topologytest.Partitions(1), topologytest.CheckEverything()),
		always("in 3", topologytest.Partitions(3), topologytest.CheckEverything()),
		always("in 16, encoded", topologytest.Partitions(16), topologytest.Encoded(), topologytest.Memory(3000)),
		{"in other numbers after restarts", func(int) ([]topologytest.Option, bool) {
			n := []int{0, 1, 2, 5, 16}[r.IntN(5)]
			return []topologytest.Option{topologytest.Partitions(n)}, r.IntN(2) == 0
		}},
	}
}

// difference returns the first step that differs, -1 if none does. Changes of tables come
// in no order within a step.
func difference(want, got *kstreams.Result, streams map[string]bool) int {
	for i := range max(len(want.Steps), len(got.Steps)) {
		if i >= len(want.Steps) || i >= len(got.Steps) {
			return i
		}
		if !reflect.DeepEqual(sorted(want.Steps[i], streams), sorted(got.Steps[i], streams)) {
			return i
		}
	}
	if want.Error != got.Error {
		return len(got.Steps)
	}
	return -1
}

func sorted(step []kstreams.Output, streams map[string]bool) []kstreams.Output {
	out := slices.Clone(step)
	slices.SortStableFunc(out, func(a, b kstreams.Output) int {
		switch {
		case a.Node != b.Node:
			return strings.Compare(a.Node, b.Node)
		case streams[a.Node]:
			return 0
		}
		return strings.Compare(a.String(), b.String())
	})
	if len(out) == 0 {
		return nil
	}
	return out
}
