package kstreams

// Joins of a stream with a table, and with a global table.
var (
	_ = addFamily(&Family{Name: "stream-table-inner", Make: makeStreamTable("inner", "table")})
	_ = addFamily(&Family{Name: "stream-table-left", Make: makeStreamTable("left", "table")})
	_ = addFamily(&Family{Name: "stream-global-inner", Make: makeStreamTable("inner", "global")})
	_ = addFamily(&Family{Name: "stream-global-left", Make: makeStreamTable("left", "global")})
)

func makeStreamTable(kind, table string) func(g Gen) *Case {
	return func(g Gen) *Case {
		j := Node{ID: "j", Op: "join", Kind: kind, In: []string{"l", "r"}}
		if table == "global" {
			j.By = Of(g, "key", "first", "value")
		}
		c := &Case{
			Nodes: []Node{{ID: "l", Op: "stream", Topic: "l"}, {ID: "r", Op: table, Topic: "r"}, j},
			Out:   []string{"j"},
		}
		m := TableMix("l", "r")
		m.Values = []string{"a", "b", "c1", "c2", "d"}
		m.NullKeys = 10
		c.Records = g.Records(m)
		return c
	}
}
