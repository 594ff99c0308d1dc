package sqloracle

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// sides are the values of up to four sides, each of which may be missing.
type sides struct{ A, B, C, D null }

func some(v int64, has bool) null { return null{V: v, Valid: has} }

func value(s sql.Null[single]) null      { return some(s.V.V, s.Valid) }
func nameOf(c sql.Null[customer]) null   { return some(c.V.Name, c.Valid) }
func productOf(p sql.Null[product]) null { return some(p.V.Name, p.Valid) }

func customerOf(o order) null { return o.Customer }
func productIn(o order) null  { return o.Product }
func parentOf(o order) null   { return o.Parent }
func centsOf(o order) int64   { return o.Cents }

func shown(k int64, s sides) []any { return []any{k, s.A, s.B, s.C, s.D} }

func (s *shop) joins() []check {
	outer := operators.OuterJoinForeignKeyNull("outer", s.orders, s.customers, customerOf,
		func(o order, hasO bool, c customer, hasC bool) sides {
			return sides{A: some(o.Cents, hasO), B: some(c.Name, hasC)}
		})
	three := operators.Join3("three", s.a, s.b2, s.c, func(a, b, c single) sides {
		return sides{A: some(a.V, true), B: some(b.V, true), C: some(c.V, true)}
	})
	full := operators.JoinSides3("full",
		operators.Optional(s.a), operators.Optional(s.b2), operators.Optional(s.c),
		func(a, b, c sql.Null[single]) sides { return sides{A: value(a), B: value(b), C: value(c)} })
	four := operators.JoinSides4("four", operators.Required(s.a), operators.Optional(s.b2),
		operators.Optional(s.c), operators.Required(s.d), func(a, b, c, d sql.Null[single]) sides {
			return sides{value(a), value(b), value(c), value(d)}
		})
	two := operators.JoinForeignKeys2("two", s.orders, operators.ReferNull(s.customers, customerOf),
		operators.ReferNull(s.products, productIn).Optional(),
		func(o order, c sql.Null[customer], p sql.Null[product]) sides {
			return sides{A: some(o.Cents, true), B: nameOf(c), C: productOf(p)}
		})
	refs := operators.JoinForeignKeys3("refs", s.orders, operators.ReferNull(s.customers, customerOf).Optional(),
		operators.ReferNull(s.products, productIn).Optional(), operators.ReferNull(s.orders, parentOf).Optional(),
		func(o order, c sql.Null[customer], p sql.Null[product], up sql.Null[order]) sides {
			return sides{some(o.Cents, true), nameOf(c), productOf(p), some(up.V.Cents, up.Valid)}
		})
	parents := operators.JoinForeignKeyNull("parents", s.orders, s.orders, parentOf,
		func(o, up order) sides { return sides{A: some(o.Cents, true), B: some(up.Cents, true)} })
	self := operators.OuterJoin("self", s.a, operators.Join("ab", s.a, s.b2,
		func(a, b single) single { return single{a.V + b.V} }),
		func(a single, hasA bool, b single, hasB bool) sides {
			return sides{A: some(a.V, hasA), B: some(b.V, hasB)}
		})
	return []check{
		{"outer foreign-key join", rows(outer, func(k operators.EitherKey[int64, int64], s sides) []any {
			return []any{k.Left, k.Right, s.A, s.B}
		}), `select o.id, case when o.id is null then c.id end, o.cents, c.name
			from orders o full join customers c on c.id = o.customer`},
		{"Join3", rows(three, shown), `select id, a.v, b.v, c.v, null from a join b using (id) join c using (id)`},
		{"JoinSides3", rows(full, shown), `select id, a.v, b.v, c.v, null
			from a full join b using (id) full join c using (id)`},
		{"JoinSides4", rows(four, shown), `select id, a.v, b.v, c.v, d.v
			from a join d using (id) left join b using (id) left join c using (id)`},
		{"JoinForeignKeys2", rows(two, shown), `select o.id, o.cents, c.name, p.name, null
			from orders o join customers c on c.id = o.customer left join products p on p.id = o.product`},
		{"JoinForeignKeys3", rows(refs, shown), `select o.id, o.cents, c.name, p.name, up.cents
			from orders o left join customers c on c.id = o.customer left join products p on p.id = o.product
			left join orders up on up.id = o.parent`},
		{"self foreign-key join", rows(parents, shown), `select o.id, o.cents, up.cents, null, null
			from orders o join orders up on up.id = o.parent`},
		{"self join", rows(self, shown), `select a.id, a.v, a.v + b.v, null, null from a left join b using (id)`},
	}
}

