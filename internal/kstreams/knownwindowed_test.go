package kstreams_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/kstreams"
)

// TestKnownWindows shows, for each defect of Kafka Streams' windows, the least input with
// what Kafka Streams makes of it and what is right. Records are key=value@time, of the
// first stream, or of the second with > before them.
func TestKnownWindows(t *testing.T) {
	for _, c := range []struct {
		name            string
		node            kstreams.Node
		input           string
		kafka, tailrace string
	}{
		{
			// The store has dropped windows by the time at which they close: in memory all of
			// them, on disk those that close in a jump.
			"windows lost on close",
			kstreams.Node{Fn: "concat", Close: true, Window: &kstreams.Window{Kind: "hopping", Size: 10, Advance: 5}},
			"a=1@0 a=2@5 a=3@10 b=4@6 b=5@11 b=6@15 c=7@25",
			"",
			"a[0,10]=1+2@5 a[5,15]=2+3@10 b[5,15]=4+5@11 a[10,20]=3@10 b[10,20]=5+6@15 b[15,25]=6@15",
		},
		{
			// The record at 101 is in no window when the one of 111 comes.
			"sliding forgets",
			kstreams.Node{Fn: "concat", Window: &kstreams.Window{Kind: "sliding", Size: 10}},
			"b=y@111 a=x@101 a=z@111",
			"b[101,111]=y@111 a[101,111]=z@111",
			"b[101,111]=y@111 a[101,111]=x+z@111 a[102,112]=z@111",
		},
		{
			// The result of [15,15] is out, and its record in another result.
			"session on-close is not final",
			kstreams.Node{
				Fn: "concat", Close: true, Retention: 1000, Window: &kstreams.Window{Kind: "session", Size: 3},
			},
			"a=1@15 b=2@19 b=3@20 a=4@18 b=5@100",
			"a[15,15]=1@15 a[15,18]=1+4@18 b[19,20]=2+3@20",
			"a[15,15]=1@15 a[18,18]=4@18 b[19,20]=2+3@20",
		},
		{
			// The session that ends at 12 takes records until after 20, and the store has
			// dropped it by then.
			"session drop bound",
			kstreams.Node{Fn: "count", Window: &kstreams.Window{Kind: "session", Size: 5, Grace: 3}},
			"b=1@20 a=1@12 a=1@12", "b[20,20]=1@20 a[12,12]=1@12 a[12,12]=1@12",
			"b[20,20]=1@20 a[12,12]=1@12 a[12,12]=2@12",
		},
		{
			// The record at 9 is late: [0,10) closed at 12.
			"windowed cogroup",
			kstreams.Node{
				Op: "cogroup", Fns: []string{"concat", "concat"}, Window: &kstreams.Window{Kind: "tumbling", Size: 10},
			},
			"a=L@1 >a=R@5 >a=R@12 a=L@9",
			"a[0,10]=L@1 a[0,10]=L+R@5 a[10,20]=R@12 a[0,10]=L@9",
			"a[0,10]=L@1 a[0,10]=L+R@5 a[10,20]=R@12",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := c.node
			n.ID, n.In = "g", []string{"l"}
			kase := &kstreams.Case{Out: []string{"g"}, Nodes: []kstreams.Node{{ID: "l", Op: "stream", Topic: "l"}}}
			if n.Op == "" {
				n.Op = "aggregate"
			} else {
				n.In = append(n.In, "r")
				kase.Nodes = append(kase.Nodes, kstreams.Node{ID: "r", Op: "stream", Topic: "r"})
			}
			kase.Nodes, kase.Records = append(kase.Nodes, n), recordsOf(t, c.input)
			kafka, err := oracle(t).Run(kase)
			if err != nil {
				t.Fatal(err)
			}
			tailrace, err := kstreams.Run(kase, kstreams.Always)
			if err != nil {
				t.Fatal(err)
			}
			if got := outputs(kafka); got != c.kafka {
				t.Errorf("Kafka Streams gives\n     %s\nand not %s", got, c.kafka)
			}
			if got := outputs(tailrace); got != c.tailrace {
				t.Errorf("Tailrace gives\n     %s\nand not %s", got, c.tailrace)
			}
		})
	}
}

func recordsOf(t *testing.T, input string) (in []kstreams.Input) {
	t.Helper()
	for _, field := range strings.Fields(input) {
		r := kstreams.Input{Topic: "l"}
		if rest, right := strings.CutPrefix(field, ">"); right {
			r.Topic, field = "r", rest
		}
		key, rest, _ := strings.Cut(field, "=")
		value, at, _ := strings.Cut(rest, "@")
		ts, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		r.Key, r.Value, r.TS = &key, &value, ts
		in = append(in, r)
	}
	return in
}

// outputs shows all that a case put out, tombstones of sessions that go on excepted.
func outputs(r *kstreams.Result) string {
	var all []string
	for _, step := range r.Steps {
		for i := range step {
			if step[i].Value != nil {
				all = append(all, step[i].String())
			}
		}
	}
	return strings.TrimSpace(strings.Join(all, " ") + r.Error)
}
