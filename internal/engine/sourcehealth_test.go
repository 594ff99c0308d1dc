package engine

import (
	"errors"
	"fmt"
	"net"
	"strings"
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

// A server that was never reached may be the wrong one, and the status asks for that; one that
// was lost is not.
func TestUnreachableAtFirst(t *testing.T) {
	refused := fmt.Errorf("connect to db.example:5433: %w", &net.OpError{Op: "dial", Err: errDown})
	for _, c := range []struct {
		err   error
		hints bool
	}{{refused, true}, {&net.DNSError{Name: "db.exmaple"}, true}, {errDown, false}} {
		if got := strings.Contains(askedRightly(c.err).Error(), "host and port in the URL right"); got != c.hints {
			t.Errorf("%v: %v", c.err, askedRightly(c.err))
		}
	}
	b := newBench(t, asTable)
	b.source.refuses = refused
	b.source.tx(true, 1)
	if err := b.run(func(e *Engine) {
		await.That(t, "the hint", func() bool {
			err := e.Status().Sources["shop"]
			return err != nil && strings.Contains(err.Error(), "db.example:5433") &&
				strings.Contains(err.Error(), "host and port in the URL right")
		})
		b.source.mu.Lock()
		b.source.refuses = nil
		b.source.mu.Unlock()
		wait(t, b.target.taken)
		if e.status.neverOpen("shop") {
			t.Error("it is open, and is not known to have been")
		}
	}); err != nil {
		t.Fatal(err)
	}
}
