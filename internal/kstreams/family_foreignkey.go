package kstreams

// Foreign-key joins: left rows refer to the row of right before their slash.
var (
	_ = addFamily(&Family{Name: "foreign-key-inner", Make: makeForeignKey("inner"), Known: foreignKeyTimes})
	_ = addFamily(&Family{Name: "foreign-key-left", Make: makeForeignKey("left"), Known: foreignKeyTimes})
)

func makeForeignKey(kind string) func(g Gen) *Case {
	return func(g Gen) *Case {
		c := &Case{
			Nodes: []Node{
				{ID: "l", Op: "table", Topic: "l"},
				{ID: "r", Op: "table", Topic: "r"},
				{ID: "j", Op: "join-foreign-key", Kind: kind, By: "ref", In: []string{"l", "r"}},
			},
			Out: []string{"j"},
		}
		c.Records = g.foreignKeyRecords(12, 24)
		return c
	}
}

// foreignKeyRecords draws rows of l that refer to rows of r, or to none with a null
// key once in so many.
func (g Gen) foreignKeyRecords(nullKeys, most int) []Input {
	m := TableMix("l", "r")
	m.Keys = []string{"x", "y", "z"}
	m.Records = most
	records := g.Records(m)
	for i := range records {
		r := &records[i]
		if r.Topic == "l" {
			r.Key = pointer(Of(g, "1", "2", "3", "4"))
			if r.Value != nil {
				r.Value = pointer(Of(g, "x/1", "x/2", "y/1", "y/2", "z/1", "w/1"))
				if g.Chance(nullKeys) {
					r.Value = pointer("none")
				}
			}
		}
	}
	return records
}

// foreignKeyTimes: where the right row came last, Kafka Streams gives the result that
// row's time, even if the left row is younger. The same two rows that come in the other
// order give the later time, as in every other join, and here always.
var foreignKeyTimes = []Known{{
	Name: "time of a foreign-key result",
	Explains: func(c *Case, _ *Diff, kafka, tailrace *Result) bool {
		return sameValues(c, kafka, tailrace) && Compare(c, joinForeignKeys(c), tailrace) == nil
	},
}}

// timed is a row of a table with its time.
type timed struct {
	value Text
	ts    int64
}

// joinForeignKeys computes the join with maps, all of it after each record.
func joinForeignKeys(c *Case) *Result {
	j := c.Nodes[2]
	left, right, result := map[string]timed{}, map[string]timed{}, map[string]timed{}
	out := &Result{}
	for _, in := range c.Records {
		var step []Output
		before, side := left[*in.Key], left
		if in.Topic == "r" {
			side = right
		}
		side[*in.Key] = timed{textOf(in.Value), in.TS}
		for _, key := range sortedKeys(left) {
			l, r := left[key], timed{}
			if fk := keyOf(j.By, Text{}, l.value); fk.Valid {
				r = right[fk.V]
			}
			now := timed{ts: max(l.ts, r.ts)}
			if l.value.Valid && (r.value.Valid || j.Kind == "left") {
				now.value = joined(l.value, r.value)
			}
			if fk := keyOf(j.By, Text{}, before.value); in.Topic == "l" && fk != keyOf(j.By, Text{}, l.value) {
				now.ts = max(l.ts, presentTime(r))
			}
			if now.value != result[key].value {
				step = append(step, Output{
					Node: j.ID, Key: pointer(key), Value: pointerTo(now.value), TS: now.ts,
				})
			}
			result[key] = now
		}
		out.Steps = append(out.Steps, step)
	}
	return out
}

// presentTime is the time of a row that is there.
func presentTime(t timed) int64 {
	if !t.value.Valid {
		return 0
	}
	return t.ts
}
