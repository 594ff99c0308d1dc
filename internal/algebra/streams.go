package algebra

import (
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/windows"
)

// Span is how long most windows and the like are.
const Span = 100 * time.Millisecond

// near is a short span.
const near = Span / 10

func streamCases() []Case {
	return []Case{
		{Name: "stream", Events: true, add: func(*shop) {}},
		{Name: "stream-filter", Events: true, add: func(s *shop) { drainStream(s.someClicks()) }},
		{Name: "map", Events: true, add: func(s *shop) {
			drainStream(operators.Map(s.clicks, func(k int64, c Click) (int64, int64) { return k, c.Page }))
		}},
		{Name: "rekey", Events: true, add: func(s *shop) {
			drainStream(operators.Rekey(s.clicks, func(_ int64, c Click) int64 { return c.CustomerID }))
		}},
		{Name: "flat-map", Events: true, add: func(s *shop) {
			drainStream(operators.FlatMap(s.clicks, func(k int64, c Click, emit func(int64, int64)) {
				emit(k, c.Page)
				emit(k, c.CustomerID)
			}))
		}},
		{Name: "peek", Events: true, add: func(s *shop) {
			drainStream(operators.Peek(s.clicks, func(record.Context, int64, Click) {}))
		}},
		{Name: "foreach", Events: true, add: func(s *shop) {
			operators.Foreach(s.clicks, func(record.Context, int64, Click) error { return nil })
		}},
		{Name: "merge", Events: true, add: func(s *shop) {
			drainStream(operators.Merge(s.clicks, s.someClicks()))
		}},
		{Name: "split", Events: true, add: func(s *shop) {
			branches := operators.Split(s.clicks,
				operators.Branch[int64, Click]{Name: "even", When: func(k int64, _ Click) bool { return k%2 == 0 }},
				operators.Branch[int64, Click]{Name: "odd"})
			for _, b := range []string{"even", "odd"} {
				drainStream(branches[b])
			}
		}},
		{Name: "repartition", Events: true, add: func(s *shop) {
			drainStream(operators.Repartition("repartition", s.clicks))
		}},
		{Name: "to-table", Events: true, add: func(s *shop) { drainTable(operators.ToTable("table", s.clicks)) }},
		{Name: "process", Events: true, add: func(s *shop) {
			drainStream(operators.Process("process", s.clicks, newVisits))
		}},
		{Name: "deduplicate", Events: true, add: func(s *shop) {
			drainStream(operators.Deduplicate("deduplicate", s.clicks,
				func(_ int64, c Click) int64 { return c.CustomerID }, windows.Within(near)))
		}},
	}
}

// visits counts the clicks of each customer, and again each pause.
type visits struct {
	counts *operators.KeyValue[int64, Click]
	pages  *operators.Ordered[int64, int64]
}

func newVisits(s *operators.Stores) operators.Processor[int64, Click, int64, int64] {
	return &visits{
		counts: operators.KeyValueStore[int64, Click](s, "counts"),
		pages:  operators.OrderedStore[int64, int64](s, "pages"),
	}
}

type visitsContext = operators.ProcessContext[int64, int64, int64]

func (v *visits) Process(ctx *visitsContext, r record.Record[int64, Click]) error {
	customer := r.Value.CustomerID
	now, _ := v.counts.Get(customer)
	at := ctx.Context().Time
	if now.Page != 0 {
		ctx.UnsetTimer(customer, time.UnixMicro(now.Page))
	}
	due := at.Add(near)
	v.counts.Put(customer, Click{now.CustomerID + 1, due.UnixMicro()})
	ctx.SetTimer(customer, due)
	n, _ := v.pages.Get(r.Value.Page)
	v.pages.Put(r.Value.Page, n+1)
	ctx.Forward(customer, now.CustomerID+1)
	return nil
}

func (v *visits) Timer(ctx *visitsContext, key int64, _ time.Time) error {
	now, _ := v.counts.Get(key)
	v.counts.Delete(key)
	ctx.Forward(key, -now.CustomerID)
	return nil
}

