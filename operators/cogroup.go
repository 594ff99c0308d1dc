package operators

import (
	"fmt"
	"slices"

	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Cogroup2 joins the groups of two streams, so that one aggregate is fed by both: a
// value says which input it is from. Aggregate it with an adder for each input
// (aggregate.Cogroup2), or with any other aggregator over aggregate.OneOf2; window it
// with Window, which then has one stream time for both inputs.
//
// Records come in commit order across the inputs: by transaction, row and place among
// the outputs of a row; of records that tie, the earlier argument's first. They are
// facts, never retracted; late ones are judged as Window says. The records of a step
// are held in memory while they are put in order.
//
// A group key or a value that is NULL is one like any other.
func Cogroup2[G comparable, A, B any](a Grouped[G, A], b Grouped[G, B]) Grouped[G, aggregate.OneOf2[A, B]] {
	type V = aggregate.OneOf2[A, B]
	return newCogroup(
		joining(a, func(v *A) V { return V{Input: 1, A: *v} }),
		joining(b, func(v *B) V { return V{Input: 2, B: *v} }))
}

// Cogroup3 joins the groups of three streams; see Cogroup2.
func Cogroup3[G comparable, A, B, C any](
	a Grouped[G, A], b Grouped[G, B], c Grouped[G, C],
) Grouped[G, aggregate.OneOf3[A, B, C]] {
	type V = aggregate.OneOf3[A, B, C]
	return newCogroup(
		joining(a, func(v *A) V { return V{Input: 1, A: *v} }),
		joining(b, func(v *B) V { return V{Input: 2, B: *v} }),
		joining(c, func(v *C) V { return V{Input: 3, C: *v} }))
}

// Cogroup4 joins the groups of four streams; see Cogroup2.
func Cogroup4[G comparable, A, B, C, D any](
	a Grouped[G, A], b Grouped[G, B], c Grouped[G, C], d Grouped[G, D],
) Grouped[G, aggregate.OneOf4[A, B, C, D]] {
	type V = aggregate.OneOf4[A, B, C, D]
	return newCogroup(
		joining(a, func(v *A) V { return V{Input: 1, A: *v} }),
		joining(b, func(v *B) V { return V{Input: 2, B: *v} }),
		joining(c, func(v *C) V { return V{Input: 3, C: *v} }),
		joining(d, func(v *D) V { return V{Input: 4, D: *v} }))
}

// joinedGroup is one input of a cogroup, with its values as those of the cogroup.
type joinedGroup[G comparable, V any] struct {
	b        *topology.Builder
	inputs   []*topology.Node
	needs    []topology.Need
	problems []error
	open     func(rt *topology.Runtime, first int) feeder[G, V]
}

// feeder gathers what an input of a cogroup puts out in a step.
type feeder[G comparable, V any] interface {
	feed(s *topology.Step, into *cogroup[G, V]) error
}

func joining[G comparable, A, V any](in Grouped[G, A], wrap func(*A) V) joinedGroup[G, V] {
	j := joinedGroup[G, V]{
		b: in.b, inputs: in.inputs, needs: in.needs, problems: in.problems[:len(in.problems):len(in.problems)],
		open: func(rt *topology.Runtime, first int) feeder[G, V] {
			return &cogroupInput[G, A, V]{in: in.open(rt, first), number: byte(first), wrap: wrap}
		},
	}
	if in.b == nil {
		j.problems = append(j.problems, fmt.Errorf("operators: a zero Grouped was given to a cogroup"))
	}
	if n := in.table(); n != nil {
		j.problems = append(j.problems, fmt.Errorf("operators: %q is a table, and a cogroup is of streams; "+
			"aggregate the table and join the results", n.Name))
	}
	if in.windowed {
		j.problems = append(j.problems, fmt.Errorf("operators: an input of a cogroup is windowed (%s); "+
			"window the cogroup, so that it has one stream time", in.detail))
	}
	return j
}

func newCogroup[G comparable, V any](joined ...joinedGroup[G, V]) Grouped[G, V] {
	var out Grouped[G, V]
	for _, j := range joined {
		if out.b == nil {
			out.b = j.b
		}
		out.inputs = append(out.inputs, j.inputs...)
		out.needs = append(out.needs, j.needs...)
		out.problems = append(out.problems, j.problems...)
	}
	out.detail = "cogroup"
	out.open = func(rt *topology.Runtime, first int) groupInput[G, V] {
		c := &cogroup[G, V]{}
		for _, j := range joined {
			c.in = append(c.in, j.open(rt, first))
			first += len(j.inputs)
		}
		return c
	}
	return out
}

// cogroup yields the records of its inputs in commit order.
type cogroup[G comparable, V any] struct {
	in      []feeder[G, V]
	records []cogrouped[G, V]
	ids     []byte
	c       contribution[V]
	key     G
}

type cogrouped[G comparable, V any] struct {
	group    G
	value    V
	time     int64
	tag      record.Tag
	from, to int // of its id
}

// CurrentKey returns the group at work.
func (c *cogroup[G, V]) CurrentKey() any { return c.key }

func (c *cogroup[G, V]) each(s *topology.Step, visit visitGroup[G, V]) error {
	defer c.reset()
	inputs := 0
	for _, in := range c.in {
		before := len(c.records)
		if err := in.feed(s, c); err != nil {
			return err
		}
		if len(c.records) > before {
			inputs++
		}
	}
	if inputs > 1 {
		slices.SortStableFunc(c.records, func(a, b cogrouped[G, V]) int { return a.tag.Compare(b.tag) })
	}
	for i := range c.records {
		r := &c.records[i]
		c.key = r.group
		c.c = contribution[V]{id: c.ids[r.from:r.to], value: &r.value, add: true, time: r.time, tag: &r.tag}
		if err := visit(r.group, &c.c); err != nil {
			return err
		}
	}
	return nil
}

// reset forgets the step's records, and their memory if it was a giant step.
func (c *cogroup[G, V]) reset() {
	if cap(c.records) > 16*chunkSize {
		c.records, c.ids = nil, nil
		return
	}
	clear(c.records)
	c.records, c.ids = c.records[:0], c.ids[:0]
}

// cogroupInput is an input of a cogroup.
type cogroupInput[G comparable, A, V any] struct {
	in     groupInput[G, A]
	number byte // so that ids of records from one row differ
	wrap   func(*A) V
}

func (i *cogroupInput[G, A, V]) feed(s *topology.Step, into *cogroup[G, V]) error {
	return i.in.each(s, func(g G, c *contribution[A]) error {
		from := len(into.ids)
		into.ids = append(append(into.ids, c.id...), i.number)
		into.key = g
		into.records = append(into.records, cogrouped[G, V]{
			group: g, value: i.wrap(c.value), time: c.time, tag: *c.tag, from: from, to: len(into.ids),
		})
		return nil
	})
}
