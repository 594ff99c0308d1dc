package engine

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

func TestLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &lagMeter{}
		expect := func(want Lag) {
			t.Helper()
			if got := m.lag(time.Now()); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
		expect(Lag{})
		m.show(100, 0, time.Now().Add(-time.Hour)) // a snapshot of old rows: all there is
		m.reported(100)
		time.Sleep(time.Minute) // of the test's own clock
		expect(Lag{Head: 100, Shown: 100})

		m.reported(150) // somebody has written, nothing has come
		expect(Lag{Head: 150, Shown: 100, Behind: time.Minute})
		three, four := make([]record.Row, 3), make([]record.Row, 4)
		m.received(&sources.Batch{Txs: []sources.TxRows{{Rows: three}, {Rows: four}}})
		expect(Lag{Head: 150, Shown: 100, Rows: 7, Behind: time.Minute})
		m.show(120, 3, time.Now().Add(-2*time.Second))
		expect(Lag{Head: 150, Shown: 120, Rows: 4, Behind: 2 * time.Second})
		m.show(160, 4, time.Now().Add(-time.Second))
		expect(Lag{Head: 150, Shown: 160})

		m.received(&sources.Batch{Txs: []sources.TxRows{{Rows: make([]record.Row, 9)}}})
		time.Sleep(time.Second) // of the test's own clock
		expect(Lag{Head: 150, Shown: 160, Rows: 9, Behind: time.Second})
		m.restarted()
		expect(Lag{Head: 150, Shown: 160})

		m.reported(160)
		m.unheard()                 // the connection is lost: there may be anything
		time.Sleep(time.Minute)     // of the test's own clock
		m.show(160, 0, time.Time{}) // another database has committed
		expect(Lag{Head: 160, Shown: 160, Behind: time.Minute})
		m.reported(160)
		expect(Lag{Head: 160, Shown: 160})
	})
}

// Rows of a database that a newcomer alone reads are counted until views show them, while
// it is on its way and once the loop has taken over its session.
func TestLagOfAHandedOverSession(t *testing.T) {
	j := newJoining(t)
	j.depot = newSource()
	j.depot.name = "depot"
	j.depot.tx(true, 1, 2)
	going := make(chan struct{})
	j.beside = func(b *topology.Builder, _ *sources.Database) {
		rows := sources.Table[int64, item](b, sources.NewDatabase("depot", j.depot), "public.items")
		j.second = sinks.View(operators.Filter(rows, func(key int64, _ item) bool {
			if key >= 3 {
				<-going
			}
			return true
		}), "second")
	}
	goOn := sync.OnceFunc(func() { close(going) })
	if err := j.run(func(e *Engine) {
		defer goOn()
		close(j.source.gate)
		wait(t, e.Joined())
		counts := func(what string, rows int64) {
			t.Helper()
			await.That(t, what, func() bool { return e.Lags()["depot"].Rows == rows })
		}
		counts("the snapshot to be shown", 0)
		j.depot.tx(false, 3, 4)
		j.depot.tx(false, 5)
		counts("what waits to be counted", 3)
		goOn()
		counts("what waited to be shown", 0)
		if got := e.Lags()["depot"].Shown; got != 48 {
			t.Errorf("%d is shown", got)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
