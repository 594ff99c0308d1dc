package sinks_test

import (
	"context"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

type city struct{ Country string }

// changes is a table node whose test feeds it.
type changes struct{ next []record.Change[string, city] }

func (c *changes) Step(*topology.Step) error { return nil }
func (c *changes) EndStep()                  { c.next = nil }

func (c *changes) Changes(yield func([]record.Change[string, city]) bool) error {
	for i := range c.next {
		if !yield(c.next[i : i+1]) {
			break
		}
	}
	return nil
}

func (c *changes) At(string) (v record.Versions[city], err error) { return v, nil }

func fed(b *topology.Builder, in *changes) topology.Table[string, city] {
	return topology.AddTable[string, city](b, topology.Node{
		Kind: topology.KindSourceTable, Name: "cities",
		New: func(*topology.Runtime) (topology.Operator, error) { return in, nil },
	})
}

func TestViewNode(t *testing.T) {
	in := &changes{}
	b := topology.New("geo")
	v := sinks.View(fed(b, in), "cities-view",
		view.Index("by-country", func(_ string, c city) string { return c.Country }))
	top := b.MustBuild()
	node := top.Nodes()[1]
	if node.Kind != sinks.KindView || node.Sink.(view.Port) != view.Port(v) || len(node.Stores) != 2 {
		t.Fatalf("node is %+v", node)
	}

	db := state.NewMemory()
	ids := map[string]uint32{}
	rt := &topology.Runtime{Env: &state.Env{DB: db}, StoreID: func(s string) uint32 {
		if ids[s] == 0 {
			ids[s] = uint32(len(ids) + 1)
		}
		return ids[s]
	}}
	ops, err := rt.Start(top)
	if err != nil {
		t.Fatal(err)
	}
	host := view.NewHost(view.HostOptions{})
	if err := host.Bind(v, func(s string) uint32 { return rt.StoreID(node.StoreName(s)) }); err != nil {
		t.Fatal(err)
	}
	step := func(seq uint64, next ...record.Change[string, city]) {
		t.Helper()
		in.next = next
		for _, op := range ops {
			if err := op.Step(&topology.Step{}); err != nil {
				t.Fatal(err)
			}
		}
		batch := db.NewBatch()
		for _, s := range rt.Stores() {
			if err := s.Flush(batch); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Commit(batch, true); err != nil {
			t.Fatal(err)
		}
		err := host.Publish(view.Commit{
			Seq: seq, Positions: record.Positions{"shop": seq}, Snapshot: db.NewSnapshot(),
			Changes: func(view.Port) view.Changed { return ops[1].(view.Changed) },
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range rt.Stores() {
			s.Committed()
		}
	}
	at, nl, be := record.HasNew, city{"NL"}, city{"BE"}
	step(1, record.Change[string, city]{Key: "Delft", New: be, Sides: at},
		record.Change[string, city]{Key: "Gent", New: be, Sides: at},
		record.Change[string, city]{Key: "Oss", New: nl, Sides: at})
	expect(t, v.Lookup(context.Background(), "by-country", "BE"), "Delft Gent")
	step(2, record.Change[string, city]{Key: "Delft", Old: be, New: nl, Sides: record.HasOld | record.HasNew},
		record.Change[string, city]{Key: "Oss", Old: nl, Sides: record.HasOld})
	expect(t, v.Lookup(context.Background(), "by-country", "BE"), "Gent")
	expect(t, v.Lookup(context.Background(), "by-country", "NL"), "Delft")
	expect(t, v.Range(context.Background(), view.All[string]()), "Delft Gent")
	if err := host.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, rows *view.Rows[string, city], want string) {
	t.Helper()
	var got []string
	for k := range rows.All() {
		got = append(got, k)
	}
	if rows.Err() != nil || strings.Join(got, " ") != want {
		t.Errorf("rows are %q, %v; want %q", got, rows.Err(), want)
	}
}

func TestViewMistakes(t *testing.T) {
	b := topology.New("geo")
	in := topology.AddTable[float64, chan int](b, topology.Node{Kind: topology.KindSourceTable, Name: "x",
		New: func(*topology.Runtime) (topology.Operator, error) { return nil, nil }})
	v := sinks.View(in, "odd")
	_, err := b.Build()
	if err == nil || !strings.Contains(err.Error(), `view "odd"`) || !strings.Contains(err.Error(), "chan int") {
		t.Errorf("Build: %v", err)
	}
	if _, _, _, err := v.Get(context.Background(), 1); err == nil {
		t.Error("the handle of a refused view can be read")
	}
}

func TestTwoViewsOfOneName(t *testing.T) {
	b := topology.New("geo")
	in := fed(b, &changes{})
	sinks.View(in, "totals")
	sinks.View(in, "totals")
	const want = `more than one view is named "totals"; give one another name`
	if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("got %v", err)
	}
}
