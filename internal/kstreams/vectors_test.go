package kstreams_test

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tailrace/tailrace/internal/kstreams"
)

// vectors are the inputs and expected outputs of Kafka Streams' own join tests.
type vectors struct {
	Inputs map[string][]struct {
		Side  string
		Key   *int64
		Value *string
		TS    int64
	}
	Cases []vectorCase
}

type vectorCase struct {
	Kind, Name, Input string
	Expect            [][]struct {
		Key   *int64
		Value *string
		TS    int64
	}
}

// better are the outputs where Tailrace deliberately differs, by case and number of
// the input (from 1): what Kafka Streams' test calls wrong in a comment.
var better = map[string]map[int][]string{
	"inner.inner": {11: {"0=~@11"}}, // KAFKA-6443: the result ends, so there is a tombstone
}

// TestVectors runs the cases on the Java program, whose outputs must be the expected
// ones, and on Tailrace, whose net outputs must be.
func TestVectors(t *testing.T) {
	data, err := os.ReadFile("../../operators/testdata/kafka-streams-joins.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	for _, vc := range v.Cases {
		want := &kstreams.Result{}
		for _, step := range vc.Expect {
			var out []kstreams.Output
			for _, r := range step {
				out = append(out, kstreams.Output{Node: "j", Key: numeral(r.Key), Value: r.Value, TS: r.TS})
			}
			want.Steps = append(want.Steps, out)
		}
		t.Run(vc.Kind+"/"+vc.Name, func(t *testing.T) { runVector(t, vc, v.caseOf(vc), want) })
	}
	if len(v.Cases) != 24 {
		t.Errorf("there are %d cases, want 24", len(v.Cases))
	}
}

func runVector(t *testing.T, vc vectorCase, c *kstreams.Case, want *kstreams.Result) {
	kafka, err := oracle(t).Run(c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want.Steps {
		if diff := cmp.Diff(texts(want.Steps[i]), texts(kafka.Steps[i])); diff != "" || kafka.Error != "" {
			t.Errorf("Kafka Streams, input %d: %s %s", i+1, diff, kafka.Error)
		}
	}
	got, err := kstreams.Run(c, kstreams.Never)
	if err != nil {
		t.Fatal(err)
	}
	for i, texts := range better[vc.Name] {
		key, rest, _ := strings.Cut(texts[0], "=~@")
		ts, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		want.Steps[i-1] = []kstreams.Output{{Node: "j", Key: &key, TS: ts}}
	}
	if d := kstreams.Compare(c, want, got); d != nil {
		t.Error(d)
	}
}

func texts(out []kstreams.Output) []string {
	all := []string{}
	for _, o := range out {
		all = append(all, o.String())
	}
	return all
}

func numeral(n *int64) *string {
	if n == nil {
		return nil
	}
	s := strconv.FormatInt(*n, 10)
	return &s
}

func (v *vectors) caseOf(vc vectorCase) *kstreams.Case {
	c := &kstreams.Case{Out: []string{"j"}}
	const history = 5 * 60 * 1000
	name, versions, _ := strings.Cut(vc.Name, "/")
	left := kstreams.Node{ID: "l", Op: "table", Topic: "L"}
	right := kstreams.Node{ID: "r", Op: "table", Topic: "R"}
	if strings.HasPrefix(versions, "both") || strings.HasPrefix(versions, "left") {
		left.History = history
	}
	if strings.HasPrefix(versions, "both") || strings.HasPrefix(versions, "right") ||
		strings.HasSuffix(vc.Name, "table-versioned") {
		right.History = history
	}
	switch vc.Kind {
	case "stream-table":
		left.Op = "stream"
	case "stream-stream", "stream-self-join":
		left.Op, right.Op = "stream", "stream"
	}
	c.Nodes = []kstreams.Node{left, right}
	from, kinds := "l", strings.Split(name, ".")
	for i, kind := range kinds {
		n := kstreams.Node{ID: "j" + strconv.Itoa(i), Op: "join", Kind: kind, In: []string{from, "r"}}
		switch vc.Kind {
		case "stream-stream":
			n.Window = &kstreams.Window{Kind: "join", Before: 10_000, After: 10_000, Grace: 86_400_000}
		case "stream-self-join":
			n.Kind, n.In = "inner", []string{"l", "l"}
			n.Window = &kstreams.Window{Kind: "join", Before: 10_000, After: 10_000, Grace: 86_400_000}
			c.Nodes = c.Nodes[:1]
		}
		if i == len(kinds)-1 {
			n.ID = "j"
		}
		c.Nodes, from = append(c.Nodes, n), n.ID
	}
	for _, in := range v.Inputs[vc.Input] {
		c.Records = append(c.Records,
			kstreams.Input{Topic: in.Side, Key: numeral(in.Key), Value: in.Value, TS: in.TS})
	}
	return c
}
