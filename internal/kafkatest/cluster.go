// Package kafkatest starts a real Apache Kafka (KRaft, without ZooKeeper) for tests
// and benchmarks. The jars are fetched once by Maven and kept in a cache of the user.
//
// A broker listens on 127.0.0.1 only and dies with the process that started it.
package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrStart says that a broker cannot be had or did not start; the text has its log.
var ErrStart = errors.New("kafkatest: Kafka did not start")

// Bounds for a busy machine; a start takes about four seconds.
const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 15 * time.Second
)

// Config says which cluster to start.
type Config struct {
	// Nodes is the number of brokers, each of them a controller too. 0 means 1. With
	// three, topics are replicated three times and two replicas have to be in sync.
	Nodes int
	// Properties go into every broker's configuration, over the package's own.
	Properties map[string]string
}

// Cluster is a running cluster. Its methods may be called by several goroutines, those
// that stop and start one node by one at a time.
type Cluster struct {
	base    string
	jars    string
	nodes   []*node
	brokers []string
}

// clusterID is 16 bytes in URL-safe base64; every cluster lives alone.
const clusterID = "dGFpbHJhY2UtdGVzdHMwMA"

// Start starts a cluster and returns once it has committed a transaction. The context
// bounds the start only.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	dir, err := jars(ctx)
	if err != nil {
		return nil, err
	}
	base, err := os.MkdirTemp("", "tailrace-kafka-")
	if err != nil {
		return nil, fmt.Errorf("kafkatest: %w", err)
	}
	c := &Cluster{base: base, jars: dir}
	if err := c.start(ctx, config); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, config Config) error {
	count := max(config.Nodes, 1)
	ports, err := freePorts(2 * count)
	if err != nil {
		return err
	}
	var voters []string
	for i := range count {
		c.brokers = append(c.brokers, "127.0.0.1:"+strconv.Itoa(ports[2*i]))
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[2*i+1]))
	}
	for i := range count {
		n := &node{
			id: i + 1, dir: filepath.Join(c.base, strconv.Itoa(i+1)), jars: c.jars,
			properties: properties(i+1, count, ports[2*i], ports[2*i+1], strings.Join(voters, ",")),
		}
		for k, v := range config.Properties {
			n.properties[k] = v
		}
		c.nodes = append(c.nodes, n)
		if err := n.format(ctx); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	return c.WaitReady(ctx)
}

// properties are a broker's own. What is not said is Kafka's default.
func properties(id, count, port, controller int, voters string) map[string]string {
	replicas, inSync := "1", "1"
	if count >= 3 {
		replicas, inSync = "3", "2"
	}
	return map[string]string{
		"process.roles":            "broker,controller",
		"node.id":                  strconv.Itoa(id),
		"controller.quorum.voters": voters,
		"listeners": fmt.Sprintf(
			"PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d",
			port,
			controller,
		),
		"advertised.listeners": fmt.Sprintf(
			"PLAINTEXT://127.0.0.1:%d",
			port,
		),
		"listener.security.protocol.map":                              "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name":                                  "PLAINTEXT",
		"controller.listener.names":                                   "CONTROLLER",
		"default.replication.factor":                                  replicas,
		"min.insync.replicas":                                         inSync,
		"offsets.topic.replication.factor":                            replicas,
		"offsets.topic.num.partitions":                                "4",
		"transaction.state.log.replication.factor":                    replicas,
		"transaction.state.log.min.isr":                               inSync,
		"transaction.state.log.num.partitions":                        "4",
		"share.coordinator.state.topic.replication.factor":            replicas,
		"share.coordinator.state.topic.min.isr":                       inSync,
		"group.initial.rebalance.delay.ms":                            "0",
		"log.cleaner.dedupe.buffer.size":                              "16777216",
		"log.retention.ms":                                            "-1", // event times lie in the past
		"auto.create.topics.enable":                                   "false",
		"transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
	}
}

// Brokers returns the addresses of all brokers.
func (c *Cluster) Brokers() []string { return c.brokers }

// WaitReady returns once all brokers that are up are known, and a transaction has
// been committed: an open port is too early.
func (c *Cluster) WaitReady(ctx context.Context) error {
	want := 0
	for _, n := range c.nodes {
		if n.running() {
			want++
		}
	}
	for {
		err := c.probe(ctx, want)
		if err == nil {
			return nil
		}
		for _, n := range c.nodes {
			if exit := n.exited(); exit != nil {
				return exit
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w in time: %w\n%s", ErrStart, err, c.log())
		case <-time.After(100 * time.Millisecond): // between two looks at another process
		}
	}
}

// probe looks with a client of its own: one that has seen a part of the cluster goes
// on believing in it.
func (c *Cluster) probe(ctx context.Context, want int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	const topic = "kafkatest-ready"
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...), kgo.TransactionalID(topic),
		kgo.DefaultProduceTopic(topic), kgo.RequestRetries(2))
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	brokers, err := admin.ListBrokers(ctx)
	if err != nil {
		return err
	}
	if len(brokers) < want {
		return fmt.Errorf("kafkatest: %d of %d brokers are there", len(brokers), want)
	}
	if _, err := admin.CreateTopic(
		ctx,
		1,
		-1,
		nil,
		topic,
	); err != nil &&
		!errors.Is(err, kerr.TopicAlreadyExists) {
		return err
	}
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	if err := cl.ProduceSync(ctx, &kgo.Record{Value: []byte("ready")}).FirstErr(); err != nil {
		return err
	}
	return cl.EndTransaction(ctx, kgo.TryCommit)
}

// Kill ends a node, numbered from 0, as kill -9 does.
func (c *Cluster) Kill(i int) { c.nodes[i].kill() }

// Restart starts a node that was killed on the data that it has.
func (c *Cluster) Restart(ctx context.Context, i int) error {
	if err := c.nodes[i].start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return c.WaitReady(ctx)
}

// Stop ends all nodes and removes their data.
func (c *Cluster) Stop() error {
	for _, n := range c.nodes {
		n.terminate()
	}
	for _, n := range c.nodes {
		n.wait(stopTimeout)
	}
	return os.RemoveAll(c.base)
}

func (c *Cluster) log() string {
	var b strings.Builder
	for _, n := range c.nodes {
		b.WriteString(n.tail())
	}
	return b.String()
}

// freePorts finds ports that nobody listens on.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("kafkatest: %w", err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
