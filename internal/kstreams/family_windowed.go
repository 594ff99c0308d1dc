package kstreams

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

// Aggregates over hopping, sliding and session windows, and over windows that emit when
// they close.
var (
	_ = addWindows("tumbling", buildWindows)
	_ = addWindows("hopping", buildWindows)
	_ = addWindows("sliding", buildWindows)
	_ = addWindows("session", buildWindows)

	_ = addFamily(&Family{Name: "tumbling", Make: makeWindows("tumbling", false)})
	_ = addFamily(&Family{Name: "hopping", Make: makeWindows("hopping", false)})
	_ = addFamily(&Family{Name: "sliding", Make: makeWindows("sliding", false), Known: slidingKnown})
	_ = addFamily(&Family{Name: "session", Make: makeWindows("session", false), Known: sessionKnown})
	_ = addFamily(&Family{Name: "tumbling-close", Make: makeWindows("tumbling", true), Known: closeKnown})
	_ = addFamily(&Family{Name: "hopping-close", Make: makeWindows("hopping", true), Known: closeKnown})
	_ = addFamily(&Family{Name: "sliding-close", Make: makeWindows("sliding", true), Known: closeKnown})
	_ = addFamily(&Family{Name: "session-close", Make: makeWindows("session", true), Known: closeKnown})
)

// definition makes the windows of a node.
func definition(w *Window) windows.Definition {
	size, grace := Ticks(w.Size), Ticks(w.Grace)
	switch w.Kind {
	case "tumbling":
		return windows.Tumbling(size).Grace(grace)
	case "hopping":
		return windows.Hopping(size, Ticks(w.Advance)).Grace(grace)
	case "sliding":
		return windows.Sliding(size).Grace(grace)
	case "session":
		return windows.Session(size).Grace(grace)
	}
	panic(fmt.Errorf("there are no %s windows", w.Kind))
}

func buildWindows(n *Node, in topology.Stream[string, Row]) (any, error) {
	if n.Window.Kind == "sliding" {
		in = Valued(in)
	}
	return aggregateOf(n, operators.Window(operators.GroupByKey(in), definition(n.Window)), onClose(n)...)
}

func onClose(n *Node) []operators.AggregateOption {
	if n.Close {
		return []operators.AggregateOption{operators.EmitOnClose()}
	}
	return nil
}

func makeWindows(kind string, onClose bool) func(g Gen) *Case {
	return func(g Gen) *Case {
		w := &Window{Kind: kind, Size: Of[int64](g, 5, 10, 16), Grace: Of[int64](g, 0, 0, 3, 12)}
		if kind == "hopping" {
			w.Advance = Of(g, 2, 4, w.Size/2, w.Size)
		}
		n := Node{ID: "g", Op: "aggregate", In: []string{"l"}, Window: w, Close: onClose}
		n.Fn = Of(g, "count", "sum", "sorted", "concat", "concat")
		m := StreamMix("l")
		m.Back, m.Jump, m.NullValues = int(w.Size+w.Grace)+5, 40, 8
		if g.Chance(2) || onClose && g.Chance(2) {
			n.Retention = 1000 // with its own default Kafka Streams loses windows on close
		}
		if kind == "session" && !onClose {
			// With a longer one it extends sessions that have closed; here those are final.
			n.Retention = 0
		}
		if n.Fn == "concat" && kind == "session" {
			n.Fn = "sorted" // sessions that merge say nothing of the order of their records
		}
		if n.Fn == "concat" || n.Fn == "sorted" {
			n.Kind = Of(g, "", "reduce")
		}
		if n.Kind == "reduce" {
			// Where the first value is null Kafka Streams has no aggregate: a reduce of null
			// is a question nobody asks.
			m.NullValues = 0
		}
		c := &Case{Nodes: []Node{{ID: "l", Op: "stream", Topic: "l"}, n}, Out: []string{"g"}}
		c.Records = g.Records(m)
		if kind == "sliding" {
			settleNulls(c.Records) // they are dropped, so that time passes only here
		}
		return c
	}
}

// slidingKnown: Kafka Streams starts a new window with what an older one holds. Where a
// record came when windows of it had closed, it forgets what no older window holds, or
// takes over what does not lie in the new one.
var slidingKnown = []Known{
	{Name: "sliding forgets", Explains: rightByModel(slidingForgets)},
	{Name: "sliding takes too much", Explains: rightByModel(slidingTakes)},
}

