package kafka_test

import (
	"errors"
	"strings"
	"testing"
	"time"

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
	if err := open(kafka.Config{}, nil); err == nil {
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
		})
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
