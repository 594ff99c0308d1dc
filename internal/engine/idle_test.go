package engine

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// TestIdleDatabaseAfterAFailureElsewhere: what an idle database has proved is forgotten
// with an epoch that fails in another one, and taken again when it says so again.
func TestIdleDatabaseAfterAFailureElsewhere(t *testing.T) {
	shop, depot := newSource(), newSource()
	depot.name = "depot"
	shop.tx(true, 1)
	depot.tx(true, 1)
	dir, err := state.OpenDir(filepath.Join(t.TempDir(), "state"), state.Identity{App: "app"}, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	one, two := topology.New("one"), topology.New("two")
	items := sinks.View(
		sources.Table[int64, item](one, sources.NewDatabase("shop", shop), "public.items"), "items")
	sinks.View(sources.Table[int64, item](two, sources.NewDatabase("depot", depot), "public.items"), "stock")
	host := view.NewHost(view.HostOptions{})
	defer host.Close(context.Background())
	e, err := New(Config{
		App: "app", Topologies: []*topology.Topology{one.MustBuild(), two.MustBuild()}, Dir: dir, Host: host,
		Sources: map[string]sources.Connector{"shop": shop, "depot": depot},
		Limits:  Limits{Retry: time.Millisecond, IdleCommit: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- e.Run(running) }()
	defer func() { stop(); <-ended }()
	for _, at := range []uint64{100, 200} { // only the first is made durable
		shop.mu.Lock()
		shop.idle = at
		shop.tell()
		shop.mu.Unlock()
		if err := items.WaitFor(ctx, record.Positions{"shop": at}); err != nil {
			t.Fatal(err)
		}
	}
	depot.misfit()
	await.That(t, "a topology that is held", func() bool { return len(e.Status().Held) > 0 })
	short, end := context.WithTimeout(ctx, 3*time.Second)
	defer end()
	hold, err := e.Hold(short, "shop")
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Release()
	m, err := hold.At(200)
	if err != nil {
		t.Fatalf("the idle database is not known to be complete up to 200: %v", err)
	}
	m.Close()
}

// misfit appends a transaction with a table of another shape.
func (s *scriptedSource) misfit() {
	s.mu.Lock()
	n := uint64(len(s.log) + 1)
	other := &record.Relation{Schema: items.Schema, Name: items.Name, Columns: items.Columns[:1]}
	s.log = append(s.log, sources.TxRows{
		Tx: &record.Tx{Source: s.name, Position: n * 16, CommitStart: n*16 - 8, CommitTime: int64(n)}, Last: true,
		Rows: []record.Row{{Rel: other, Op: record.Insert, New: record.Tuple{
			{Kind: record.Text, Data: []byte("7")},
		}}},
	})
	s.tell()
	s.mu.Unlock()
}
