package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/jsontopics"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	kafkasink "github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/debezium"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
	"github.com/tailrace/tailrace/windows"
)

// shape is a topology and what its inputs and outputs are.
type shape struct {
	name string
	// inputs are the tables that it reads, outputs the topics that it writes.
	inputs, outputs []string
	build           func(b *builder)
	expect          func(in []input) *expected
}

var shapes = []shape{
	{"filter", []string{"orders", "clicks"}, []string{"cheap", "seen"}, buildFilter, expectFilter},
	{"join", []string{"orders", "rates"}, []string{"priced"}, buildJoin, expectJoin},
	{"foreign-key", []string{"orders", "customers"}, []string{"named"}, buildForeignKey, expectForeignKey},
	{"aggregate", []string{"orders", "rates"}, []string{"priced", "revenue"}, buildAggregate, expectAggregate},
	{"walks", []string{"steps"}, []string{"walks"}, buildWalks, expectWalks},
	{"enrich", []string{"clicks", "limits"}, []string{"checked"}, buildEnrich, expectEnrich},
	{"windows", []string{"clicks"}, []string{"perMinute"}, buildWindows, expectWindows},
}

type (
	order struct {
		Customer string
		Cents    int64
	}
	rate   struct{ Percent int64 }
	priced struct {
		Customer string
		Cents    int64
	}
	customer struct{ Name string }
	named    struct {
		Name  string
		Cents int64
	}
	click struct {
		Number int64
		Card   string
	}
	limit   struct{ Cents int64 }
	checked struct{ Number, Cents int64 }
	revenue struct{ Orders, Cents int64 }
	step    struct {
		Walk   string
		Number int64
	}
	// walked is what has come of a walk: how many steps, up to which, and how often
	// another one than the next.
	walked struct{ Steps, Last, Broken int64 }
)

// columns are those of the inputs' tables but for the key.
var columns = map[string][]record.Column{
	"orders":    {text("customer"), bigint("cents")},
	"rates":     {bigint("percent")},
	"customers": {text("name")},
	"clicks":    {bigint("number"), text("card")},
	"limits":    {bigint("cents")},
	"steps":     {text("walk"), bigint("number")},
}

func text(name string) record.Column   { return record.Column{Name: name, Type: "text", TypeMod: -1} }
func bigint(name string) record.Column { return record.Column{Name: name, Type: "bigint", TypeMod: -1} }

// table describes an input to those who write and read Debezium's records.
func table(name string) debezium.Table {
	t := debezium.Table{Name: "public." + name, Columns: []debezium.Column{{Column: record.Column{
		Name: "key", Type: "text", TypeMod: -1, Key: true, NotNull: true,
	}}}}
	for _, c := range columns[name] {
		t.Columns = append(t.Columns, debezium.Column{Column: c})
	}
	return t
}

// builder builds a topology for a member.
type builder struct {
	*topology.Builder
	db     *sources.Database
	target *sinks.Target
	views  []viewReader
}

// viewReader reads all rows of a view that a member has.
type viewReader struct {
	name string
	rows func(ctx context.Context) (map[string]string, error)
}

// build builds the topology of the plan.
func (s *shape) topology(w *world, options []kgo.Opt) (*topology.Topology, []viewReader, error) {
	source := jsontopics.Source(w.app + ".")
	if w.plan.debezium {
		cfg := debezium.Config{Prefix: w.app}
		for _, name := range s.inputs {
			cfg.Tables = append(cfg.Tables, table(name))
		}
		source = debezium.Topics(cfg)
	}
	b := &builder{
		Builder: topology.New(s.name), db: sources.NewDatabase("shop", source),
		target: sinks.NewTarget("out", kafkasink.Target(kafkasink.Config{Brokers: w.brokers, Options: options})),
	}
	s.build(b)
	topo, err := b.Build()
	return topo, b.views, err
}

func (b *builder) orders() topology.Table[string, order] {
	return sources.Table[string, order](b.Builder, b.db, "public.orders")
}

func (b *builder) clicks() topology.Stream[string, click] {
	return sources.Stream[string, click](b.Builder, b.db, "public.clicks")
}

