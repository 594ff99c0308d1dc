package serde

import (
	"strconv"
	"testing"

	"github.com/tailrace/tailrace/record"
)

// Codecs are handed pointers to values on the stack. Wherever a stack grows on the way
// there or in them, and so moves, the value that they read or write has to be the one
// that moved along. The race detector adds calls, at which stacks grow as well.
func TestValuesMoveWithTheirStack(t *testing.T) {
	type pair struct {
		A, B int64
	}
	js, err := JSONOf[pair]()
	if err != nil {
		t.Fatal(err)
	}
	plan, err := PlanOf[pair]()
	if err != nil {
		t.Fatal(err)
	}
	rel := &record.Relation{Schema: "public", Name: "pair", Columns: []record.Column{
		{Name: "a", Type: "bigint"}, {Name: "b", Type: "bigint"},
	}}
	binding, err := plan.Bind(rel)
	if err != nil {
		t.Fatal(err)
	}
	var write func(depth int, row record.Tuple) (string, error)
	write = func(depth int, row record.Tuple) (string, error) {
		if depth > 0 {
			return write(depth-1, row)
		}
		var v pair
		err := binding.Decode(&v, row)
		a, _ := plan.AppendText(nil, 0, &v)
		return string(js.Append(a, &v, JSONOptions{})), err
	}
	type result struct {
		text string
		err  error
	}
	results := make(chan result)
	const depths = 2000
	for depth := range depths {
		n := strconv.Itoa(depth)
		go func() { // a new stack, small
			text, err := write(depth, record.Tuple{
				{Kind: record.Text, Data: []byte(n)}, {Kind: record.Text, Data: []byte("-1")},
			})
			results <- result{text, err}
		}()
		r := <-results
		if want := n + `{"a":` + n + `,"b":-1}`; r.text != want || r.err != nil {
			t.Fatalf("at depth %d: %s, %v; want %s", depth, r.text, r.err, want)
		}
	}
}
