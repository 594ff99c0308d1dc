package sim

import (
	"context"
	"fmt"
	"maps"
	"net"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/tailrace/tailrace/internal/pgdial"
	"github.com/tailrace/tailrace/internal/sim/walsender"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

// TestSimDirect simulates seeds in direct mode: TAILRACE_SIM_SEEDS of them, from
// TAILRACE_SIM_FIRST on.
func TestSimDirect(t *testing.T) {
	// Goroutines that run one at a time make a seed's runs more alike.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	first, seeds := setting("TAILRACE_SIM_FIRST", 1), setting("TAILRACE_SIM_SEEDS", 150)
	synctest.Test(t, serves)
	dir := t.TempDir()
	counts := map[string]int{}
	for seed := first; seed < first+seeds; seed++ {
		p := newDirectPlan(uint64(seed))
		if err := tryDirect(t, p, dir, func(what string) { counts[what]++ }); err != nil {
			t.Errorf("%v:\n%v\nRun it again with: make sim SEEDS=1 FIRST=%d", p, err, p.seed)
			break
		}
		if done := seed - first + 1; done%500 == 0 || done == seeds {
			t.Logf("%d seeds from %d on, no difference", done, first)
		}
	}
	for _, point := range directPoints {
		if seeds >= 500 && counts[fmt.Sprint(dCrashAt, " ", point)] == 0 {
			t.Errorf("the app has not crashed at %s", point)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%6d %s", counts[what], what)
	}
}

// serves fails where the server in memory does not answer as sources/postgres asks, which may ask
// something else than it did: an app would try again and again.
func serves(t *testing.T) {
	orders, customers := directTables(false)
	server := walsender.New(1, orders, customers)
	defer server.Close()
	defer pgdial.Instead(func(ctx context.Context, _, _ string) (net.Conn, error) { return server.Dial(ctx) })()
	s, err := postgres.Source(postgres.Config{URL: directURL}).Open(t.Context(), sources.OpenRequest{
		App: "sim", Database: "shop", Tables: []sources.TableRequest{{
			Name: "public.orders", Columns: []string{"id"}, KeyColumns: []string{"id"}, Changes: true, Snapshot: true,
		}},
	})
	if err != nil || server.Unknown() != nil {
		t.Fatalf("internal/sim/walsender/catalog.go does not answer what sources/postgres asks: %v, %v",
			err, server.Unknown())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func tryDirect(t *testing.T, p *directPlan, dir string, count func(what string)) error {
	return inBubble(t, p, func() error { return runDirect(p, dir, count) })
}
