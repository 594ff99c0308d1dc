package kstreams

import (
	"fmt"
	"slices"

	"github.com/tailrace/tailrace/operators"
)

// Suppress: until a time limit over tables and aggregates, and until windows close.
var (
	_ = addOp("suppress", buildSuppress)

	_ = addFamily(&Family{Name: "suppress-limit", Make: makeSuppressLimit})
	_ = addFamily(&Family{Name: "suppress-close", Make: makeSuppressClose("tumbling", "hopping")})
	_ = addFamily(&Family{
		Name: "suppress-close-late", Make: makeSuppressClose("sliding", "session"), Known: suppressKnown,
	})
)

func buildSuppress(b *Build, n *Node) (any, error) {
	if n.Close {
		def := definition(b.Case.Node(n.In[0]).Window)
		return operators.SuppressUntilWindowCloses(n.ID, b.Input(n, 0).(WindowedTable), def), nil
	}
	var opts []operators.SuppressOption
	if n.Max > 0 {
		opts = append(opts, operators.MaxRecords(int(n.Max)))
	}
	return operators.SuppressUntilTimeLimit(n.ID, b.Table(n, 0), Ticks(n.Limit), opts...), nil
}

// makeSuppressLimit draws rows that change with every record: one that stays as it is
// is no change here, and in Kafka Streams makes its key wait again.
func makeSuppressLimit(g Gen) *Case {
	c := &Case{Nodes: []Node{{ID: "l", Op: "table", Topic: "l"}}, Out: []string{"s"}}
	n := Node{ID: "s", Op: "suppress", In: []string{"l"}, Limit: Of[int64](g, 0, 2, 5, 15)}
	if g.Chance(3) {
		n.Max = g.Between(1, 3)
	}
	if g.Chance(2) {
		// Of a stream: a row of a table that moves is two changes in Kafka Streams, and the
		// first lets out what the second changes.
		c.Nodes = []Node{
			{ID: "l", Op: "stream", Topic: "l"},
			{ID: "g", Op: "aggregate", In: []string{"l"}, By: Of(g, "first", ""), Fn: "sorted"},
		}
		n.In = []string{"g"}
	}
	c.Nodes = append(c.Nodes, n)
	m := TableMix("l")
	m.Keys, m.Jump = []string{"a", "b", "c"}, 30
	c.Records = g.Records(m)
	there := map[string]bool{}
	for i := range c.Records {
		r := &c.Records[i]
		if r.Value != nil {
			r.Value = pointer(fmt.Sprintf("%s%d", Of(g, "x", "y"), 100+i))
		} else if !there[*r.Key] || n.In[0] == "g" {
			r.Value = pointer(fmt.Sprintf("z%d", 100+i))
		}
		there[*r.Key] = r.Value != nil
	}
	return c
}

func makeSuppressClose(kinds ...string) func(g Gen) *Case {
	return func(g Gen) *Case {
		kind := Of(g, kinds...)
		c := makeWindows(kind, false)(g)
		w := c.Node("g")
		if w.Retention = 1000; kind == "session" {
			w.Retention = w.Window.Size + w.Window.Grace + 1 // so that what has closed is final
		}
		c.Nodes = append(c.Nodes, Node{ID: "s", Op: "suppress", In: []string{"g"}, Close: true})
		c.Out = []string{"s"}
		settleNulls(c.Records)
		// Kafka Streams releases sliding windows a moment and sessions a gap earlier than
		// they close; in the end there is the same, but where that was too early.
		if c.Final = kind == "sliding" || kind == "session"; c.Final {
			c.Records = append(c.Records, Input{Topic: "l", Key: pointer(Flush), Value: pointer("a1"), TS: 100_000})
		}
		return c
	}
}

// suppressKnown: what went out of a sliding window or a session was not all of it; and
// the aggregate's own faults.
var suppressKnown = []Known{
	{Name: "suppress is not final", Explains: rightSuppressed(func(c *Case, d *Diff, kafka, _ *Result) bool {
		return moreThanOnce(kafka) || earlySession(c, d)
	})},
	{Name: "sliding forgets", Explains: rightSuppressed(slidingForgets)},
	{Name: "sliding takes too much", Explains: rightSuppressed(slidingTakes)},
}

// rightSuppressed holds where Tailrace puts out what is right when windows close, and
// also more holds.
func rightSuppressed(
	more func(c *Case, d *Diff, kafka, tailrace *Result) bool,
) func(c *Case, d *Diff, kafka, tailrace *Result) bool {
	return func(c *Case, d *Diff, kafka, tailrace *Result) bool {
		n := *c.Node("g")
		n.ID, n.Close = "s", true
		return Compare(c, modelWindows(c, &n), tailrace) == nil && more(c, d, kafka, tailrace)
	}
}

// moreThanOnce reports whether a window went out twice.
func moreThanOnce(r *Result) bool {
	seen := map[string]bool{}
	for _, step := range r.Steps {
		for _, o := range step {
			if seen[o.key()] {
				return true
			}
			seen[o.key()] = true
		}
	}
	return false
}

// earlySession reports whether Kafka Streams has all that is right and, beside it, only
// parts of sessions.
func earlySession(c *Case, d *Diff) bool {
	return c.Node("g").Window.Kind == "session" && !slices.ContainsFunc(d.Tailrace, func(o string) bool {
		return !slices.Contains(d.Kafka, o)
	})
}