func enrichCases() []Case {
	pages := func(c Click, _ Customer) int64 { return c.Page }
	return []Case{
		{Name: "enrich", Events: true, add: func(s *shop) {
			drainStream(operators.Enrich("enrich", s.clicks, s.customers, clickedBy, pages))
		}},
		{Name: "left-enrich", Events: true, add: func(s *shop) {
			drainStream(operators.LeftEnrich("enrich", s.clicks, s.customers, clickedBy,
				func(c Click, _ Customer, _ bool) int64 { return c.Page }))
		}},
		{Name: "enrich-as-of", Events: true, add: func(s *shop) {
			drainStream(operators.EnrichAsOf("enrich", s.clicks,
				operators.Versioned("versions", s.customers, time.Second), clickedBy, pages))
		}},
		{Name: "enrich-as-of-waiting", Events: true, add: func(s *shop) {
			drainStream(operators.EnrichAsOf("enrich", s.clicks,
				operators.Versioned("versions", s.customers, time.Second), clickedBy, pages,
				operators.WaitForRows(Span)))
		}},
		{Name: "enrich-global", Events: true, add: func(s *shop) {
			global := sources.GlobalTable[int64](s.b, s.db, "public.customers", sources.As[Customer]("global"))
			drainStream(operators.EnrichGlobal("enrich", s.clicks, global,
				func(_ int64, c Click) int64 { return c.CustomerID }, pages))
		}},
	}
}

// windowed counts the clicks of each customer in windows.
func windowed(def windows.Definition, opts ...operators.AggregateOption) func(s *shop) {
	return func(s *shop) {
		drainTable(operators.Aggregate("aggregate", operators.Window(s.clicksByCustomer(), def),
			aggregate.Count[Click](), opts...))
	}
}

func windowCases() []Case {
	kept := operators.Retention(Span)
	return []Case{
		{Name: "stream-count", Events: true, add: func(s *shop) {
			drainTable(operators.Aggregate("aggregate", s.clicksByCustomer(), aggregate.Count[Click]()))
		}},
		{Name: "tumbling", Events: true, add: windowed(windows.Tumbling(Span), kept)},
		{
			Name: "tumbling-close", Events: true,
			add: windowed(windows.Tumbling(Span), kept, operators.EmitOnClose()),
		},
		{Name: "hopping", Events: true, add: windowed(windows.Hopping(Span, Span/4), kept)},
		{Name: "sliding", Events: true, add: windowed(windows.Sliding(near), kept)},
		{Name: "session", Events: true, add: windowed(windows.Session(near), kept)},
		{Name: "session-max", Events: true, add: func(s *shop) {
			drainTable(operators.Aggregate("aggregate", operators.Window(s.clicksByCustomer(), windows.Session(near)),
				aggregate.Max(pageOf), kept))
		}},
		{Name: "suppress-window-close", Events: true, add: func(s *shop) {
			drainTable(operators.TTL("ttl", operators.SuppressUntilWindowCloses("suppress",
				operators.Aggregate("aggregate", operators.Window(s.clicksByCustomer(), windows.Tumbling(Span)),
					aggregate.Count[Click](), kept), windows.Tumbling(Span)), Span))
		}},
		{Name: "cogroup", Events: true, add: func(s *shop) {
			drainTable(operators.Aggregate("aggregate", s.cogrouped(), cogroupSum()))
		}},
		{Name: "cogroup-tumbling", Events: true, add: func(s *shop) {
			drainTable(operators.Aggregate("aggregate", operators.Window(s.cogrouped(), windows.Tumbling(Span)),
				cogroupSum(), kept))
		}},
	}
}

func (s *shop) cogrouped() operators.Grouped[int64, aggregate.OneOf2[Click, Click]] {
	return operators.Cogroup2(s.clicksByCustomer(), operators.GroupBy(s.someClicks(),
		func(_ int64, c Click) int64 { return c.CustomerID }))
}

func cogroupSum() aggregate.Aggregator[aggregate.OneOf2[Click, Click], int64] {
	return aggregate.Custom(aggregate.Cogroup2(
		func(n int64, c Click) int64 { return n + c.Page }, func(n int64, c Click) int64 { return n - c.Page }))
}

// pairCases are the joins of streams. Each record has one partner at most: keys repeat
// when the window is long over.
func pairCases() []Case {
	within := windows.Within(near)
	return []Case{
		{Name: "join-window", Events: true, add: func(s *shop) {
			drainStream(operators.JoinWindow("join", s.clicks, s.someClicks(), within,
				func(a, b Click) int64 { return a.Page + b.Page }))
		}},
		{Name: "left-join-window", Events: true, add: func(s *shop) {
			drainStream(operators.LeftJoinWindow("join", s.clicks, s.someClicks(), within,
				func(a, b Click, _ bool) int64 { return a.Page + b.Page }))
		}},
		{Name: "outer-join-window", Events: true, add: func(s *shop) {
			drainStream(operators.OuterJoinWindow("join", s.clicks, s.someClicks(), within,
				func(a Click, _ bool, b Click, _ bool) int64 { return a.Page + b.Page }))
		}},
		{Name: "self-join-window", Events: true, add: func(s *shop) {
			drainStream(operators.SelfJoinWindow("join", s.clicks, within,
				func(a, b Click) int64 { return a.Page + b.Page }))
		}},
	}
}
