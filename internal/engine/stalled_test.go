package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// The status says so while a user function does not return.
func TestFunctionThatHangs(t *testing.T) {
	called, goOn := make(chan bool), make(chan bool)
	b := newBench(t, func(b *topology.Builder, db *sources.Database, target *sinks.Target) {
		items := sources.Table[int64, item](b, db, "public.items")
		sinks.Table(operators.Filter(items, func(id int64, _ item) bool {
			if id == 2 {
				select {
				case called <- true:
					<-goOn
				default: // it is asked more than once
				}
			}
			return true
		}), target, "items")
	})
	b.limits.Stalled = 20 * time.Millisecond
	b.source.tx(true, 1)
	if err := b.run(func(e *Engine) {
		wait(t, b.target.taken)
		if got := e.Status().Stalled; len(got) > 0 {
			t.Errorf("the status has %v before anything hangs", got)
		}
		b.source.tx(false, 2)
		wait(t, called)
		await.That(t, "the status to say so", func() bool {
			err := e.Status().Stalled["shop"]
			return err != nil && strings.Contains(err.Error(), "1 rows wait")
		})
		close(goOn)
		await.That(t, "the status to forget it", func() bool { return len(e.Status().Stalled) == 0 })
	}); err != nil {
		t.Fatal(err)
	}
}
