package apptest

import (
	"context"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

// TestTopologyComesBack removes a topology, lets the other go on until the source has
// forgotten its log, and adds it again: it starts as new, and both equal SQL.
func TestTopologyComesBack(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items select i, i from generate_series(1, 100) i")
	cfg := tailrace.Config{App: "back", StateDir: t.TempDir() + "/state", IdleCommit: 50 * time.Millisecond}
	for round := range 3 {
		source := pgSource("shop", db)
		stays, goes := newSum(t, "stays", source, amount), newSum(t, "goes", source, amount)
		with := []*topology.Topology{stays.topology}
		if round != 1 {
			with = append(with, goes.topology)
		}
		app := start(t, cfg, with...)
		if err := app.app.WaitReady(deadline(t)); err != nil {
			t.Fatal(err, app.stop())
		}
		db.Exec("update items set amount = amount + 1")
		stays.equal(t, db, "shop")
		if round != 1 {
			goes.equal(t, db, "shop")
		}
		if err := app.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// gated hands over nothing before its gate opens.
type gated struct {
	sources.Connector
	gate chan struct{}
}

func (c *gated) Open(ctx context.Context, req sources.OpenRequest) (sources.Session, error) {
	s, err := c.Connector.Open(ctx, req)
	if err != nil {
		return nil, err
	}
	return &gatedSession{s, c.gate}, nil
}

type gatedSession struct {
	sources.Session
	gate chan struct{}
}

func (s *gatedSession) Next(ctx context.Context) (*sources.Batch, error) {
	select {
	case <-s.gate:
		return s.Session.Next(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestIdleBesideSnapshot lets one database fall idle while the snapshot of the other
// has not come: the first commit that a target sees holds both.
func TestIdleBesideSnapshot(t *testing.T) {
	left, right, wh := pgservertest.New(t), pgservertest.New(t), pgservertest.New(t)
	left.Exec(itemsSchema, "insert into items select i, i from generate_series(1, 100) i")
	right.Exec(itemsSchema, "insert into items select i, i from generate_series(50, 150) i")
	b := topology.New("both")
	joined := operators.OuterJoin("join",
		sources.Table[int64, item](b, pgSource("one", left), "public.items"),
		sources.Table[int64, item](b, pgSource("other", right), "public.items"),
		func(l item, _ bool, r item, _ bool) item { return item{l.Amount + r.Amount} })
	sinks.View(joined, "joined")
	sinks.Table(joined, sinks.NewTarget("warehouse",
		pgsink.Target(pgsink.Config{URL: wh.URL, CreateTables: true})), "joined")
	topo, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	cfg := tailrace.Config{App: "beside", StateDir: t.TempDir() + "/state"}
	cfg.Bind("other", &gated{postgres.Source(postgres.Config{URL: right.URL}), gate})
	app := start(t, cfg, topo)
	// Nothing may happen, for which there is nothing to wait: three seconds of changes are
	// time enough for a commit.
	change := time.NewTicker(50 * time.Millisecond)
	defer change.Stop()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); <-change.C {
		left.Exec("update items set amount = amount + 1 where id = 1")
		if !app.app.Status().LastCommit.IsZero() {
			t.Fatal("one database was committed without the other")
		}
	}
	close(gate)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
}
