package engine

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestTargetDownForAnHour has the clock of a bubble run through an hour in which the
// target cannot be opened: attempts go on at the longest pause, no faster and no slower,
// and the first after the hour delivers what waits, in order and once.
func TestTargetDownForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, asTable)
		b.limits = Limits{OneTransaction: true, Retry: 10 * time.Second}
		const changes = 100
		begin := time.Now()
		var attempts []time.Duration
		b.target.open = func() error {
			at := time.Since(begin)
			attempts = append(attempts, at)
			if at < time.Hour {
				return errDown
			}
			return nil
		}
		b.source.tx(true, 1)
		var back time.Duration
		if err := b.run(func(*Engine) {
			for i := 2; i <= changes; i++ { // all through the hour
				time.Sleep(30 * time.Second) // of the bubble's clock
				b.source.tx(false, i)
			}
			for i := 1; i <= changes; i++ {
				select {
				case d := <-b.target.taken:
					if d.columns[1] != itemName(i) {
						t.Fatalf("delivery %d is %v", i, d.columns)
					}
				case <-time.After(2 * time.Hour):
					t.Fatalf("%d deliveries, want %d", i-1, changes)
				}
			}
			back = time.Since(begin)
		}); err != nil {
			t.Fatal(err)
		}
		if late := back - time.Hour; late < 0 || late > b.limits.Retry {
			t.Errorf("delivered %s after the target was back", late)
		}
		if n := len(attempts); n < 360 || n > 370 {
			t.Errorf("%d attempts", n)
		}
		for i := 1; i < len(attempts); i++ {
			if pause := attempts[i] - attempts[i-1]; pause < 100*time.Millisecond || pause > b.limits.Retry {
				t.Errorf("%s between two attempts", pause)
			}
		}
	})
}

func itemName(i int) string {
	p := newSource()
	p.tx(false, i)
	return string(p.log[0].Rows[0].New[1].Data)
}
