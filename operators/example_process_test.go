package operators_test

import (
	"fmt"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// watchdog reports customers of whom nothing was seen for a minute.
type watchdog struct {
	last *operators.KeyValue[int64, time.Time]
}

type watchdogContext = operators.ProcessContext[int64, int64, string]

func newWatchdog(s *operators.Stores) operators.Processor[int64, Click, int64, string] {
	return &watchdog{last: operators.KeyValueStore[int64, time.Time](s, "last")}
}

func (w *watchdog) Process(ctx *watchdogContext, r record.Record[int64, Click]) error {
	now := ctx.Context().Time
	w.last.Put(r.Key, now)
	ctx.SetTimer(r.Key, now.Add(time.Minute))
	return nil
}

func (w *watchdog) Timer(ctx *watchdogContext, customer int64, at time.Time) error {
	if last, _ := w.last.Get(customer); at.Sub(last) == time.Minute { // else there is a later timer
		w.last.Delete(customer)
		ctx.Forward(customer, "not seen since "+last.Format(time.TimeOnly))
	}
	return nil
}

func ExampleProcess() {
	b := topology.New("process")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	byCustomer := operators.Rekey(clicks, func(_ int64, c Click) int64 { return c.CustomerID })
	silent := operators.Process("watchdog", byCustomer, newWatchdog)

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, clicks, 1, Click{CustomerID: 9})
	topologytest.Emit(d, clicks, 2, Click{CustomerID: 5})
	d.AdvanceTime(40 * time.Second)
	topologytest.Emit(d, clicks, 3, Click{CustomerID: 9})
	d.AdvanceTime(30 * time.Second)
	d.Reopen() // timers survive a restart
	d.AdvanceTime(30 * time.Second)
	for _, r := range topologytest.Records(d, silent) {
		fmt.Println(r.Key, r.Value)
	}
	// Output:
	// 5 not seen since 00:00:00
	// 9 not seen since 00:00:40
}

func ExampleDeduplicate() {
	b := topology.New("deduplicate")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	once := operators.Deduplicate("once", clicks,
		func(_ int64, c Click) Click { return c }, windows.Within(time.Minute))

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	for n := range int64(4) {
		topologytest.Emit(d, clicks, n, Click{CustomerID: 9, Page: "/home"})
		d.AdvanceTime(40 * time.Second)
	}
	for _, r := range topologytest.Records(d, once) {
		fmt.Println(r.Key)
	}
	// Output:
	// 0
	// 2
}

func ExampleDeduplicateByKey() {
	b := topology.New("deduplicate-by-key")
	shop := sources.NewDatabase("shop", nil)
	notes := sources.Stream[int64, Note](b, shop, "public.notes")
	once := operators.DeduplicateByKey("once", notes, windows.Within(time.Minute))

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, notes, 1, Note{"first"})
	topologytest.Emit(d, notes, 1, Note{"again"})
	topologytest.Emit(d, notes, 2, Note{"another"})
	fmt.Println(topologytest.Values(d, once), d.Dropped("duplicate"))
	// Output: [{first} {another}] 1
}

func ExampleForeach() {
	b := topology.New("foreach")
	shop := sources.NewDatabase("shop", nil)
	notes := sources.Stream[int64, Note](b, shop, "public.notes")
	operators.Foreach(notes, func(_ record.Context, k int64, n Note) error {
		fmt.Println(k, n.Text)
		return nil
	})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, notes, 1, Note{"hello"})
	// Output: 1 hello
}

func ExampleRepartition() {
	b := topology.New("repartition")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	byCustomer := operators.Repartition("by-customer",
		operators.Rekey(clicks, func(_ int64, c Click) int64 { return c.CustomerID }))

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, clicks, 1, Click{CustomerID: 9, Page: "/home"})
	for _, r := range topologytest.Records(d, byCustomer) {
		fmt.Println(r.Key, r.Value.Page)
	}
	// Output: 9 /home
}
