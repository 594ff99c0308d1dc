package kstreams

import (
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/windows"
)

// Joins of two streams within a time.
var (
	_ = addJoin("stream-stream", buildStreamJoin)
	_ = addFamily(&Family{Name: "stream-join-inner", Make: makeStreamJoin("inner"), Known: streamJoinKnown})
	_ = addFamily(&Family{Name: "stream-join-left", Make: makeStreamJoin("left"), Known: streamJoinKnown})
	_ = addFamily(&Family{Name: "stream-join-outer", Make: makeStreamJoin("outer"), Known: streamJoinKnown})
)

func buildStreamJoin(b *Build, n *Node) (any, error) {
	w := windows.Within(0).Before(Ticks(n.Window.Before)).After(Ticks(n.Window.After)).
		Grace(Ticks(n.Window.Grace))
	if n.In[0] == n.In[1] {
		return operators.SelfJoinWindow(n.ID, Valued(b.Stream(n, 0)), w,
			func(l, r Row) Row { return row(l.V, r.V) }), nil
	}
	l, r := Valued(b.Stream(n, 0)), Valued(b.Stream(n, 1))
	switch n.Kind {
	case "left":
		return operators.LeftJoinWindow(n.ID, l, r, w, func(l, r Row, _ bool) Row { return row(l.V, r.V) }), nil
	case "outer":
		return operators.OuterJoinWindow(n.ID, l, r, w,
			func(l Row, _ bool, r Row, _ bool) Row { return row(l.V, r.V) }), nil
	}
	return operators.JoinWindow(n.ID, l, r, w, func(l, r Row) Row { return row(l.V, r.V) }), nil
}

func makeStreamJoin(kind string) func(g Gen) *Case {
	return func(g Gen) *Case {
		n := Node{ID: "j", Op: "join", Kind: kind, In: []string{"l", "r"}, Window: drawJoinWindow(g)}
		m := StreamMix("l", "r")
		m.NullKeys, m.NullValues, m.Jump = 12, 10, 60
		m.Back = int(n.Window.Before+n.Window.After+n.Window.Grace) + 5
		if calm := int(min(n.Window.Before, n.Window.After)); !g.Chance(5) {
			// Nothing comes behind the end of its window, where Kafka Streams goes wrong.
			m.Back, m.Late = max(1, calm), m.Late*min(1, calm)
			if m.Keys = []string{"a", "b"}; kind != "inner" {
				m.Records = 10 // where many wait for a partner, Kafka Streams lets them wait longer
			}
		}
		c := &Case{
			Nodes: []Node{{ID: "l", Op: "stream", Topic: "l"}, {ID: "r", Op: "stream", Topic: "r"}, n},
			Out:   []string{"j"}, Records: g.Records(m),
		}
		if kind != "inner" {
			settleNulls(c.Records)
		}
		return c
	}
}

func drawJoinWindow(g Gen) *Window {
	w := &Window{Kind: "join", Before: 10, After: 10, Grace: Of[int64](g, 0, 0, 5, 20)}
	switch g.IntN(4) {
	case 0:
		w.After = 0
	case 1:
		w.Before = 0
	case 2:
		w.Before, w.After = g.Between(0, 12), g.Between(0, 12)
	}
	return w
}

// streamJoinKnown: Tailrace is right by the model, Kafka Streams does what the model
// does with all defects, and the difference is named for the first defect that makes
// one.
var streamJoinKnown = []Known{
	joinKnown("KAFKA-19536", func(d *joinDefects) { d.lateAlone = true }),
	joinKnown("KAFKA-16123", func(d *joinDefects) { d.takesLate = true }),
	joinKnown("join store boundary", func(d *joinDefects) { d.expires = true }),
	joinKnown("nulls wait", func(d *joinDefects) { d.waits = true }),
	joinKnown("several of a join's defects", func(d *joinDefects) {
		*d = joinDefects{lateAlone: true, takesLate: true, expires: true, waits: true}
	}),
}

func joinKnown(name string, set func(d *joinDefects)) Known {
	return Known{Name: name, Explains: func(c *Case, _ *Diff, kafka, tailrace *Result) bool {
		n := c.Node(c.Out[0])
		right := modelStreamJoin(c, n, joinDefects{})
		all := joinDefects{lateAlone: true, takesLate: true, expires: true, waits: true}
		if Compare(c, modelStreamJoin(c, n, all), kafka) != nil || Compare(c, right, tailrace) != nil {
			return false
		}
		var one joinDefects
		set(&one)
		return Compare(c, modelStreamJoin(c, n, one), right) != nil
	}}
}
