package crashkafka

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
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
	topo, err := buildTopology(os.Getenv(envApp), brokers)
	if err != nil {
		return err
	}
	app, err := tailrace.New(tailrace.Config{
		App: os.Getenv(envApp), StateDir: os.Getenv(envDir),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Kafka: &tailrace.Kafka{
			Brokers: brokers, CommitInterval: 10 * time.Millisecond,
			SessionTimeout: sessionTimeout, TransactionTimeout: transactionTimeout,
		},
	}, topo)
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

type rated struct{ Number, Percent int64 }

// buildTopology joins orders to rates into a table, and rates the clicks into events.
func buildTopology(app string, brokers []string) (*topology.Topology, error) {
	b := topology.New("shop")
	db := sources.NewDatabase("shop", rowsOf{app + "."})
	target := sinks.NewTarget("out", kafkasink.Target(kafkasink.Config{
		Brokers: brokers, CreateTopics: true, Partitions: 3,
	}))
	rates := sources.Table[string, rate](b, db, "public.rates")
	sinks.Table(operators.Join("priced", sources.Table[string, order](b, db, "public.orders"), rates, price),
		target, app+"-priced")
	clicks := sources.Stream[string, click](b, db, "public.clicks")
	sinks.Stream(operators.Enrich("rated", clicks, rates, func(c click) string { return c.Card },
		func(c click, r rate) rated { return rated{c.Number, r.Percent} }), target, app+"-rated")
	return b.Build()
}

func price(o order, r rate) priced { return priced{o.Customer, o.Cents * (100 + r.Percent) / 100} }

// rowsOf reads tables from topics of JSON objects.
type rowsOf struct{ prefix string }

func (rowsOf) Open(context.Context, sources.OpenRequest) (sources.Session, error) {
	return nil, sources.ErrConfig
}
func (rowsOf) Drop(context.Context, sources.DropRequest) error { return nil }
func (r rowsOf) Topic(table string) string                     { return r.prefix + table }
func (rowsOf) Decoder(req sources.TableRequest) (sources.TopicDecoder, error) {
	rel := &record.Relation{Schema: "public", Name: strings.TrimPrefix(req.Name, "public.")}
	rel.Columns = append(rel.Columns, record.Column{Name: "key", Key: true})
	for _, c := range req.Columns {
		rel.Columns = append(rel.Columns, record.Column{Name: c})
	}
	return &jsonRows{rel}, nil
}

type jsonRows struct{ rel *record.Relation }

func (d *jsonRows) Decode(r *sources.TopicRecord) (sources.TopicRows, error) {
	row := record.Row{Rel: d.rel, Op: record.Insert}
	row.New = append(row.New, record.Value{Kind: record.Text, Data: r.Key})
	if r.Value == nil {
		row.Op, row.OldKind, row.Old, row.New = record.Delete, record.OldKey, row.New, nil
		return sources.TopicRows{Rows: []record.Row{row}}, nil
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(r.Value, &values); err != nil {
		return sources.TopicRows{}, fmt.Errorf("%w: %w", sources.ErrDecode, err)
	}
	for _, c := range d.rel.Columns[1:] {
		text := values[c.Name]
		if len(text) > 1 && text[0] == '"' {
			text = text[1 : len(text)-1]
		}
		row.New = append(row.New, record.Value{Kind: record.Text, Data: text})
	}
	return sources.TopicRows{Rows: []record.Row{row}}, nil
}
