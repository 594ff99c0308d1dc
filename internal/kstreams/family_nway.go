package kstreams

import (
	"database/sql"

	"github.com/tailrace/tailrace/operators"
)

// Joins of several tables, which are chains of joins in Kafka Streams and one operator
// here: a Node with Whole takes the place of the joins below it.
var (
	_ = addFamily(&Family{Name: "join-of-three", Make: makeSides(3)})
	_ = addFamily(&Family{Name: "join-of-four", Make: makeSides(4)})
	_ = addFamily(&Family{Name: "two-foreign-keys", Make: makeForeignKeys(2), Known: []Known{
		{Name: "time of a foreign-key result", Explains: onlyTimes("join-foreign-key")},
	}})
	_ = addFamily(&Family{Name: "three-foreign-keys", Make: makeForeignKeys(3), Known: []Known{
		{Name: "time of a foreign-key result", Explains: onlyTimes("join-foreign-key")},
	}})
	_ = addFamily(&Family{Name: "self-join", Make: makeSelfJoin, Known: []Known{
		{Name: "KAFKA-6443", Explains: rightSelfJoin},
	}})
)

// sideKinds are the kinds of joins one after another that a join of sides is the same
// as, with which of the sides may be missing.
var sideKinds = map[int][]struct {
	kinds    []string
	optional []bool
}{
	3: {
		{[]string{"inner", "inner"}, []bool{false, false, false}},
		{[]string{"inner", "left"}, []bool{false, false, true}},
		{[]string{"left", "inner"}, []bool{false, true, false}},
		{[]string{"left", "left"}, []bool{false, true, true}},
		{[]string{"outer", "outer"}, []bool{true, true, true}},
	},
	4: {
		{[]string{"inner", "inner", "inner"}, []bool{false, false, false, false}},
		{[]string{"left", "inner", "left"}, []bool{false, true, false, true}},
		{[]string{"left", "left", "left"}, []bool{false, true, true, true}},
		{[]string{"outer", "outer", "outer"}, []bool{true, true, true, true}},
	},
}

func makeSides(n int) func(g Gen) *Case {
	return func(g Gen) *Case {
		c := &Case{Nodes: []Node{{ID: "t0", Op: "table", Topic: "t0"}}, Out: []string{"j"}}
		shape := Of(g, sideKinds[n]...)
		last := "t0"
		var inputs []string
		for i, kind := range shape.kinds {
			right, id := "t"+string(rune('1'+i)), "j"+string(rune('1'+i))
			inputs = append(inputs, right)
			if i == n-2 {
				id = "j"
			}
			c.Nodes = append(c.Nodes, Node{ID: right, Op: "table", Topic: right},
				Node{ID: id, Op: "join", Kind: kind, In: []string{last, right}})
			last = id
		}
		top := &c.Nodes[len(c.Nodes)-1]
		top.Whole = &Whole{In: append([]string{"t0"}, inputs...), Optional: shape.optional}
		m := TableMix()
		m.Records, m.Keys = 32, []string{"a", "b"}
		c.drawRecords(g, m)
		return c
	}
}

// Whole says that a node stands for itself and the joins below it: what they read, and
// which of it may be missing.
type Whole struct {
	In       []string
	Optional []bool
	By       []string // of foreign keys
}

// buildWhole builds a join of several tables as one operator.
func buildWhole(b *Build, n *Node) (any, error) {
	tables := make([]Table, len(n.Whole.In))
	sides := make([]operators.Side[string, Row], len(n.Whole.In))
	for i, id := range n.Whole.In {
		tables[i] = b.nodes[id].(Table)
		sides[i] = operators.Required(tables[i])
		if n.Whole.Optional[i] {
			sides[i] = operators.Optional(tables[i])
		}
	}
	if n.Op == "join-foreign-key" {
		return buildForeignKeys(n, tables), nil
	}
	type null = sql.Null[Row]
	if len(sides) == 3 {
		return operators.JoinSides3(n.ID, sides[0], sides[1], sides[2],
			func(x, y, z null) Row { return Row{chained(x.V.V, y.V.V, z.V.V)} }), nil
	}
	return operators.JoinSides4(n.ID, sides[0], sides[1], sides[2], sides[3],
		func(w, x, y, z null) Row { return Row{chained(w.V.V, x.V.V, y.V.V, z.V.V)} }), nil
}

// chained is what joins one after another make of some values: a result of nothing but
// nulls is null.
func chained(values ...Text) Text {
	out := values[0]
	for _, v := range values[1:] {
		if out.Valid || v.Valid {
			out = joined(out, v)
		}
	}
	return out
}

