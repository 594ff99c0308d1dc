package kstreams

import "testing"

// TestOrderWithoutTimes: pairs and records without a partner are two orders, also where
// times do not count.
func TestOrderWithoutTimes(t *testing.T) {
	c := &Case{
		Nodes: []Node{{ID: "l", Op: "stream"}, {ID: "r", Op: "stream"},
			{ID: "j", Op: "join", In: []string{"l", "r"}, Window: &Window{Kind: "join"}}},
		Out: []string{"j"},
	}
	result := func(values ...string) *Result {
		var step []Output
		for _, v := range values {
			step = append(step, Output{Node: "j", Key: pointer("a"), Value: &v})
		}
		return &Result{Steps: [][]Output{step}}
	}
	for _, alone := range []string{"A-null", "null-B"} {
		if first, last := result(alone, "A-B"), result("A-B", alone); !sameValues(c, first, last) {
			t.Errorf("%s before the pair and after it differ", alone)
		}
	}
	if sameValues(c, result("A-B", "A-C"), result("A-C", "A-B")) {
		t.Error("pairs in another order are the same")
	}
}
