package sinktest

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/tailrace/tailrace/sinks"
)

// Events is a fresh, empty target of events.
type Events struct {
	Connector sinks.Connector
	// IDs returns the ids of the events that the target holds, in order.
	IDs func() []string
	// AtLeastOnce says that the target remembers nothing over a restart.
	AtLeastOnce bool
}

// Stream is the output that ExerciseEvents writes.
var Stream = sinks.Output{ID: 5, Name: "paid-orders", Append: true}

// Event is an event of the transaction at position; nth numbers the transaction's
// events, and last marks the last of them.
func Event(position uint64, nth int, last bool) sinks.Item {
	key := strconv.Itoa(nth)
	return sinks.Item{Output: Stream.ID, Event: &sinks.Event{
		ID:  fmt.Sprintf("shop/%X/%d", position, nth),
		Key: []byte(key), Value: []byte(`{"n":` + key + `,"text":"line\nend żółć \\ \""}`),
		Time: int64(position) * 1e6, Source: "shop", Position: position, XID: uint32(position), Last: last,
	}}
}

// Transaction is the n events of the transaction at position.
func Transaction(position uint64, n int) []sinks.Item {
	var items []sinks.Item
	for i := range n {
		items = append(items, Event(position, i, i == n-1))
	}
	return items
}

// IDsOf returns the ids of an epoch's events.
func IDsOf(epochs ...sinks.Epoch) []string {
	var ids []string
	for _, e := range epochs {
		_ = e.Items(func(it sinks.Item) bool {
			ids = append(ids, it.Event.ID)
			return true
		})
	}
	return ids
}

// ExerciseEvents tests a target of events. fresh makes an empty target; the suite may
// call it several times.
func ExerciseEvents(t *testing.T, fresh func(t *testing.T) Events) {
	first := Whole(Epoch(1, append(Transaction(10, 3), Transaction(11, 1)...)...))
	second, third := Epoch(2), Epoch(5, Transaction(20, 300)...)
	for _, c := range []struct {
		name string
		run  func(t *testing.T, e Events)
	}{
		{"order and replay", func(t *testing.T, e Events) {
			w := openEvents(t, e, "one")
			for _, epochs := range [][]sinks.Epoch{{first}, {first, second}, {second, third}, {third}} {
				if err := w.Apply(t.Context(), epochs); err != nil {
					t.Fatal(err)
				}
			}
			wantIDs(t, e, IDsOf(first, second, third))
		}},
		{"restart", func(t *testing.T, e Events) {
			w := openEvents(t, e, "one")
			applyAll(t, w, first, second)
			closeWriter(t, w)
			w = openEvents(t, e, "one")
			seq, ok, err := w.Progress(t.Context())
			if want := !e.AtLeastOnce; err != nil || ok != want || ok && seq != 2 {
				t.Fatalf("progress is %d, %v, %v", seq, ok, err)
			}
			applyAll(t, w, third)
			wantIDs(t, e, IDsOf(first, third))
		}},
		{"events of a lost state are not doubled", func(t *testing.T, e Events) {
			w := openEvents(t, e, "one")
			applyAll(t, w, first, third)
			closeWriter(t, w)
			w = openEvents(t, e, "two")
			if _, ok, err := w.Progress(t.Context()); ok || err != nil {
				t.Fatalf("progress of another incarnation: %v, %v", ok, err)
			}
			again := Epoch(1, append(Transaction(11, 1), Transaction(20, 300)...)...)
			next := Epoch(2, Transaction(30, 2)...)
			applyAll(t, w, Whole(again), next)
			want := IDsOf(first, third, next)
			if e.AtLeastOnce {
				want = IDsOf(first, third, again, next)
			}
			wantIDs(t, e, want)
		}},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, fresh(t)) })
	}
}

func openEvents(t *testing.T, e Events, incarnation string) sinks.Writer {
	t.Helper()
	w, err := e.Connector.Open(t.Context(), sinks.OpenRequest{
		App: App, Target: TargetName, Incarnation: incarnation, Outputs: []sinks.Output{Stream},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func applyAll(t *testing.T, w sinks.Writer, epochs ...sinks.Epoch) {
	t.Helper()
	if err := w.Apply(t.Context(), epochs); err != nil {
		t.Fatal(err)
	}
}

func closeWriter(t *testing.T, w sinks.Writer) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func wantIDs(t *testing.T, e Events, want []string) {
	t.Helper()
	if got := e.IDs(); !slices.Equal(got, want) {
		t.Fatalf("target holds %d events, want %d:\n%q\nwant\n%q", len(got), len(want), got, want)
	}
}
