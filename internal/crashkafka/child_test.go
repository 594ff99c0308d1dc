package crashkafka

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/jsontopics"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	kafkasink "github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// Environment of a member.
const (
	envApp     = "TAILRACE_CRASH_APP"
	envDir     = "TAILRACE_CRASH_DIR"
	envBrokers = "TAILRACE_CRASH_BROKERS"
	envAddr    = "TAILRACE_CRASH_ADDR"
)

// Timeouts of the members, short so that a cycle is.
const (
	sessionTimeout     = 6 * time.Second
	transactionTimeout = 5 * time.Second
)

// runMember is the member process: it runs the app until it is told to stop.
func runMember() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	brokers := strings.Split(os.Getenv(envBrokers), ",")
	topologies, err := buildTopologies(os.Getenv(envApp), brokers)
	if err != nil {
		return err
	}
	app, err := tailrace.New(tailrace.Config{
		App: os.Getenv(envApp), StateDir: os.Getenv(envDir), Addr: os.Getenv(envAddr),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Kafka: &tailrace.Kafka{
			Brokers: brokers, CommitInterval: 10 * time.Millisecond, Standbys: 1,
			SessionTimeout: sessionTimeout, TransactionTimeout: transactionTimeout,
		},
	}, topologies...)
	if err != nil {
		return err
	}
	return app.Run(ctx)
}

type order struct {
	Customer string
	Cents    int64
}

type rate struct{ Percent int64 }

type priced struct {
	Customer string
	Cents    int64
}

type click struct {
	Number int64
	Card   string
}

type limit struct{ Cents int64 }

type checked struct{ Number, Cents int64 }

type revenue struct{ Orders, Cents int64 }

type step struct {
	Walk   string
	Number int64
}

// walked is what has come of a walk: how many steps, up to which, and how often another one
// than the next.
type walked struct{ Steps, Last, Broken int64 }

// buildTopologies has a join of tables under the same key, of which the revenue of each
// customer is made behind an exchange, one that runs as a whole: clicks that are looked
// up in a table by another key, and counted; and one that looks at the order in which the
// steps of each walk come out of an exchange.
func buildTopologies(app string, brokers []string) ([]*topology.Topology, error) {
	db := sources.NewDatabase("shop", jsontopics.Source(app+"."))
	target := sinks.NewTarget("out", kafkasink.Target(kafkasink.Config{
		Brokers: brokers, CreateTopics: true, Partitions: partitions,
	}))
	b := topology.New("shop")
	all := operators.Join("priced", sources.Table[string, order](b, db, "public.orders"),
		sources.Table[string, rate](b, db, "public.rates"), price)
	sinks.Table(all, target, app+"-priced")
	byCustomer := operators.GroupBy(all, func(_ string, p priced) string { return p.Customer })
	sinks.View(all, "priced")
	sums := operators.Aggregate("revenue", byCustomer, aggregate.Combine2(
		aggregate.Count[priced](), aggregate.Sum(func(p priced) int64 { return p.Cents }),
		func(n, cents int64) revenue { return revenue{n, cents} }))
	sinks.Table(sums, target, app+"-revenue")
	sinks.View(sums, "revenue")
	shop, err := b.Build()
	if err != nil {
		return nil, err
	}
	b = topology.New("cards")
	clicks := sources.Stream[string, click](b, db, "public.clicks")
	sinks.Stream(operators.Enrich("checked", clicks, sources.Table[string, limit](b, db, "public.limits"),
		func(c click) string { return c.Card },
		func(c click, l limit) checked { return checked{c.Number, l.Cents} }), target, app+"-checked")
	byCard := operators.GroupBy(clicks, func(_ string, c click) string { return c.Card })
	counted := operators.Aggregate("counted", byCard, aggregate.Count[click]())
	sinks.Table(counted, target, app+"-counted")
	sinks.View(counted, "counted")
	cards, err := b.Build()
	if err != nil {
		return nil, err
	}
	b = topology.New("walks")
	steps := sources.Stream[string, step](b, db, "public.steps")
	walks := operators.Aggregate("walks",
		operators.GroupBy(steps, func(_ string, s step) string { return s.Walk }),
		aggregate.Custom(aggregate.Fold[step, walked, walked]{
			Add: walk, Result: func(w walked) walked { return w },
		}))
	sinks.Table(walks, target, app+"-walks")
	inOrder, err := b.Build()
	return []*topology.Topology{shop, cards, inOrder}, err
}

func walk(w walked, s step) walked {
	if s.Number != w.Last+1 {
		w.Broken++
	}
	return walked{w.Steps + 1, s.Number, w.Broken}
}

func price(o order, r rate) priced { return priced{o.Customer, o.Cents * (100 + r.Percent) / 100} }
