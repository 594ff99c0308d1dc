package kafka_test

import (
	"errors"
	"testing"

	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// TestOptions refuses what is wrong before anything is contacted.
func TestOptions(t *testing.T) {
	t.Parallel()
	open := func(cfg kafka.Config, options any) error {
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
		"another sink's option":    open(cfg, 7),
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
