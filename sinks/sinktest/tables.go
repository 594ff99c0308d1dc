package sinktest

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tailrace/tailrace/sinks"
)

// Tables is a fresh, empty target of tables.
type Tables struct {
	Connector sinks.Connector
	// Rows returns what the target holds of an output: columns as text joined by "|",
	// Null for NULL, rows sorted by their bytes.
	Rows func(output sinks.Output) []string
}

// ExerciseTables tests a transactional target of tables. fresh makes an empty target
// with a lease of at most a second; the suite may call it several times.
func ExerciseTables(t *testing.T, fresh func(t *testing.T) Tables) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s *session)
	}{
		{"first load and progress", firstLoad},
		{"replay changes nothing", replay},
		{"an epoch that fails leaves nothing", failedItems},
		{"any cut of the epochs gives the same tables", randomEpochs},
		{"a new incarnation reconciles", reconcile},
		{"an output that joins later leaves the others alone", joinLater},
		{"the same state directory fences its predecessor", fenceSame},
		{"another incarnation waits for a living one", heldByLiving},
		{"another incarnation takes over from a dead one", takeOver},
		{"a large epoch", largeEpoch},
		{"the first epoch must reconcile", mustReconcile},
		{"drop forgets the progress and keeps the rows", dropKeepsRows},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &session{T: t, Tables: fresh(t), outputs: []sinks.Output{Accounts, Places}}
			s.model = NewModel(s.outputs)
			c.run(t, s)
		})
	}
}

// session is a target under test with its oracle.
type session struct {
	*testing.T
	Tables
	outputs []sinks.Output
	model   Model
}

func (s *session) request(incarnation string) sinks.OpenRequest {
	return sinks.OpenRequest{App: App, Target: TargetName, Incarnation: incarnation, Outputs: s.outputs}
}

func (s *session) open(incarnation string) sinks.Writer {
	s.Helper()
	w, err := s.Connector.Open(s.Context(), s.request(incarnation))
	if err != nil {
		s.Fatalf("open as %s: %v", incarnation, err)
	}
	s.Cleanup(func() { _ = w.Close() })
	return w
}

// apply applies epochs to the target and to the oracle, and compares.
func (s *session) apply(w sinks.Writer, epochs ...sinks.Epoch) {
	s.Helper()
	if err := w.Apply(s.Context(), epochs); err != nil {
		s.Fatalf("apply: %v", err)
	}
	for _, e := range epochs {
		s.model.Apply(e)
	}
	s.compare()
	s.progress(w, epochs[len(epochs)-1].Seq, true)
}

func (s *session) compare() {
	s.Helper()
	for _, o := range s.outputs {
		if got, want := s.Rows(o), s.model.Rows(o.ID); !slices.Equal(got, want) {
			s.Fatalf("table %s holds\n%q\nwant\n%q", o.Name, got, want)
		}
	}
}

func (s *session) progress(w sinks.Writer, seq uint64, ok bool) {
	s.Helper()
	gotSeq, gotOK, err := w.Progress(s.Context())
	if err != nil || gotSeq != seq || gotOK != ok {
		s.Fatalf("progress is %d, %v, %v; want %d, %v", gotSeq, gotOK, err, seq, ok)
	}
}

func (s *session) refuses(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("%s: got %v, want %v", what, err, want)
	}
}

func firstLoad(t *testing.T, s *session) {
	w := s.open("one")
	s.progress(w, 0, false)
	s.apply(w, Whole(Epoch(1, Put(Accounts, 1, nil, "1.50"), Put(Places, "EU", "Paris", 3), Put(Places,
		nil, "Paris", 4))))
	s.apply(w, Epoch(2, Put(Accounts, 1, "x", "1.5"), Del(Places, nil, "Paris")), Epoch(9))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = s.open("one")
	s.progress(w, 9, true)
	s.apply(w, Epoch(10, Del(Accounts, 1), Put(Places, nil, "Rome", 1)))
}

