package operators_test

import (
	"database/sql"
	"fmt"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// The joins of several tables of TestRandomTables, and their oracles.

// tuple is what a joiner of several tables is given.
type tuple [4]sql.Null[row]

func some(r row) sql.Null[row] { return sql.Null[row]{V: r, Valid: true} }

func (tp tuple) join() row {
	out := row{S: "n"}
	for i, r := range tp {
		if !r.Valid {
			out.S += fmt.Sprint("-", i)
			continue
		}
		out.A = out.A*1_000_003 + r.V.A + 1
		out.B += r.V.B
		out.F = r.V.F
	}
	return out
}

// addTuples adds a node with what its joiner is given, by key.
func (g *graph) addTuples(
	name string, table topology.Table[int64, row], tuples func(w *world) map[int64]tuple,
) *randomNode {
	n := g.add(name, table, func(w *world) rowMap {
		out := rowMap{}
		for k, tp := range tuples(w) {
			out[k] = tp.join()
		}
		return out
	})
	n.seen = func(w *world) map[any]bool {
		set := map[any]bool{}
		for _, tp := range tuples(w) {
			set[tp] = true
		}
		return set
	}
	return n
}

// addSides joins three or four tables on their keys.
func (g *graph) addSides(t *rapid.T) {
	var in [4]*randomNode
	var optional [4]bool
	var sides [4]operators.Side[int64, row]
	for i := range in {
		in[i], optional[i] = g.pick(t), rapid.Bool().Draw(t, "optional")
		sides[i] = operators.Required(in[i].table)
		if optional[i] {
			sides[i] = operators.Optional(in[i].table)
		}
	}
	n := rapid.IntRange(3, 4).Draw(t, "sides")
	var self *randomNode
	var table topology.Table[int64, row]
	see := func(tp tuple) row {
		g.see(self, tp)
		return tp.join()
	}
	type null = sql.Null[row]
	inner := true
	for _, o := range optional[:n] {
		inner = inner && !o
	}
	switch name := g.name("sides"); {
	case n == 3 && inner:
		table = operators.Join3(name, in[0].table, in[1].table, in[2].table,
			func(a, b, c row) row { return see(tuple{some(a), some(b), some(c)}) })
	case n == 3:
		table = operators.JoinSides3(name, sides[0], sides[1], sides[2],
			func(a, b, c null) row { return see(tuple{a, b, c}) })
	case inner:
		table = operators.Join4(name, in[0].table, in[1].table, in[2].table, in[3].table,
			func(a, b, c, d row) row { return see(tuple{some(a), some(b), some(c), some(d)}) })
	default:
		table = operators.JoinSides4(name, sides[0], sides[1], sides[2], sides[3],
			func(a, b, c, d null) row { return see(tuple{a, b, c, d}) })
	}
	self = g.addTuples(fmt.Sprintf("join of %d sides", n), table, func(w *world) map[int64]tuple {
		out := map[int64]tuple{}
		for _, x := range in[:n] {
		keys:
			for k := range x.rows(w) {
				var tp tuple
				for i := range n {
					r, ok := in[i].rows(w)[k]
					if tp[i] = (null{V: r, Valid: ok}); !ok && !optional[i] {
						continue keys
					}
				}
				out[k] = tp
			}
		}
		return out
	})
}

// addForeignKeys joins a table to two or three others.
func (g *graph) addForeignKeys(t *rapid.T, left *randomNode) {
	type null = sql.Null[row]
	var to [3]*randomNode
	var optional, nullable [3]bool
	var references [3]operators.Reference[row, int64, row]
	fk := func(i int, r row) int64 { return (r.B + int64(i)) % 6 }
	for i := range to {
		to[i] = g.pick(t)
		optional[i], nullable[i] = rapid.Bool().Draw(t, "optional"), rapid.Bool().Draw(t, "nullable")
		references[i] = operators.Refer(to[i].table, func(r row) int64 { return fk(i, r) })
		if nullable[i] {
			references[i] = operators.ReferNull(to[i].table, func(r row) sql.Null[int64] { return r.F })
		}
		if optional[i] {
			references[i] = references[i].Optional()
		}
	}
	n := rapid.IntRange(2, 3).Draw(t, "references")
	var self *randomNode
	var table topology.Table[int64, row]
	see := func(tp tuple) row {
		g.see(self, tp)
		return tp.join()
	}
	name := g.name("foreign-keys")
	if n == 2 {
		table = operators.JoinForeignKeys2(name, left.table, references[0], references[1],
			func(l row, a, b null) row { return see(tuple{some(l), a, b}) })
	} else {
		table = operators.JoinForeignKeys3(name, left.table,
			references[0], references[1], references[2],
			func(l row, a, b, c null) row {
				return see(tuple{some(l), a, b, c})
			})
	}
	name = fmt.Sprintf("%d foreign keys of (%s)", n, left.name)
	self = g.addTuples(name, table, func(w *world) map[int64]tuple {
		out := map[int64]tuple{}
	rows:
		for k, l := range left.rows(w) {
			tp := tuple{{V: l, Valid: true}}
			for i := range n {
				f, ok := fk(i, l), true
				if nullable[i] {
					f, ok = l.F.V, l.F.Valid
				}
				var r row
				if ok {
					r, ok = to[i].rows(w)[f]
				}
				if tp[i+1] = (null{V: r, Valid: ok}); !ok && !optional[i] {
					continue rows
				}
			}
			out[k] = tp
		}
		return out
	})
}

// addOuterForeign adds an outer foreign-key join, whose rows have keys of their own type.
func (g *graph) addOuterForeign(t *rapid.T, x, y *randomNode) {
	nullable := rapid.Bool().Draw(t, "nullable")
	type either = operators.EitherKey[int64, int64]
	fk := func(r row) sql.Null[int64] { return sql.Null[int64]{V: r.B % 6, Valid: true} }
	pairs := func(w *world) map[either]pair {
		out, referred := map[either]pair{}, map[int64]bool{}
		for k, l := range x.rows(w) {
			var r row
			has := false
			if f := fk(l); f.Valid {
				r, has = y.rows(w)[f.V]
				referred[f.V] = true
			}
			out[operators.LeftKey[int64, int64](k)] = pair{l, r, true, has}
		}
		for k, r := range y.rows(w) {
			if !referred[k] {
				out[operators.RightKey[int64](k)] = pair{row{}, r, false, true}
			}
		}
		return out
	}
	name := fmt.Sprintf("outer-foreign-%d", len(g.more))
	// The node takes a number of its own, beside those that others can read.
	self := &randomNode{id: -1 - len(g.more), name: name, seen: func(w *world) map[any]bool {
		set := map[any]bool{}
		for _, p := range pairs(w) {
			set[p] = true
		}
		return set
	}}
	f := g.check(&self)
	var table topology.Table[either, row]
	if nullable {
		fk = func(r row) sql.Null[int64] { return r.F }
		table = operators.OuterJoinForeignKeyNull(name, x.table, y.table, fk, f)
	} else {
		table = operators.OuterJoinForeignKey(name, x.table, y.table, func(r row) int64 { return fk(r).V }, f)
	}
	g.more = append(g.more, func(d *topologytest.Driver, w *world) string {
		want := map[either]row{}
		for k, p := range pairs(w) {
			want[k] = joined(p.l, p.hasL, p.r, p.hasR)
		}
		if diff := cmp.Diff(want, topologytest.Rows(d, table)); diff != "" {
			return fmt.Sprintf("outer foreign key join of (%s) and (%s): %s", x.name, y.name, diff)
		}
		return ""
	})
}
