package topology_test

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tailrace/tailrace/topology"
)

// forms are the revenue topology as it may be changed.
var forms = map[string]*topology.Topology{
	"nothing":       nil,
	"plain":         build("revenue", change{}),
	"filter":        build("revenue", change{filterBefore: true}),
	"another-view":  build("revenue", change{filterElsewhere: true}),
	"node-version":  build("revenue", change{version: 2}),
	"version":       build("revenue", change{topologyVersion: 3}),
	"database":      build("revenue", change{database: "store"}),
	"windows":       build("revenue", change{window: time.Hour}),
	"windows-daily": build("revenue", change{window: 24 * time.Hour}),
}

// TestPlan compares what a change keeps, rebuilds and drops with testdata/plan.txt;
// -rewrite writes it.
func TestPlan(t *testing.T) {
	datadriven.RunTest(
		t,
		filepath.Join("testdata", "plan.txt"),
		func(t *testing.T, d *datadriven.TestData) string {
			var was, now string
			d.ScanArgs(t, "was", &was)
			d.ScanArgs(t, "now", &now)
			return topology.NewPlan(summary(t, now), summary(t, was)).String()
		},
	)
}

// summary goes through JSON, as it is stored.
func summary(t *testing.T, form string) *topology.Summary {
	top, ok := forms[form]
	if !ok {
		t.Fatalf("there is no form %q", form)
	}
	if top == nil {
		return nil
	}
	text, err := json.Marshal(top.Summary())
	if err != nil {
		t.Fatal(err)
	}
	var s topology.Summary
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func TestByteSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 10<<10 - 1: "10239 B", 10 << 10: "10 KiB", 10 << 20: "10 MiB",
		1 << 40: "1024 GiB", 1 << 50: "1024 TiB",
	} {
		if got := topology.ByteSize(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
}