func replay(t *testing.T, s *session) {
	w := s.open("one")
	first := Whole(Epoch(1, Put(Accounts, 1, "a", 1), Put(Accounts, 2, "b", 2)))
	second, third := Epoch(2, Put(Accounts, 1, "c", 3)), Epoch(3, Del(Accounts, 1), Put(Places, "EU",
		"Rome", 1))
	s.apply(w, first, second)
	for _, again := range [][]sinks.Epoch{{first}, {first, second}, {second}} {
		if err := w.Apply(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		s.compare()
		s.progress(w, 2, true)
	}
	s.model.Apply(third)
	if err := w.Apply(t.Context(), []sinks.Epoch{first, second, third}); err != nil {
		t.Fatal(err)
	}
	s.compare()
	s.progress(w, 3, true)
}

func failedItems(t *testing.T, s *session) {
	w := s.open("one")
	s.apply(w, Whole(Epoch(1, Put(Accounts, 1, "a", 1))))
	boom := errors.New("queue cannot be read")
	for _, reconcile := range []bool{false, true} {
		bad := Epoch(3)
		bad.Reconcile = reconcile
		bad.Items = func(yield func(sinks.Item) bool) error {
			yield(Put(Accounts, 2, "b", 2))
			return boom
		}
		err := w.Apply(t.Context(), []sinks.Epoch{Epoch(2, Put(Accounts, 1, "z", 9)), bad})
		s.refuses("apply", err, boom)
		s.compare()
		s.progress(w, 1, true)
	}
	s.apply(w, Epoch(2, Put(Accounts, 1, "z", 9)), Epoch(3, Put(Accounts, 2, "b", 2)))
}

func randomEpochs(t *testing.T, s *session) {
	w := s.open("one")
	rng := rand.New(rand.NewPCG(3, 4))
	s.apply(w, Whole(Epoch(1)))
	for seq := uint64(2); seq < 150; {
		var epochs []sinks.Epoch
		for range 1 + rng.IntN(4) {
			epochs = append(epochs, RandomEpoch(rng, seq, 30))
			seq += 1 + uint64(rng.IntN(2))
		}
		s.apply(w, epochs...)
	}
}

func reconcile(t *testing.T, s *session) {
	w := s.open("one")
	rng := rand.New(rand.NewPCG(5, 6))
	s.apply(w, Whole(Epoch(1)), RandomEpoch(rng, 2, 60), RandomEpoch(rng, 3, 60))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for i, incarnation := range []string{"two", "three", "one"} {
		w = s.open(incarnation)
		s.progress(w, 0, false)
		s.compare()
		content := NewModel(s.outputs)
		for j := range 3 {
			content.Apply(RandomEpoch(rng, uint64(j), 60))
		}
		whole := WholeOf(uint64(i+1), content, s.outputs...)
		s.apply(w, whole, RandomEpoch(rng, 8, 20))
		// The caller may reconcile at any time, also to the same content.
		s.apply(w, RandomEpoch(rng, 9, 20), WholeOf(10, s.model, s.outputs...), RandomEpoch(rng, 11, 20))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// joinLater reconciles one output while the other gets its ordinary changes.
func joinLater(_ *testing.T, s *session) {
	w := s.open("one")
	s.apply(w, Whole(Epoch(1, Put(Accounts, 1, "a", 1), Put(Accounts, 2, "b", 2), Put(Places, nil, "old", 1),
		Put(Places, "EU", "old", 1))))
	for seq := uint64(100); seq < 300; seq += 100 {
		e := Whole(Epoch(seq, Put(Places, "EU", "Rome", seq), Del(Accounts, 1), Put(Accounts, 3, "c", seq)))
		e.Fresh = []uint32{Places.ID}
		s.apply(w, e, Epoch(seq+10, Put(Places, nil, "old", 2)))
		s.apply(w, Epoch(seq+20, Put(Accounts, 1, "a", 1)))
	}
}

func fenceSame(t *testing.T, s *session) {
	old := s.open("one")
	s.apply(old, Whole(Epoch(1, Put(Accounts, 1, "a", 1))))
	next := s.open("one")
	// Even an epoch with the number that the old one would write next.
	s.refuses("apply", old.Apply(t.Context(), []sinks.Epoch{Epoch(2, Put(Accounts, 1, "zombie", 1))}),
		sinks.ErrFenced)
	s.apply(next, Epoch(2, Put(Accounts, 1, "b", 1)))
	s.refuses("apply", old.Apply(t.Context(), []sinks.Epoch{Epoch(3, Put(Accounts, 1, "zombie", 1))}),
		sinks.ErrFenced)
	_, _, err := old.Progress(t.Context())
	s.refuses("progress", err, sinks.ErrFenced)
	s.compare()
}

func heldByLiving(t *testing.T, s *session) {
	w := s.open("one")
	s.apply(w, Whole(Epoch(1, Put(Accounts, 1, "a", 1))))
	_, err := s.Connector.Open(t.Context(), s.request("two"))
	s.refuses("open", err, sinks.ErrHeld)
	s.refuses("drop", s.Connector.Drop(t.Context(), sinks.DropRequest{App: App, Target: TargetName}),
		sinks.ErrHeld)
	s.apply(w, Epoch(2, Put(Accounts, 1, "b", 1)))
}

// takeOver has the dead instance come back in the middle of what replaced it.
func takeOver(t *testing.T, s *session) {
	dead := s.open("one")
	s.apply(dead, Whole(Epoch(1, Put(Accounts, 1, "a", 1), Put(Accounts, 2, "b", 2))))
	if err := dead.Close(); err != nil { // gives up the lease, as its end would
		t.Fatal(err)
	}
	back := s.open("one")
	if err := back.Close(); err != nil {
		t.Fatal(err)
	}
	w := s.open("two")
	s.progress(w, 0, false)
	s.apply(w, Whole(Epoch(1, Put(Accounts, 2, "b", 2), Put(Accounts, 3, "c", 3))))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s.apply(s.open("one"), Whole(Epoch(2, Put(Accounts, 4, "d", 4))))
}

func largeEpoch(t *testing.T, s *session) {
	w := s.open("one")
	const n = 40_000
	large := func(seq uint64, value string) sinks.Epoch {
		e := Epoch(seq)
		e.Items = func(yield func(sinks.Item) bool) error {
			for i := range n {
				if !yield(Put(Accounts, i, value, i)) {
					return nil
				}
			}
			return nil
		}
		return e
	}
	start := time.Now()
	s.apply(w, Whole(large(1, "first")))
	s.apply(w, large(2, "second"), large(3, "third"))
	gone := Epoch(4)
	gone.Items = func(yield func(sinks.Item) bool) error {
		for i := range n {
			if i%100 != 0 && !yield(Del(Accounts, i)) {
				return nil
			}
		}
		return nil
	}
	s.apply(w, gone)
	t.Logf("%d rows in %s", 4*n, time.Since(start))
}

func mustReconcile(t *testing.T, s *session) {
	w := s.open("one")
	if err := w.Apply(t.Context(), []sinks.Epoch{Epoch(1, Put(Accounts, 1, "a", 1))}); err == nil {
		t.Fatal("a first epoch that does not reconcile was applied")
	}
	s.compare()
}

func dropKeepsRows(t *testing.T, s *session) {
	drop := func() error {
		return s.Connector.Drop(t.Context(), sinks.DropRequest{App: App, Target: TargetName})
	}
	if err := drop(); err != nil {
		t.Fatalf("drop of what never was: %v", err)
	}
	w := s.open("one")
	s.apply(w, Whole(Epoch(1, Put(Accounts, 1, "a", 1))))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := drop(); err != nil {
			t.Fatal(err)
		}
	}
	s.compare()
	w = s.open("one")
	s.progress(w, 0, false)
	s.apply(w, Whole(Epoch(1, Put(Accounts, 2, "b", 1))))
}
