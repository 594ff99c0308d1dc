package kafka

import (
	"log/slog"
	"testing"

	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// TestParkedKeys parks a key over topics: it keeps its output, also on a member that has no
// state of its own, and comes back with its next change that succeeds.
func TestParkedKeys(t *testing.T) {
	w := newWorld(t, 2)
	w.policy = func(record.Context, *topology.Failure) topology.Verdict { return topology.DeadLetter }
	is := func(host *view.Host, v *view.View[string, priced], want int64) {
		t.Helper()
		w.settle(host)
		if row, _, _, err := v.Get(t.Context(), "o1"); err != nil || row.Cents != want {
			t.Errorf("the row has %d, want %d: %v", row.Cents, want, err)
		}
	}
	w.put("rates", "o1", `{"percent":10}`)
	w.put("orders", "o1", `{"customer":"c","cents":100}`)
	err := w.run(t.TempDir(), func(host *view.Host, v *view.View[string, priced]) {
		is(host, v, 110)
		w.put("orders", "o1", `{"customer":"c","cents":-5}`)
		is(host, v, 110)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = w.run(t.TempDir(), func(host *view.Host, v *view.View[string, priced]) {
		is(host, v, 110)
		w.put("rates", "o1", `{"percent":20}`)
		is(host, v, 110)
		w.put("orders", "o1", `{"customer":"c","cents":200}`)
		is(host, v, 240)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPolicyIsPartOfTheGroup tells members with a policy on a table from those without:
// they would forget what is parked.
func TestPolicyIsPartOfTheGroup(t *testing.T) {
	w := newWorld(t, 1)
	hash := func() string {
		topo, _ := w.topology()
		in, _ := engine.Connectors(topo)
		e := &Engine{
			cfg: Config{App: w.app, Topologies: []*topology.Topology{topo}, Sources: in},
			log: slog.New(slog.DiscardHandler),
		}
		if err := e.plan(); err != nil {
			t.Fatal(err)
		}
		if !e.subs[0].whole != (w.policy == nil) {
			t.Errorf("with a policy %v the topology runs whole: %v", w.policy != nil, e.subs[0].whole)
		}
		return e.subs[0].hash
	}
	without := hash()
	w.policy = func(record.Context, *topology.Failure) topology.Verdict { return topology.Skip }
	if hash() == without {
		t.Error("the policy makes no difference")
	}
}
