package topology_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// TestZeroHandlePanics gives the zero handle alone to what makes nodes. No builder knows
// of it, so that Build could not say that the node is missing.
func TestZeroHandlePanics(t *testing.T) {
	var table topology.Table[int64, order]
	stream := misspelt(topology.New("orders"))
	target := sinks.NewTarget("out", nil)
	same := func(l, _ order) order { return l }
	for function, call := range map[string]func(){
		"sinks.Stream":     func() { sinks.Stream(stream, target, "small") },
		"sinks.Table":      func() { sinks.Table(table, target, "small") },
		"sinks.View":       func() { sinks.View(table, "small") },
		"operators.Filter": func() { operators.Filter(table, func(int64, order) bool { return true }) },
		"operators.MapStreamValues": func() {
			operators.MapStreamValues(stream, func(int64, order) int { return 0 })
		},
		"operators.Split":   func() { operators.Split(stream) },
		"operators.Merge":   func() { operators.Merge(stream, stream) },
		"operators.Join":    func() { operators.Join("join", table, table, same) },
		"operators.GroupBy": func() { operators.GroupBy(table, func(int64, order) bool { return true }) },
		"operators.Aggregate": func() {
			operators.Aggregate("count", operators.Grouped[int64, order]{}, aggregate.Count[order]())
		},
		"topology.Table.OnError": func() { table.OnError(nil) },
	} {
		got := panicOf(call)
		for _, want := range []string{
			"topology: " + function + ", called at ", "zerohandle_test.go:", "misspelt branch of Split",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: the panic is %q, want one with %q", function, got, want)
			}
		}
	}
}

// TestZeroHandleCallSite wants the line of the caller, not one inside an operator.
func TestZeroHandleCallSite(t *testing.T) {
	var table topology.Table[int64, order]
	got := panicOf(func() { operators.Filter(table, func(int64, order) bool { return true }) })
	_, _, line, _ := runtime.Caller(0)
	if want := fmt.Sprintf("zerohandle_test.go:%d,", line-1); !strings.Contains(got, want) {
		t.Errorf("the panic is %q, want one with %q", got, want)
	}
}

// TestZeroHandleBesideAnother wants the error from Build, wherever the zero handle stands.
func TestZeroHandleBesideAnother(t *testing.T) {
	var zero topology.Table[int64, order]
	same := func(l, _ order) order { return l }
	id := func(o order) int64 { return o.CustomerID }
	sides := func(l, _, _ order) order { return l }
	for name, wire := range map[string]func(in topology.Table[int64, order], b *topology.Builder){
		"left":  func(in topology.Table[int64, order], _ *topology.Builder) { operators.Join("j", zero, in, same) },
		"right": func(in topology.Table[int64, order], _ *topology.Builder) { operators.Join("j", in, zero, same) },
		"first of three": func(in topology.Table[int64, order], _ *topology.Builder) {
			operators.Join3("j", zero, in, in, sides)
		},
		"foreign key": func(in topology.Table[int64, order], _ *topology.Builder) {
			operators.JoinForeignKey("j", zero, in, id, same)
		},
		"enrich": func(in topology.Table[int64, order], _ *topology.Builder) {
			operators.Enrich("j", topology.Stream[int64, order]{}, in, id, same)
		},
		"merge": func(_ topology.Table[int64, order], b *topology.Builder) {
			events := sources.Stream[int64, order](b, sources.NewDatabase("shop", nil), "public.events")
			operators.Merge(misspelt(b), events)
		},
	} {
		b := topology.New("wrong")
		wire(source(b, "public.a"), b)
		if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), "is the zero handle") {
			t.Errorf("%s: Build gives %v, want an error about the zero handle", name, err)
		}
	}
}

// misspelt is a branch that a Split does not have.
func misspelt(b *topology.Builder) topology.Stream[int64, order] {
	events := sources.Stream[int64, order](b, sources.NewDatabase("shop", nil), "public.split")
	return operators.Split(events, operators.Branch[int64, order]{Name: "small"})["smal"]
}

func panicOf(f func()) (message string) {
	defer func() { message = fmt.Sprint(recover()) }()
	f()
	return ""
}
