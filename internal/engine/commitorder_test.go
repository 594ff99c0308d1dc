package engine

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// ordered is an engine whose databases the test writes to.
type ordered struct {
	*Engine
	t *testing.T
}

func newOrdered(t *testing.T, names ...string) ordered {
	e := &Engine{
		limits: Limits{MaxIdle: time.Second}, inOrder: true, lingering: time.NewTimer(0),
		pins: make(chan *pin),
	}
	for _, name := range names {
		e.databases = append(e.databases, &databaseRun{
			name: name, session: &scriptedSession{}, batches: make(chan readBatch, 8),
		})
	}
	return ordered{e, t}
}

// sends has a database send transactions with these commit times.
func (o ordered) sends(database int, caughtUp bool, times ...int64) {
	b := &sources.Batch{CaughtUp: caughtUp}
	for _, at := range times {
		b.Txs = append(b.Txs, sources.TxRows{Tx: &record.Tx{CommitTime: at}, Last: true})
	}
	o.databases[database].batches <- readBatch{batch: b}
}

// takes returns the commit times of what is taken without waiting for more than two
// seconds, with the database, and how long was waited before each batch.
func (o ordered) takes() (got []string) {
	for {
		began := time.Now()
		d, in, err := o.next(o.t.Context(), false, 2*time.Second)
		if err != nil {
			return append(got, err.Error())
		}
		if in == nil {
			return got
		}
		if wait := time.Since(began); wait > 0 {
			got = append(got, wait.String())
		}
		for _, tx := range in.Txs {
			got = append(got, fmt.Sprint(d.name, tx.Tx.CommitTime))
		}
	}
}

func TestTransactionsOfSeveralDatabases(t *testing.T) {
	for name, c := range map[string]struct {
		send func(o ordered)
		want []string
	}{
		"both have a backlog": {
			func(o ordered) { o.sends(0, true, 1, 3, 4, 7); o.sends(1, true, 2, 5, 6) },
			[]string{"a1", "b2", "a3", "a4", "b5", "b6", "a7"},
		},
		"several batches": {
			func(o ordered) {
				o.sends(0, false, 1, 5)
				o.sends(0, true, 6)
				o.sends(1, false, 2)
				o.sends(1, true, 3, 7)
			},
			[]string{"a1", "b2", "b3", "a5", "a6", "b7"},
		},
		"a message that has no time": {
			func(o ordered) {
				o.sends(0, true, 1, 1000, 4)
				o.sends(1, true, 2, 3)
				in := <-o.databases[0].batches
				in.batch.Txs[1].Messages = []record.Message{{Prefix: "note"}}
				o.databases[0].batches <- in
			},
			[]string{"a1", "a1000", "b2", "b3", "a4"},
		},
		"one that says nothing": {
			func(o ordered) { o.sends(0, true, 1, 2) },
			[]string{"1s", "a1", "a2"},
		},
		"one that has nothing": {
			func(o ordered) { o.sends(1, true); o.sends(0, true, 1, 2) },
			[]string{"a1", "a2"},
		},
		"one that goes silent": {
			func(o ordered) { o.sends(0, true, 1, 4); o.sends(1, false, 2) },
			[]string{"a1", "b2", "1s", "a4"},
		},
		"one that comes late": {
			func(o ordered) {
				o.sends(0, true, 1, 4)
				time.AfterFunc(300*time.Millisecond, func() { o.sends(1, true, 2) })
			},
			[]string{"300ms", "a1", "b2", "a4"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrdered(t, "a", "b")
				c.send(o)
				if got := o.takes(); !slices.Equal(got, c.want) {
					t.Errorf("took %q, want %q", got, c.want)
				}
			})
		})
	}
}

// A database that was given up is not waited for until it has said something again.
func TestSilentDatabaseIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrdered(t, "a", "b")
		for i, want := range [][]string{{"1s", "a1"}, {"a1"}, {"a1"}} {
			o.sends(0, true, 1)
			if got := o.takes(); !slices.Equal(got, want) {
				t.Errorf("%d: took %q, want %q", i, got, want)
			}
		}
		o.sends(1, false, 1)
		o.takes()
		o.sends(0, true, 1)
		if got, want := o.takes(), []string{"1s", "a1"}; !slices.Equal(got, want) {
			t.Errorf("after it had come: took %q, want %q", got, want)
		}
	})
}

// While a transaction is open its own database alone is read, and an error is returned
// although others have something.
func TestOpenTransactionOfSeveralDatabases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrdered(t, "a", "b")
		o.sends(0, true, 5, 9)
		o.sends(1, true, 7)
		o.databases[0].open = &record.Tx{}
		d, in, err := o.next(t.Context(), true, 0)
		if err != nil || d.name != "a" || len(in.Txs) != 1 {
			t.Fatalf("took %v of %v (%v), want the end of the open transaction alone", in, d, err)
		}
		o.databases[0].open = nil
		if got, want := o.takes(), []string{"b7", "a9"}; !slices.Equal(got, want) {
			t.Fatalf("behind it: took %q, want %q", got, want)
		}
		o.databases[0].batches <- readBatch{err: errors.New("broken")}
		if _, _, err := o.next(t.Context(), true, 0); err == nil || err.Error() != "broken" {
			t.Fatalf("got %v, want the session's error", err)
		}
	})
}
