package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// asEvents delivers what is inserted, and not what is there at first.
func asEvents(b *topology.Builder, db *sources.Database, target *sinks.Target) {
	sinks.Stream(sources.Stream[int64, item](b, db, "public.items"), target, "items")
	sinks.View(sources.Table[int64, item](b, db, "public.items", sources.As[item]("table")), "items")
}

// content is all that a bench's directory holds of topologies, their queues and the
// engine's own.
func (b *bench) content() map[string]string {
	b.t.Helper()
	out := map[string]string{}
	b.atRest(func(dir *state.Dir) {
		it, err := dir.DB.NewIter(nil, nil)
		if err != nil {
			b.t.Fatal(err)
		}
		defer it.Close()
		for ok := it.First(); ok; ok = it.Next() {
			if bytes.HasSuffix(it.Key(), []byte("manifest")) {
				continue // counts the ids that were given away
			}
			out[fmt.Sprintf("%q", it.Key())] = string(it.Value())
		}
	})
	return out
}

// twoEvents runs a bench over two events, and stops it.
func (b *bench) twoEvents() {
	b.t.Helper()
	b.source.tx(true, 1)
	b.source.tx(false, 2)
	b.source.tx(false, 3)
	if err := b.run(func(*Engine) {
		wait(b.t, b.target.taken)
		wait(b.t, b.target.taken)
		for wait(b.t, b.source.acks) != 48 {
		}
	}); err != nil {
		b.t.Fatal(err)
	}
}

// A changed topology whose rebuild cannot start, since its snapshot cannot be opened,
// has cost nothing: the program of before goes on where it was.
func TestRebuildThatCannotStart(t *testing.T) {
	for _, refused := range []string{"session", "snapshot"} {
		t.Run(refused, func(t *testing.T) {
			b := newBench(t, asEvents)
			b.twoEvents()
			before := b.content()
			right := fmt.Errorf("no right: %w", sources.ErrConfig)
			if refused == "session" {
				b.source.refuses = right
			} else {
				b.source.refusesJoining = right
			}
			b.version++
			if err := b.run(nil); !errors.Is(err, right) {
				t.Fatalf("got %v", err)
			}
			if got := b.content(); fmt.Sprint(got) != fmt.Sprint(before) {
				t.Errorf("the directory holds\n%v, and before\n%v", got, before)
			}
			for _, req := range b.source.opens[1:] {
				if req.Joins == "" && !req.Partial {
					t.Error("the source was asked to take away what the program of before needs")
				}
			}
			b.source.refuses, b.source.refusesJoining = nil, nil
			b.version--
			b.source.tx(false, 4)
			opens := len(b.source.opens)
			if err := b.run(func(*Engine) {
				if ev := wait(t, b.target.taken).event; string(ev.Key) != "4" || ev.Replayed {
					t.Errorf("got %+v", ev)
				}
			}); err != nil {
				t.Fatal(err)
			}
			if n := len(b.source.opens) - opens; n != 1 {
				t.Errorf("%d sessions were opened: the state was not used", n)
			}
		})
	}
}

// A rebuild leaves nothing of the state before it, and its stores are those that a
// later start finds.
func TestRebuildDropsTheState(t *testing.T) {
	b := newBench(t, asEvents)
	b.twoEvents()
	stores := func() (ids []uint32) {
		b.atRest(func(dir *state.Dir) {
			all, err := dir.Stores("topo")
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range all {
				ids = append(ids, id)
			}
		})
		slices.Sort(ids)
		return ids
	}
	before := stores()
	b.version++
	b.source.tx(true, 1, 2, 3)
	b.source.tx(false, 4)
	if err := b.run(func(*Engine) {
		for string(wait(t, b.target.taken).event.Key) != "4" {
		}
	}); err != nil {
		t.Fatal(err)
	}
	after := stores()
	for _, id := range before {
		if slices.Contains(after, id) {
			t.Errorf("store %d has stayed", id)
		}
		b.atRest(func(dir *state.Dir) {
			if n, err := dir.StoreBytes(id); n != 0 || err != nil {
				t.Errorf("store %d holds %d bytes, %v", id, n, err)
			}
		})
	}
	b.source.tx(false, 5)
	if err := b.run(func(*Engine) { wait(t, b.target.taken) }); err != nil {
		t.Fatal(err)
	}
	if again := stores(); !slices.Equal(again, after) {
		t.Errorf("stores %v are %v after another start", after, again)
	}
}