func slidingForgets(c *Case, d *Diff, _, _ *Result) bool {
	return c.behind() && lessIn(d.Kafka, d.Tailrace, c.Node("g").Fn)
}

func slidingTakes(c *Case, d *Diff, _, _ *Result) bool {
	return c.behind() && !lessIn(d.Kafka, d.Tailrace, c.Node("g").Fn)
}

// behind reports whether some record came when the sliding window that ends with it had
// closed.
func (c *Case) behind() bool {
	w, newest := c.Node("g").Window, int64(0)
	for _, r := range c.Records {
		if w.Kind == "sliding" && r.TS+w.Grace < newest {
			return true
		}
		newest = max(newest, r.TS)
	}
	return false
}

// sessionKnown: with the default retention Kafka Streams' store has forgotten a session
// at the last moment at which its operator would still extend it.
var sessionKnown = []Known{
	{Name: "session store boundary", Explains: rightByModel(func(c *Case, d *Diff, _, _ *Result) bool {
		return c.Node("g").Retention == 0 && boundary(c)
	})},
}

// boundary reports whether a record came at the moment when a session is last open.
func boundary(c *Case) bool {
	w, newest := c.Node("g").Window, int64(0)
	at := map[int64]bool{}
	for _, r := range c.Records {
		newest = max(newest, r.TS)
		at[r.TS] = true
		if at[newest-w.Size-w.Grace] {
			return true
		}
	}
	return false
}

// closeKnown: windows are lost, or come twice where they are sessions.
var closeKnown = []Known{
	{Name: "windows lost on close", Explains: rightByModel(func(c *Case, _ *Diff, kafka, tailrace *Result) bool {
		return c.Node("g").Retention == 0 && subset(c, kafka, tailrace)
	})},
	{Name: "sliding forgets", Explains: rightByModel(slidingForgets)},
	{Name: "sliding takes too much", Explains: rightByModel(slidingTakes)},
	{Name: "session on close is not final", Explains: rightByModel(func(c *Case, _ *Diff, _, _ *Result) bool {
		return c.Node("g").Window.Kind == "session"
	})},
}

// rightByModel holds where Tailrace does what the model does, and also more holds.
func rightByModel(
	more func(c *Case, d *Diff, kafka, tailrace *Result) bool,
) func(c *Case, d *Diff, kafka, tailrace *Result) bool {
	return func(c *Case, d *Diff, kafka, tailrace *Result) bool {
		right := modelWindows(c, c.Node("g"))
		return Compare(c, right, tailrace) == nil && kafka.Error == "" && more(c, d, kafka, tailrace)
	}
}

// subset reports whether Kafka Streams put out nothing that Tailrace did not, in the
// same step.
func subset(c *Case, kafka, tailrace *Result) bool {
	k, t := net(c, kafka, "g", true), net(c, tailrace, "g", true)
	for i := range k {
		for _, o := range k[i] {
			if !slices.Contains(t[i], o) {
				return false
			}
		}
	}
	return true
}

// lessIn reports whether every output of less is in more, or there is one of the same
// window with more records in it.
func lessIn(less, more []string, fn string) bool {
	return !slices.ContainsFunc(less, func(l string) bool {
		return !slices.ContainsFunc(more, func(m string) bool { return l == m || part(l, m, fn) })
	})
}

// part reports whether one output of a window is of some of the records of another.
func part(less, more, fn string) bool {
	window, l, _ := strings.Cut(untimed(less), "=")
	other, m, _ := strings.Cut(untimed(more), "=")
	if window != other {
		return false
	}
	if fn == "count" || fn == "sum" {
		a, errA := strconv.Atoi(l)
		b, errB := strconv.Atoi(m)
		return errA == nil && errB == nil && a <= b
	}
	all := strings.Split(m, "+")
	for _, v := range strings.Split(l, "+") {
		i := slices.Index(all, v)
		if i < 0 {
			return false
		}
		all = slices.Delete(all, i, i+1)
	}
	return true
}

// untimed is an output's text without the time.
func untimed(output string) string {
	text, _, _ := strings.Cut(output, "@")
	return text
}
