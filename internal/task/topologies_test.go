package task_test

import (
	"database/sql"
	"errors"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

// tables are the columns of the tables that scripts write, the key first.
var tables = map[string][]string{
	"customers": {"id", "name", "note"},
	"orders":    {"id", "customer_id", "cents"},
	"events":    {"id", "customer_id", "kind"},
	"unread":    {"id"},
}

type customer struct {
	Name string
	Note sql.Null[string]
}

type order struct {
	CustomerID int64
	Cents      int64
}

type line struct {
	Customer string
	Cents    int64
}

type happening struct {
	CustomerID int64
	Kind       string
}

// topologies are what scripts run.
var topologies = map[string]func() *topology.Topology{
	"revenue":   revenue,
	"enrich":    enrich,
	"windows":   windowed,
	"messages":  messages,
	"ttl":       timeToLive,
	"customers": customers,
	"failing":   failing,
}

func revenue() *topology.Topology {
	b := topology.New("revenue")
	shop, warehouse := sources.NewDatabase("shop", nil), sinks.NewTarget("warehouse", nil)
	orders := sources.Table[int64, order](b, shop, "public.orders")
	customers := sources.Table[int64, customer](b, shop, "public.customers")
	lines := operators.JoinForeignKey("lines", orders, customers,
		func(o order) int64 { return o.CustomerID },
		func(o order, c customer) line { return line{c.Name, o.Cents} })
	type total struct{ Orders, Cents int64 }
	totals := operators.Aggregate("totals",
		operators.GroupBy(lines, func(_ int64, l line) string { return l.Customer }),
		aggregate.Combine2(aggregate.Count[line](), aggregate.Sum(func(l line) int64 { return l.Cents }),
			func(n, cents int64) total { return total{n, cents} }))
	sinks.Table(totals, warehouse, "totals")
	return b.MustBuild()
}

func customers() *topology.Topology {
	b := topology.New("customers")
	shop, warehouse := sources.NewDatabase("shop", nil), sinks.NewTarget("warehouse", nil)
	sinks.Table(sources.Table[int64, customer](b, shop, "public.customers"), warehouse, "customers")
	return b.MustBuild()
}

func enrich() *topology.Topology {
	b := topology.New("enrich")
	shop, out := sources.NewDatabase("shop", nil), sinks.NewTarget("out", nil)
	events := sources.Stream[int64, happening](b, shop, "public.events")
	customers := sources.Table[int64, customer](b, shop, "public.customers")
	named := operators.Enrich("named", events, customers, func(h happening) int64 { return h.CustomerID },
		func(h happening, c customer) string { return c.Name + " " + h.Kind })
	twice := operators.FlatMap(named, func(k int64, s string, emit func(int64, string)) {
		emit(k, s)
		emit(k, s+" again")
	})
	messages := operators.Map(sources.Messages(b, shop, "note"), func(_ string, m []byte) (int64, string) {
		return 0, string(m)
	})
	sinks.Stream(operators.Merge(twice, messages), out, "events")
	return b.MustBuild()
}

func windowed() *topology.Topology {
	b := topology.New("windows")
	shop, out := sources.NewDatabase("shop", nil), sinks.NewTarget("out", nil)
	events := sources.Stream[int64, happening](b, shop, "public.events", sources.WithSnapshot[happening]())
	counts := operators.Aggregate("counts", operators.Window(
		operators.GroupBy(events, func(_ int64, h happening) string { return h.Kind }),
		windows.Tumbling(10*time.Second).Grace(5*time.Second)), aggregate.Count[happening]())
	type window struct {
		Kind, Window string
		Was, Is      int64
	}
	changes := operators.Map(operators.ToStream("changes", counts),
		func(k windows.Windowed[string], c record.Change[windows.Windowed[string], int64]) (int64, window) {
			return 0, window{k.Key, k.Window.StartTime().Format(time.TimeOnly), c.Old, c.New}
		})
	sinks.Stream(changes, out, "windows")
	return b.MustBuild()
}

// messages counts messages in windows; the app reads a table as well.
func messages() *topology.Topology {
	b := topology.New("messages")
	shop, out := sources.NewDatabase("shop", nil), sinks.NewTarget("out", nil)
	notes := sources.Messages(b, shop, "note")
	sinks.Table(operators.Aggregate("counts", operators.Window(
		operators.GroupBy(notes, func(_ string, note []byte) string { return string(note) }),
		windows.Tumbling(10*time.Second).Grace(5*time.Second)), aggregate.Count[[]byte]()), out, "counts")
	sinks.Table(sources.Table[int64, customer](b, shop, "public.customers"), out, "customers")
	return b.MustBuild()
}

// timeToLive shows customers for ten seconds.
func timeToLive() *topology.Topology {
	b := topology.New("ttl")
	shop, warehouse := sources.NewDatabase("shop", nil), sinks.NewTarget("warehouse", nil)
	customers := sources.Table[int64, customer](b, shop, "public.customers")
	sinks.Table(operators.TTL("live", customers, 10*time.Second), warehouse, "customers")
	return b.MustBuild()
}

var errOdd = errors.New("odd id")

// failing has a function that panics, far from the sink that walks it, and one that
// returns an error.
func failing() *topology.Topology {
	b := topology.New("failing")
	shop, warehouse := sources.NewDatabase("shop", nil), sinks.NewTarget("warehouse", nil)
	orders := sources.Table[int64, order](b, shop, "public.orders")
	shares := operators.MapValues(orders, func(_ int64, o order) int64 { return 100 / o.Cents })
	small := operators.Filter(shares, func(_ int64, share int64) bool { return share < 50 })
	sinks.Table(small, warehouse, "shares")
	even := operators.FilterContext(sources.Stream[int64, happening](b, shop, "public.events"),
		func(_ record.Context, k int64, _ happening) (bool, error) {
			if k%2 == 1 {
				return false, errOdd
			}
			return true, nil
		})
	sinks.Stream(even, warehouse, "even")
	return b.MustBuild()
}