// groups are aggregates by customer, NULL among them.
func (s *shop) groups() []check {
	by := operators.GroupBy(s.orders, func(_ int64, o order) null { return o.Customer })
	cents := operators.GroupBy(operators.MapValues(s.orders, func(_ int64, o order) int64 { return o.Cents }),
		func(k, _ int64) int64 { return k % 4 })
	reduced := operators.Aggregate("reduced", cents, aggregate.ReduceTable(
		func(a, v int64) int64 { return a + v }, func(a, v int64) int64 { return a - v }))
	top := operators.Aggregate("top", by, aggregate.TopN(2, centsOf, centsOf))
	all := operators.Aggregate("all", by, aggregate.Collect(centsOf, centsOf))
	list := func(k null, v []int64) []any { return []any{k, strings.Trim(fmt.Sprint(v), "[]")} }
	return []check{
		{"ReduceTable", rows(reduced, func(k, v int64) []any { return []any{k, v} }),
			`select id % 4, sum(cents) from orders group by 1`},
		{"TopN", rows(top, list), `select customer, string_agg(cents::text, ' ' order by cents desc, id)
			from (select *, row_number() over (partition by customer order by cents desc, id) n from orders)
			where n <= 2 group by 1`},
		{"Collect", rows(all, list), `select customer, string_agg(cents::text, ' ' order by cents, id)
			from orders group by 1`},
	}
}

// total is the result of a windowed aggregate.
type total struct{ N, Cents int64 }

// windows are aggregates over a time in the rows, which are corrected, moved and deleted.
func (s *shop) windows(t *testing.T) []check {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	by := operators.GroupBy(s.orders, func(_ int64, o order) null { return o.Customer })
	in := func(name string, def windows.Definition) func(*topologytest.Driver) [][]string {
		agg := aggregate.Combine2(aggregate.Count[order](), aggregate.Sum(centsOf),
			func(n, cents int64) total { return total{n, cents} })
		table := operators.Aggregate(name, operators.WindowBy(by, def, order.when), agg)
		return rows(table, func(k windows.Windowed[null], v total) []any {
			return []any{k.Key, k.Window.StartTime().Unix(), k.Window.EndTime().Unix(), v.N, v.Cents}
		})
	}
	const query = `select customer, extract(epoch from low)::bigint, extract(epoch from high)::bigint, count(*), sum(cents)
		from orders cross join lateral (%s) w group by 1, 2, 3`
	return []check{
		{"tumbling", in("tumbling", windows.Tumbling(6*time.Hour)), fmt.Sprintf(query,
			`select x low, x + '6 h' high from date_bin('6 h', to_timestamp(at), to_timestamp(0)) x`)},
		{"hopping", in("hopping", windows.Hopping(12*time.Hour, 3*time.Hour)), fmt.Sprintf(query,
			`select x low, x + '12 h' high from generate_series(
			date_bin('3 h', to_timestamp(at), to_timestamp(0)) - interval '9 h', to_timestamp(at), '3 h') x`)},
		{"days", in("days", windows.Days(berlin)), fmt.Sprintf(query,
			`select x low, date_trunc('day', x + '36 h', 'Europe/Berlin') high
			from date_trunc('day', to_timestamp(at), 'Europe/Berlin') x`)},
	}
}

// asOf joins clicks to customers as of the clicks' times, in the versions that there are
// after the transaction.
func (s *shop) asOf() func(*topologytest.Driver) [][]string {
	customers := operators.Versioned("versions", s.customers, 1000*time.Hour)
	met := operators.LeftEnrichAsOf("met", s.clicks, customers, func(c click) int64 { return c.Customer },
		func(_ click, c customer, has bool) null { return some(c.Name, has) })
	return func(d *topologytest.Driver) (out [][]string) {
		for _, r := range topologytest.Records(d, met) {
			out = append(out, line([]any{r.Key, r.Value}))
		}
		return out
	}
}

const asOfSQL = `select k.id, (select name from versions v where v.id = k.customer and v.at <= k.at
	order by v.at desc, v.seq desc limit 1) from clicks k where k.id >= %d`
