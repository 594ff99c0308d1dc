package kstreams

// Aggregates of tables and of streams without windows.
var (
	_ = addFamily(&Family{Name: "table-aggregate", Make: makeTableAggregate, Known: needlessTimes})
	_ = addFamily(&Family{Name: "stream-aggregate", Make: makeStreamAggregate})
)

func makeTableAggregate(g Gen) *Case {
	n := Node{ID: "g", Op: "aggregate", In: []string{"l"}, By: Of(g, "first", "number", "one", "key", "value")}
	n.Fn = Of(g, "count", "sum", "sorted", "sorted")
	if n.Fn == "sorted" && g.Chance(2) {
		n.Kind = "reduce"
	}
	m := TableMix("l")
	m.NullKeys = 12
	return &Case{
		Nodes: []Node{{ID: "l", Op: "table", Topic: "l"}, n}, Out: []string{"g"}, Records: g.Records(m),
	}
}

// needlessTimes: an update that changes nothing moves the time of its group in Kafka
// Streams.
var needlessTimes = []Known{{
	Name: "needless output",
	Explains: func(c *Case, _ *Diff, kafka, tailrace *Result) bool {
		return sameValues(c, kafka, tailrace) && groupTimes(c, tailrace)
	},
}}

// groupTimes reports whether each output has the largest time of the changes that its
// group has seen.
func groupTimes(c *Case, r *Result) bool {
	n := c.Nodes[1]
	rows, times := map[string]Text{}, map[string]int64{}
	for i, in := range c.Records {
		if in.Key == nil || rows[*in.Key] == textOf(in.Value) {
			continue
		}
		for _, v := range []Text{rows[*in.Key], textOf(in.Value)} {
			if g := keyOf(n.By, text(*in.Key), v); v.Valid {
				times[g.V] = max(times[g.V], in.TS)
			}
		}
		rows[*in.Key] = textOf(in.Value)
		for _, o := range r.Steps[i] {
			if o.TS != times[*o.Key] {
				return false
			}
		}
	}
	return true
}

func makeStreamAggregate(g Gen) *Case {
	n := Node{ID: "g", Op: "aggregate", In: []string{"l"}, By: Of(g, "", "first", "number", "one")}
	n.Fn = Of(g, "count", "sum", "sorted", "concat", "concat")
	if n.Fn == "sorted" || n.Fn == "concat" {
		n.Kind = Of(g, "", "reduce")
	}
	m := StreamMix("l")
	m.NullKeys, m.NullValues = 10, 6
	return &Case{
		Nodes: []Node{{ID: "l", Op: "stream", Topic: "l"}, n}, Out: []string{"g"}, Records: g.Records(m),
	}
}
