package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
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
	})
}
