package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// What the status says of one database is not changed by what another one does.
func TestUnreachableDatabaseOfANewcomer(t *testing.T) {
	j := newJoining(t)
	j.limits.Retry = time.Hour
	j.depot = newSource()
	j.depot.name, j.depot.refuses = "depot", errDown
	j.depot.tx(true, 1)
	j.beside = func(b *topology.Builder, _ *sources.Database) {
		sinks.View(sources.Table[int64, item](b, sources.NewDatabase("depot", j.depot), "public.items"), "second")
	}
	if err := j.run(func(e *Engine) {
		await.That(t, "the database to be missed", func() bool { return e.Status().Sources["depot"] != nil })
		j.source.tx(false, 3)
		for wait(t, j.source.acks) != 64 {
		}
		if got := e.Status().Sources; len(got) != 1 || !errors.Is(got["depot"], errDown) {
			t.Errorf("the status has %v", got)
		}
		j.depot.mu.Lock()
		j.depot.refuses = nil
		j.depot.mu.Unlock()
		wait(t, e.Joined())
		if got := e.Status().Sources; len(got) > 0 {
			t.Errorf("the status still has %v", got)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// The status says so while a session has no connection, whatever else is committed.
func TestSessionWithoutItsConnection(t *testing.T) {
	b := newBench(t, asTable)
	b.source.tx(true, 1)
	if err := b.run(func(e *Engine) {
		wait(t, b.target.taken)
		b.source.mu.Lock()
		session := b.source.opens[0].Observe
		b.source.mu.Unlock()
		session.Disconnected(errDown)
		b.source.tx(false, 2)
		for wait(t, b.source.acks) != 32 {
		}
		if got := e.Status().Sources["shop"]; !errors.Is(got, errDown) {
			t.Errorf("the status has %v", got)
		}
		session.Reconnected(errDown)
		if got := e.Status().Sources; len(got) > 0 {
			t.Errorf("the status still has %v", got)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