// makeForeignKeys draws rows of l that refer to two or three tables by two keys.
func makeForeignKeys(n int) func(g Gen) *Case {
	return func(g Gen) *Case {
		c := &Case{Nodes: []Node{{ID: "l", Op: "table", Topic: "l"}}, Out: []string{"j"}}
		whole := &Whole{In: []string{"l"}, Optional: []bool{false}}
		last := "l"
		for i := range n {
			right, id := "r"+string(rune('1'+i)), "j"+string(rune('1'+i))
			if i == n-1 {
				id = "j"
			}
			kind := Of(g, "inner", "left", "left")
			c.Nodes = append(c.Nodes, Node{ID: right, Op: "table", Topic: right}, Node{
				ID: id, Op: "join-foreign-key", Kind: kind, By: Of(g, "ref", "ref2"), In: []string{last, right},
			})
			whole.By = append(whole.By, c.Nodes[len(c.Nodes)-1].By)
			whole.In, whole.Optional = append(whole.In, right), append(whole.Optional, kind == "left")
			last = id
		}
		c.Nodes[len(c.Nodes)-1].Whole = whole
		m := TableMix()
		m.Keys, m.Records = []string{"x", "y"}, 40
		c.drawRecords(g, m)
		for i := range c.Records {
			r := &c.Records[i]
			if r.Topic == "l" {
				r.Key = pointer(Of(g, "1", "2", "3"))
				if r.Value != nil {
					r.Value = pointer(Of(g, "x/x", "x/y", "y/x", "y/y", "z/x", "x/z"))
				}
			}
		}
		return c
	}
}

func buildForeignKeys(n *Node, in []Table) Table {
	type null = sql.Null[Row]
	references := make([]operators.Reference[Row, string, Row], len(in)-1)
	for i := range references {
		by := n.Whole.By[i]
		references[i] = operators.ReferNull(in[i+1],
			func(r Row) sql.Null[string] { return keyOf(by, Text{}, r.V) })
		if n.Whole.Optional[i+1] {
			references[i] = references[i].Optional()
		}
	}
	if len(references) == 2 {
		return operators.JoinForeignKeys2(n.ID, in[0], references[0], references[1],
			func(l Row, x, y null) Row { return Row{joined(joined(l.V, x.V.V), y.V.V)} })
	}
	return operators.JoinForeignKeys3(n.ID, in[0], references[0], references[1], references[2],
		func(l Row, x, y, z null) Row { return Row{joined(joined(joined(l.V, x.V.V), y.V.V), z.V.V)} })
}

// makeSelfJoin draws a table that is joined with itself, or a table that is joined with
// another twice. Rows seldom go, since each that goes meets the defect.
func makeSelfJoin(g Gen) *Case {
	c := &Case{Nodes: []Node{{ID: "l", Op: "table", Topic: "l"}}, Out: []string{"j"}}
	m := TableMix()
	m.NullValues, m.Records = 16, 12
	if g.Chance(2) {
		c.Nodes = append(c.Nodes, Node{
			ID: "j", Op: "join", Kind: Of(g, "inner", "left", "outer"), In: []string{"l", "l"},
		})
	} else {
		kind := Of(g, "inner", "left")
		c.Nodes = append(c.Nodes, Node{ID: "r", Op: "table", Topic: "r"},
			Node{ID: "i", Op: "join", Kind: kind, In: []string{"l", "r"}},
			Node{ID: "j", Op: "join", Kind: kind, In: []string{"i", "r"}})
		if g.Chance(2) {
			c.Nodes[3].Whole = &Whole{
				In: []string{"l", "r", "r"}, Optional: []bool{false, kind == "left", kind == "left"},
			}
		}
	}
	c.drawRecords(g, m)
	return c
}

// rightSelfJoin explains a difference where Tailrace gives what plain maps give.
func rightSelfJoin(c *Case, _ *Diff, _, tailrace *Result) bool {
	want := &Result{}
	rows := map[string]map[string]timed{}
	result := map[string]Text{}
	for _, in := range c.Records {
		if rows[in.Topic] == nil {
			rows[in.Topic] = map[string]timed{}
		}
		rows[in.Topic][*in.Key] = timed{textOf(in.Value), in.TS}
		l := rows["l"][*in.Key]
		r := l
		if len(c.Nodes) > 2 {
			r = rows["r"][*in.Key]
		}
		now := Text{}
		if kind := c.Node("j").Kind; l.value.Valid && (r.value.Valid || kind == "left") {
			now = joined(l.value, r.value)
			if len(c.Nodes) > 2 {
				now = joined(now, r.value)
			}
		}
		var step []Output
		if now != result[*in.Key] {
			step = []Output{{Node: "j", Key: in.Key, Value: pointerTo(now), TS: max(l.ts, r.ts)}}
		}
		result[*in.Key] = now
		want.Steps = append(want.Steps, step)
	}
	return sameValues(c, want, tailrace)
}
