package kafka

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/tailrace/tailrace/internal/jsontopics"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sinks"
	kafkasink "github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// A foreign-key join runs as tasks of three sub-topologies: left rows go to where they are
// kept, subscribe from there, and are answered.
func TestForeignKeyOverTopics(t *testing.T) {
	w := newWorld(t, 3)
	build := func() *topology.Topology {
		b := topology.New("refer")
		db := sources.NewDatabase("shop", jsontopics.Source(w.app+"."))
		orders := sources.Table[string, order](b, db, "public.orders")
		rates := sources.Table[string, rate](b, db, "public.rates")
		out := operators.JoinForeignKey("referred", orders, rates, func(o order) string { return o.Customer },
			func(o order, r rate) priced { return priced{o.Customer, o.Cents + r.Percent} })
		sinks.Table(out, sinks.NewTarget("out", kafkasink.Target(kafkasink.Config{
			Brokers: w.cluster.Brokers(), CreateTopics: true, Partitions: 2,
		})), w.app+"-referred")
		return b.MustBuild()
	}
	want := map[string]string{}
	for i := range 40 {
		w.put("orders", fmt.Sprint("o", i%13), fmt.Sprintf(`{"customer":"c%d","cents":%d}`, i%7, i*100))
		if i < 13 {
			continue
		}
		w.put("rates", fmt.Sprint("c", i%5), fmt.Sprintf(`{"percent":%d}`, i))
	}
	first := w.start(t.TempDir(), build())
	second := w.start(t.TempDir(), build())
	w.put("orders", "o1", "")
	w.put("rates", "c4", "")
	for i := 27; i < 40; i++ { // the last of each order
		if c, o := i%7, i%13; c < 4 && o != 1 {
			last := 35 + c // the last of each rate
			if last > 39 {
				last -= 5
			}
			want[strconv.Quote(fmt.Sprint("o", o))] = fmt.Sprintf(
				`{"key":"o%d","customer":"c%d","cents":%d}`, o, c, i*100+last)
		}
	}
	w.eventually(w.app+"-referred", want)
	w.end(first)
	w.put("rates", "c0", `{"percent":1}`)
	for i := 27; i < 40; i++ {
		if o := i % 13; i%7 == 0 && o != 1 {
			want[strconv.Quote(fmt.Sprint("o", o))] = fmt.Sprintf(
				`{"key":"o%d","customer":"c0","cents":%d}`, o, i*100+1)
		}
	}
	w.eventually(w.app+"-referred", want)
	w.end(second)
}
