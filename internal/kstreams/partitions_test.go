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
	for _, f := range kstreams.Families() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			refused := 0
			cases, outputs := eachCase(t, f, func(c *whole) {
				for _, w := range partitionings(uint64(c.number)) {
					got, err := kstreams.RunWith(c.Case, w.choose)
					if err != nil {
						t.Fatal(err)
					}
					if strings.Contains(got.Error, "cannot run in partitions") {
						refused++
						break
					}
					if i := difference(c.result, got, c.streams); i >= 0 {
						t.Errorf("case %d, %s: input %d of %s:\n got %v %s\nwant %v", c.number, w.name, i+1, c.Case,
							step(got, i), got.Error, step(c.result, i))
						break
					}
				}
			})
			t.Logf("%d cases with %d outputs, %d cannot be cut", cases, outputs, refused)
			if refused > cases/2 {
				t.Errorf("the cases prove nothing: %d of %d refused", refused, cases)
			}
		})
	}
}

// whole is a case and what comes out where it runs whole, in one go.
type whole struct {
	*kstreams.Case
	number  int
	result  *kstreams.Result
	streams map[string]bool // outputs in an order
}

// eachCase gives a family's cases to compare, until the test has failed, and returns how
// many there are and how many outputs they have.
func eachCase(t *testing.T, f *kstreams.Family, compare func(c *whole)) (cases, outputs int) {
	t.Helper()
	cases = setting(t, "CASES", 25)
	for number := 1; number <= cases && !t.Failed(); number++ {
		c := &whole{Case: f.Case(uint64(setting(t, "SEED", 1)), number), number: number}
		var err error
		if c.result, err = kstreams.Run(c.Case, kstreams.Never); err != nil {
			t.Fatal(err)
		}
		if c.streams, err = kstreams.Streams(c.Case); err != nil {
			t.Fatal(err)
		}
		for _, s := range c.result.Steps {
			outputs += len(s)
		}
		compare(c)
	}
	if outputs == 0 {
		t.Error("the cases prove nothing: they have no output")
	}
	return cases, outputs
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
