package kafka_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// foreignOption is what another connector takes.
type foreignOption struct{}

func (foreignOption) SinkOption() {}

// TestOptions refuses what is wrong before anything is contacted.
func TestOptions(t *testing.T) {
	t.Parallel()
	open := func(cfg kafka.Config, options sinks.Option) error {
		o := sinktest.Accounts
		o.Options = options
		_, err := kafka.Target(cfg).Open(t.Context(), sinks.OpenRequest{
			App: "app", Target: "target", Incarnation: "one", Outputs: []sinks.Output{o},
		})
		return err
	}
	cfg := kafka.Config{Brokers: []string{"127.0.0.1:1"}}
	for name, err := range map[string]error{
		"a policy that loses rows": open(cfg, kafka.Output{Configs: map[string]string{"cleanup.policy": "delete"}}),
		"another sink's option":    open(cfg, foreignOption{}),
		"the progress topic":       open(cfg, kafka.Output{Topic: "app-target-progress"}),
	} {
		if !errors.Is(err, sinks.ErrTargetSchema) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := open(kafka.Config{}, nil); !errors.Is(err, sinks.ErrConfig) {
		t.Error("no brokers: opened")
	}
}

// TestRefusedByBroker opens targets that a real broker refuses: each error is
// sinks.ErrConfig and names the remedy.
func TestRefusedByBroker(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(cfg *kafka.Config)
		remedy string
	}{
		"transaction timeout": {
			func(cfg *kafka.Config) { cfg.TransactionTimeout = time.Hour }, "transaction.max.timeout.ms",
		},
		"replication factor": {
			func(cfg *kafka.Config) { cfg.ReplicationFactor = 3 }, "Config.ReplicationFactor",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, cfg, app := newTarget(t)
			c.change(&cfg)
			_, err := (&renamed{kafka.Target(cfg), app}).Open(t.Context(), sinks.OpenRequest{
				App: app, Target: "target", Incarnation: "one", Outputs: []sinks.Output{sinktest.Accounts},
			})
			if !errors.Is(err, sinks.ErrConfig) || !strings.Contains(err.Error(), c.remedy) {
				t.Errorf("got %v", err)
			}
			// Only who begins as producer is told about its transactions.
			if name == "transaction timeout" {
				return
			}
			if err := check(t, cfg, app, sinktest.Accounts); !errors.Is(err, sinks.ErrConfig) ||
				!strings.Contains(err.Error(), c.remedy) {
				t.Errorf("the check says %v", err)
			}
		})
	}
}

func check(t *testing.T, cfg kafka.Config, app string, o sinks.Output) error {
	t.Helper()
	o.Options = kafka.Output{Topic: app + "." + o.Name}
	return kafka.Target(cfg).(sinks.Checker).Check(t.Context(), sinks.OpenRequest{
		App: app, Target: "target", Incarnation: "one", Outputs: []sinks.Output{o},
	})
}

// TestCheck asks about a target before it is opened: nothing is made by that, and an instance
// that writes it is not disturbed.
func TestCheck(t *testing.T) {
	t.Parallel()
	c, cfg, app := newTarget(t)
	if err := check(t, cfg, app, sinktest.Accounts); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	topics, err := kadm.NewClient(cl).ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range topics.Names() {
		if strings.HasPrefix(name, app+".") || strings.HasPrefix(name, app+"-") {
			t.Errorf("the check has made topic %s", name)
		}
	}
	w, err := (&renamed{kafka.Target(cfg), app}).Open(t.Context(), sinks.OpenRequest{
		App: app, Target: "target", Incarnation: "one", Outputs: []sinks.Output{sinktest.Accounts},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg.CreateTopics = false
	if err := check(t, cfg, app, sinktest.Accounts); err != nil {
		t.Fatal(err)
	}
	if err := check(t, cfg, app, sinktest.Places); !errors.Is(err, sinks.ErrTargetSchema) {
		t.Errorf("a topic that is missing: %v", err)
	}
	if err := w.Apply(t.Context(), []sinks.Epoch{{Seq: 1, Reconcile: true,
		Items: func(func(sinks.Item) bool) error { return nil }}}); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// TestTooLarge has one record of an epoch refused: nothing of the epoch is there then, in
// any topic, and the next one is taken.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	c, cfg, app := newTarget(t)
	outputs := []sinks.Output{sinktest.Accounts, sinktest.Places}
	w, err := (&renamed{kafka.Target(cfg), app}).Open(t.Context(), sinks.OpenRequest{
		App: app, Target: "target", Incarnation: "one", Outputs: outputs,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	first := sinktest.Whole(sinktest.Epoch(1, sinktest.Put(sinktest.Accounts, 1, "a", 1)))
	large := sinktest.Epoch(2, sinktest.Put(sinktest.Accounts, 2, "b", 2),
		sinktest.Put(sinktest.Places, strings.Repeat("x", 2<<20), "Rome", 1))
	if err := w.Apply(t.Context(), []sinks.Epoch{first}); err != nil {
		t.Fatal(err)
	}
	if err := w.Apply(t.Context(), []sinks.Epoch{large}); !errors.Is(err, sinks.ErrRejected) {
		t.Fatalf("got %v", err)
	}
	if rows := c.Latest(t, app+"."+sinktest.Accounts.Name); len(rows) != 1 {
		t.Errorf("the table holds %d rows, want that of the first epoch", len(rows))
	}
	if seq, ok, err := w.Progress(t.Context()); seq != 1 || !ok || err != nil {
		t.Errorf("progress is %d, %v, %v", seq, ok, err)
	}
	if err := w.Apply(
		t.Context(),
		[]sinks.Epoch{sinktest.Epoch(2, sinktest.Put(sinktest.Accounts, 2, "b", 2))},
	); err != nil {
		t.Error(err)
	}
}