// show writes a table to a topic, and shows it as a view.
func show[K comparable, V any](b *builder, t topology.Table[K, V], name string) {
	sinks.Table(t, b.target, name)
	v := sinks.View(t, name)
	b.views = append(b.views, viewReader{name, func(ctx context.Context) (map[string]string, error) {
		return rowsOf(ctx, v)
	}})
}

func rowsOf[K comparable, V any](ctx context.Context, v *view.View[K, V]) (map[string]string, error) {
	out := map[string]string{}
	rows := v.Range(ctx, view.All[K]())
	for key, value := range rows.All() {
		out[fmt.Sprint(key)] = fmt.Sprint(value)
	}
	return out, rows.Err()
}

func buildFilter(b *builder) {
	cheap := operators.Filter(b.orders(), func(_ string, o order) bool { return o.Cents < 500 })
	show(b, operators.MapValues(cheap, func(_ string, o order) order {
		return order{o.Customer + "!", o.Cents + 1}
	}), "cheap")
	even := operators.Filter(b.clicks(), func(_ string, c click) bool { return c.Number%2 == 0 })
	sinks.Stream(even, b.target, "seen")
}

func price(o order, r rate) priced { return priced{o.Customer, o.Cents * (100 + r.Percent) / 100} }

func (b *builder) priced() topology.Table[string, priced] {
	rates := sources.Table[string, rate](b.Builder, b.db, "public.rates")
	return operators.Join("priced", b.orders(), rates, price)
}

func buildJoin(b *builder) { show(b, b.priced(), "priced") }

func buildForeignKey(b *builder) {
	customers := sources.Table[string, customer](b.Builder, b.db, "public.customers")
	show(b, operators.JoinForeignKey("named", b.orders(), customers,
		func(o order) string { return o.Customer },
		func(o order, c customer) named { return named{c.Name, o.Cents} }), "named")
}

func buildAggregate(b *builder) {
	all := b.priced()
	show(b, all, "priced")
	byCustomer := operators.GroupBy(all, func(_ string, p priced) string { return p.Customer })
	show(b, operators.Aggregate("revenue", byCustomer, aggregate.Combine2(
		aggregate.Count[priced](), aggregate.Sum(func(p priced) int64 { return p.Cents }),
		func(n, cents int64) revenue { return revenue{n, cents} })), "revenue")
}

func buildWalks(b *builder) {
	steps := sources.Stream[string, step](b.Builder, b.db, "public.steps")
	show(b, operators.Aggregate("walks",
		operators.GroupBy(steps, func(_ string, s step) string { return s.Walk }),
		aggregate.Custom(aggregate.Fold[step, walked, walked]{
			Add: func(w walked, s step) walked {
				if s.Number != w.Last+1 {
					w.Broken++
				}
				return walked{w.Steps + 1, s.Number, w.Broken}
			},
			Result: func(w walked) walked { return w },
		})), "walks")
}

func buildEnrich(b *builder) {
	limits := sources.Table[string, limit](b.Builder, b.db, "public.limits")
	sinks.Stream(operators.LeftEnrich("checked", b.clicks(), limits, func(c click) string { return c.Card },
		func(c click, l limit, ok bool) checked {
			if !ok {
				return checked{c.Number, -1}
			}
			return checked{c.Number, l.Cents}
		}), b.target, "checked")
}

func buildWindows(b *builder) {
	byCard := operators.GroupBy(b.clicks(), func(_ string, c click) string { return c.Card })
	counts := operators.Aggregate("perMinute",
		operators.Window(byCard, windows.Tumbling(10*time.Second).Grace(time.Hour)), aggregate.Count[click]())
	sinks.Table(counts, b.target, "perMinute")
	v := sinks.View(counts, "perMinute")
	b.views = append(b.views, viewReader{"perMinute", func(ctx context.Context) (map[string]string, error) {
		out := map[string]string{}
		rows := v.Range(ctx, view.All[windows.Windowed[string]]())
		for key, n := range rows.All() {
			out[keyOf(key.Key, key.Window.Start)] = fmt.Sprint(n)
		}
		return out, rows.Err()
	}})
}
