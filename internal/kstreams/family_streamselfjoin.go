package kstreams

import (
	"cmp"
	"slices"
)

// Joins of a stream with itself. Kafka Streams runs them with two stores, and its records
// in the same order where it is told to need one only.
var _ = addFamily(&Family{Name: "stream-self-join", Make: makeStreamSelfJoin, Known: []Known{
	selfJoinKnown("KAFKA-16123", joinDefects{takesLate: true}),
	selfJoinKnown("join store boundary", joinDefects{expires: true}),
	selfJoinKnown("several of a join's defects", joinDefects{takesLate: true, expires: true}),
}})

func makeStreamSelfJoin(g Gen) *Case {
	n := Node{ID: "j", Op: "join", Kind: "inner", In: []string{"l", "l"}, Window: drawJoinWindow(g)}
	m := StreamMix("l")
	m.NullKeys, m.NullValues, m.Jump = 12, 10, 60
	m.Back = int(n.Window.Before+n.Window.After+n.Window.Grace) + 5
	if calm := int(min(n.Window.Before, n.Window.After)); !g.Chance(5) {
		// As in makeStreamJoin: little comes too late for Tailrace.
		m.Back, m.Late = max(1, calm), m.Late*min(1, calm)
	}
	return &Case{
		Nodes: []Node{{ID: "l", Op: "stream", Topic: "l"}, n}, Out: []string{"j"}, Records: g.Records(m),
	}
}

// selfJoinKnown is joinKnown: Kafka Streams' result is that of the model of two streams
// that are the same one, with all defects, and Tailrace's that of a model of its own.
func selfJoinKnown(name string, one joinDefects) Known {
	return Known{Name: name, Explains: func(c *Case, _ *Diff, kafka, tailrace *Result) bool {
		n := c.Node(c.Out[0])
		all := joinDefects{takesLate: true, expires: true}
		if Compare(c, modelStreamJoin(c, n, all), kafka) != nil ||
			Compare(c, modelSelfJoin(c, n), tailrace) != nil {
			return false
		}
		return Compare(c, modelStreamJoin(c, n, one), modelStreamJoin(c, n, joinDefects{})) != nil
	}}
}

// modelSelfJoin computes a join of a stream with itself: all pairs within the window but
// for those of a record that is too late for both roles; of a role that it is too late
// for it meets nothing that came before.
func modelSelfJoin(c *Case, n *Node) *Result {
	w, j, r := n.Window, &streamJoin{node: n}, &Result{}
	var came []kept
	now := int64(-1)
	for i := range c.Records {
		in := &c.Records[i]
		if in.Key != nil && in.Value != nil {
			x := kept{key: *in.Key, value: textOf(in.Value), ts: in.TS}
			asLeft, asRight := x.ts+w.After+w.Grace >= now, x.ts+w.Before+w.Grace >= now
			if asLeft {
				j.each(came, &x, x.ts-w.Before, x.ts+w.After, func(y *kept) { j.two(&x, y) })
			}
			if asLeft || asRight {
				came = append(came, x)
				all := came
				if !asRight {
					all = []kept{x}
				}
				j.each(all, &x, x.ts-w.After, x.ts+w.Before, func(y *kept) { j.two(y, &x) })
			}
		}
		now = max(now, in.TS)
		r.Steps = append(r.Steps, j.out)
		j.out = nil
	}
	return r
}

// each calls fn for the records of a key and a time, by time.
func (j *streamJoin) each(records []kept, x *kept, from, to int64, fn func(y *kept)) {
	var found []kept
	for _, y := range records {
		if y.key == x.key && from <= y.ts && y.ts <= to {
			found = append(found, y)
		}
	}
	slices.SortStableFunc(found, func(a, b kept) int { return cmp.Compare(a.ts, b.ts) })
	for i := range found {
		fn(&found[i])
	}
}

func (j *streamJoin) two(l, r *kept) { j.put(l.key, joined(l.value, r.value), max(l.ts, r.ts)) }
