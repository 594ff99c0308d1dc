package kstreams

// The joins of two tables on their keys.
var (
	_ = addFamily(&Family{Name: "table-join-inner", Make: makeTableJoin("inner")})
	_ = addFamily(&Family{Name: "table-join-left", Make: makeTableJoin("left")})
	_ = addFamily(&Family{Name: "table-join-outer", Make: makeTableJoin("outer")})
)

func makeTableJoin(kind string) func(g Gen) *Case {
	return func(g Gen) *Case {
		return &Case{
			Nodes: []Node{
				{ID: "l", Op: "table", Topic: "l"},
				{ID: "r", Op: "table", Topic: "r"},
				{ID: "j", Op: "join", Kind: kind, In: []string{"l", "r"}, Store: g.Chance(2)},
			},
			Out:     []string{"j"},
			Records: g.Records(TableMix("l", "r")),
		}
	}
}
