package algebra

import (
	"database/sql"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/windows"
)

// Cases are all operators, those over tables first. A new operator adds a case.
func Cases() []Case {
	cases := append(tableCases(), joinCases()...)
	cases = append(append(cases, aggregateCases()...), timeCases()...)
	cases = append(append(cases, streamCases()...), enrichCases()...)
	return append(append(cases, windowCases()...), pairCases()...)
}

func tableCases() []Case {
	return []Case{
		{Name: "source", add: func(*shop) {}},
		{Name: "filter", add: func(s *shop) {
			drainTable(operators.Filter(s.orders, func(_ int64, o Order) bool { return o.Cents%5 != 0 }))
		}},
		{Name: "map-values", add: func(s *shop) {
			drainTable(operators.MapValues(s.orders, func(_ int64, o Order) int64 { return o.Cents }))
		}},
		{Name: "map-values-twice-read", add: func(s *shop) {
			cents := operators.MapValues(s.orders, func(_ int64, o Order) int64 { return o.Cents })
			drainTable(cents)
			drainTable(cents)
		}},
		{Name: "to-stream", add: func(s *shop) { drainStream(operators.ToStream("stream", s.orders)) }},
	}
}

func joinCases() []Case {
	return []Case{
		{Name: "join", add: func(s *shop) {
			drainTable(operators.Join("join", s.orders, s.customers, line))
		}},
		{Name: "left-join", add: func(s *shop) {
			drainTable(operators.LeftJoin("join", s.orders, s.customers,
				func(o Order, c Customer, _ bool) int64 { return line(o, c) }))
		}},
		{Name: "outer-join", add: func(s *shop) {
			drainTable(operators.OuterJoin("join", s.orders, s.customers,
				func(o Order, _ bool, c Customer, _ bool) int64 { return line(o, c) }))
		}},
		{Name: "join-3", add: func(s *shop) {
			drainTable(operators.Join3("join", s.orders, s.orders, s.orders,
				func(a, b, c Order) int64 { return a.Cents + b.Cents + c.Cents }))
		}},
		{Name: "join-sides-3", add: func(s *shop) {
			drainTable(operators.JoinSides3("join", operators.Required(s.orders), operators.Optional(s.customers),
				operators.Required(s.orders),
				func(o sql.Null[Order], c sql.Null[Customer], _ sql.Null[Order]) int64 { return line(o.V, c.V) }))
		}},
		{Name: "join-sides-4", add: func(s *shop) {
			drainTable(operators.JoinSides4("join", operators.Required(s.orders), operators.Optional(s.customers),
				operators.Required(s.orders), operators.Optional(s.orders),
				func(o sql.Null[Order], c sql.Null[Customer], _, _ sql.Null[Order]) int64 { return line(o.V, c.V) }))
		}},
		{Name: "join-foreign-key", add: func(s *shop) {
			drainTable(operators.JoinForeignKey("join", s.orders, s.customers, customerOf, line))
		}},
		{Name: "left-join-foreign-key", add: func(s *shop) {
			drainTable(operators.LeftJoinForeignKey("join", s.orders, s.customers, customerOf,
				func(o Order, c Customer, _ bool) int64 { return line(o, c) }))
		}},
		{Name: "join-foreign-key-fan-out", add: func(s *shop) {
			// Orders that refer to orders: a change of one changes those that refer to it.
			drainTable(operators.JoinForeignKey("join", s.orders, s.orders, customerOf,
				func(a, b Order) int64 { return a.Cents + b.Cents }))
		}},
		{Name: "outer-join-foreign-key", add: func(s *shop) {
			drainTable(operators.OuterJoinForeignKey("join", s.orders, s.customers, customerOf,
				func(o Order, _ bool, c Customer, _ bool) int64 { return line(o, c) }))
		}},
		{Name: "join-foreign-keys-2", add: func(s *shop) {
			drainTable(operators.JoinForeignKeys2("join", s.orders, operators.Refer(s.customers, customerOf),
				operators.Refer(s.customers, func(o Order) int64 { return o.Cents % customers }),
				func(o Order, c, _ sql.Null[Customer]) int64 { return line(o, c.V) }))
		}},
		{Name: "join-foreign-keys-3", add: func(s *shop) {
			drainTable(operators.JoinForeignKeys3("join", s.orders, operators.Refer(s.customers, customerOf),
				operators.Refer(s.customers, func(o Order) int64 { return o.Cents % customers }),
				operators.Refer(s.customers, func(o Order) int64 { return o.Cents % 7 }),
				func(o Order, c, _, _ sql.Null[Customer]) int64 { return line(o, c.V) }))
		}},
	}
}