// A rebuild over two databases takes the snapshots of both anew where one is cut short: an
// application wants a lock that it holds, or its connection is lost.
func TestRebuildWhoseSnapshotIsCutShort(t *testing.T) {
	for name, cut := range map[string]error{"lock": sources.ErrReopen, "connection": errors.New("cut")} {
		t.Run(name, func(t *testing.T) {
			var rows *view.View[int64, item]
			b := newBench(t, func(tb *topology.Builder, shop *sources.Database, out *sinks.Target) {
				depot := sources.NewDatabase("depot", nil)
				sinks.Stream(sources.Stream[int64, item](tb, shop, "public.items"), out, "items")
				sinks.Stream(sources.Stream[int64, item](tb, depot, "public.items", sources.As[item]("d")), out, "stock")
				rows = sinks.View(sources.Table[int64, item](tb, shop, "public.items", sources.As[item]("rows")), "rows")
			})
			b.depot = newSource()
			b.depot.name = "depot"
			b.depot.tx(true, 1)
			b.twoEvents()
			b.version++
			b.source.tx(true, 1, 2, 3, 7)
			b.depot.tx(true, 1)
			cuts := 0
			b.depot.breaks = func(joins bool) error {
				if !joins {
					return nil
				}
				if cuts++; cuts > 1 {
					return nil
				}
				b.source.tx(true, 1, 2, 3) // is what there is by now
				b.source.tx(false, 4)
				return cut
			}
			if err := b.run(func(e *Engine) {
				if ev := wait(t, b.target.taken).event; string(ev.Key) != "4" {
					t.Errorf("got event %s", ev.Key)
				}
				if err := rows.WaitFor(t.Context(), record.Positions{"shop": 96}); err != nil {
					t.Fatal(err)
				}
				var got []int64
				all := rows.Range(t.Context(), view.All[int64]())
				for key := range all.All() {
					got = append(got, key)
				}
				if want := []int64{1, 2, 3, 4}; all.Err() != nil || !slices.Equal(got, want) {
					t.Errorf("the view holds %v, %v, want %v", got, all.Err(), want)
				}
				if err := e.Status().Sources["depot"]; err != nil {
					t.Errorf("the depot is said to fail: %v", err)
				}
			}); err != nil {
				t.Fatal(err)
			}
			if cuts < 2 {
				t.Errorf("%d looks at the depot's snapshot", cuts)
			}
		})
	}
}

// Events that wait for a target while their topology is rebuilt are delivered: they are
// not taken again.
func TestRebuildKeepsWaitingEvents(t *testing.T) {
	b := newBench(t, asEvents)
	b.target.open = func() error { return errDown }
	b.source.tx(true, 1)
	b.source.tx(false, 2)
	if err := b.run(func(*Engine) {
		wait(t, b.observer.epochs)
		wait(t, b.observer.epochs)
	}); err != nil {
		t.Fatal(err)
	}
	b.target.open = nil
	b.version++
	b.source.tx(true, 1, 2)
	b.source.tx(false, 3)
	var got []string
	if err := b.run(func(*Engine) {
		for len(got) < 2 {
			got = append(got, wait(t, b.target.taken).event.ID)
		}
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{"shop/0/20/topo/warehouse/items/0", "shop/0/40/topo/warehouse/items/0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A changed topology that is held, since its tables do not fit, keeps the state of its
// other form, and the source keeps what follows that.
func TestHeldRebuildKeepsTheState(t *testing.T) {
	for name, form := range map[string]func(*topology.Builder, *sources.Database, *sinks.Target){
		"events": asEvents, "table": asTable,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, form)
			b.beside = func(b *topology.Builder, db *sources.Database) {
				sinks.View(sources.Table[int64, item](b, db, "public.items"), "others")
			}
			b.twoEvents()
			b.build = func(b *topology.Builder, db *sources.Database, target *sinks.Target) {
				type other struct{ Price int64 }
				sinks.Table(sources.Table[int64, other](b, db, "public.items"), target, "items")
			}
			b.source.tx(false, 4)
			if err := b.run(func(*Engine) {
				for wait(t, b.observer.epochs).Positions["shop"] != 64 {
				}
			}); err != nil {
				t.Fatal(err)
			}
			if at := b.source.durable(); at > 48 {
				t.Errorf("the source forgets up to %d", at)
			}
			b.build = form
			opens := len(b.source.opens)
			if err := b.run(func(*Engine) {
				for wait(t, b.target.taken).seq < 4 {
				}
			}); err != nil {
				t.Fatal(err)
			}
			if n := len(b.source.opens) - opens; n != 1 {
				t.Errorf("%d sessions were opened: the state was not used", n)
			}
		})
	}
}
