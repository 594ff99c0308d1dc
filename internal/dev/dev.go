// Package dev runs a Kafka cluster of one process, whose memory is all that it has, with
// the topics of a shop as Debezium would write them, and a shop that goes on: for people
// who try Kafka mode without setting up a cluster. It is no place for data.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Options say what runs. Zero fields take their defaults.
type Options struct {
	// Listen is the address of the broker. Defaults to a free port of the loopback.
	Listen string
	// Prefix begins the names of the topics. Defaults to "shop".
	Prefix string
	// Partitions is how many each topic has. Defaults to 3.
	Partitions int32
	// Rate is how many transactions the shop makes a second. Defaults to 5.
	Rate int
	// Orders is how many the shop begins with. Defaults to 100.
	Orders int
	// Seed chooses what happens. Defaults to 0.
	Seed uint64
}

func (o Options) withDefaults() Options {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Prefix == "" {
		o.Prefix = "shop"
	}
	if o.Partitions <= 0 {
		o.Partitions = 3
	}
	if o.Rate <= 0 {
		o.Rate = 5
	}
	if o.Orders <= 0 {
		o.Orders = 100
	}
	return o
}

// ErrListen says that the address cannot be listened on.
var ErrListen = errors.New("dev: cannot listen")

// Dev is a running cluster with its shop.
type Dev struct {
	opts    Options
	cluster *kfake.Cluster
	client  *kgo.Client
	topics  *topics

	mu   sync.Mutex // held while a transaction of the shop is made and written
	shop *shop
}

// Start starts the broker, makes the topics and writes what the shop begins with.
func Start(ctx context.Context, opts Options) (_ *Dev, err error) {
	d := &Dev{opts: opts.withDefaults()}
	if d.topics, err = newTopics(d.opts.Prefix); err != nil {
		return nil, err
	}
	listen := func(network, _ string) (net.Listener, error) { return net.Listen(network, d.opts.Listen) }
	d.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(listen),
		kfake.SeedTopics(d.opts.Partitions, d.topics.names()...),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		return nil, fmt.Errorf("%w on %s: %w; take another address with --listen", ErrListen, d.opts.Listen, err)
	}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	d.client, err = kgo.NewClient(kgo.SeedBrokers(d.cluster.ListenAddrs()...),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		return nil, err
	}
	d.shop = newShop(d.opts.Seed, d.opts.Orders)
	return d, d.write(ctx, d.shop.take())
}

// Brokers are the addresses of the cluster.
func (d *Dev) Brokers() []string { return d.cluster.ListenAddrs() }

// Topics are the names of the topics.
func (d *Dev) Topics() []string { return d.topics.names() }

// Close ends the cluster, and with it all that it holds.
func (d *Dev) Close() {
	if d.client != nil {
		d.client.Close()
	}
	d.cluster.Close()
}

// Run has the shop go on until ctx ends, which is no error.
func (d *Dev) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second / time.Duration(d.opts.Rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// What has begun is written as a whole: the shop's memory has it.
		if err := d.Step(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
}

// Step makes one transaction of the shop.
func (d *Dev) Step(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shop.act()
	return d.write(ctx, d.shop.take())
}

// write writes what a transaction has changed.
func (d *Dev) write(ctx context.Context, changes []change) error {
	records, err := d.topics.records(changes, time.Now())
	if err != nil {
		return err
	}
	if err := d.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("dev: write into the topics: %w", err)
	}
	return nil
}

// Revenue is what the view of the revenue example shows: orders and cents of paid orders,
// by the name of the customer.
func (d *Dev) Revenue() map[string][2]int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.shop.revenue()
}

// Help says how to use it.
func (d *Dev) Help(out io.Writer) {
	broker := strings.Join(d.Brokers(), ",")
	fmt.Fprintf(out, `A Kafka broker for development listens on %s. It lives in this process and keeps
nothing: for data take a real one.

topics, in Debezium's form with schemas, %d partitions each:
  %s

run an example over them, as many times as you like members:
  go run ./examples/revenue -brokers %s -topics %s
  go run ./examples/orders -brokers %[4]s -topics %[5]s
read what it writes:
  kcat -b %[4]s -t revenue_per_customer -X isolation.level=read_committed
`, broker, d.opts.Partitions, strings.Join(d.Topics(), "\n  "), broker, d.opts.Prefix)
}