func aggregateCases() []Case {
	return []Case{
		{Name: "count", add: aggregated(aggregate.Count[Order]())},
		{Name: "sum", add: aggregated(aggregate.Sum(centsOf))},
		{Name: "sum-float", add: aggregated(
			aggregate.SumFloat(func(o Order) float64 { return float64(o.Cents) / 100 }))},
		{Name: "avg-float", add: aggregated(
			aggregate.AvgFloat(func(o Order) float64 { return float64(o.Cents) / 100 }))},
		{Name: "count-and-sum", add: aggregated(aggregate.Combine2(aggregate.Count[Order](), aggregate.Sum(centsOf),
			func(n, cents int64) Order { return Order{n, cents} }))},
		{Name: "reduce-table", add: func(s *shop) {
			drainTable(operators.Aggregate("aggregate",
				operators.GroupBy(operators.MapValues(s.orders, func(_ int64, o Order) int64 { return o.Cents }),
					func(k, _ int64) int64 { return k % customers }),
				aggregate.ReduceTable(func(a, v int64) int64 { return a + v }, func(a, v int64) int64 { return a - v })))
		}},
		{Name: "min", add: aggregated(aggregate.Min(centsOf))},
		{Name: "max", add: aggregated(aggregate.Max(centsOf))},
		{Name: "arg-max", Lists: true, add: aggregated(aggregate.ArgMax(centsOf, customerOf))},
		{Name: "top-10", Lists: true, add: aggregated(aggregate.TopN(10, centsOf, centsOf))},
		{Name: "collect", Lists: true, add: aggregated(aggregate.Collect(centsOf, centsOf))},
		{Name: "window-by", add: func(s *shop) {
			drainTable(operators.Aggregate("aggregate",
				operators.WindowBy(s.byCustomer(), windows.Tumbling(time.Second), paidAt),
				aggregate.Count[Order]()))
		}},
	}
}

// timeCases are the operators on tables for which time passes.
func timeCases() []Case {
	return []Case{
		{Name: "suppress-time-limit", add: func(s *shop) {
			drainTable(operators.SuppressUntilTimeLimit("suppress", s.orders, Span))
		}},
		{Name: "ttl", add: func(s *shop) { drainTable(operators.TTL("ttl", s.orders, Span)) }},
		{Name: "versioned", add: func(s *shop) {
			drainTable(operators.Versioned("versions", s.orders, Span).Table)
		}},
		{Name: "versioned-derived", add: func(s *shop) {
			cents := operators.MapValues(s.orders, func(_ int64, o Order) int64 { return o.Cents })
			drainTable(operators.Versioned("versions", cents, Span).Table)
		}},
		{Name: "source-events", add: func(s *shop) {
			drainStream(sources.Events[int64](s.b, s.db, "public.orders", sources.As[Order]("events")))
		}},
		{Name: "source-events-map", add: func(s *shop) {
			events := sources.Events[int64](s.b, s.db, "public.orders", sources.As[Order]("events"))
			drainStream(operators.MapStreamValues(events,
				func(_ int64, e record.RowEvent[int64, Order]) int64 { return e.New.Cents }))
		}},
	}
}
