package operators_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// vectors are the inputs and expected outputs of Kafka Streams' own join tests (see
// the file's "source"), caching off, one record at a time.
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
	Expect            [][]vectorRecord
}

type vectorRecord struct {
	Value *string
	TS    int64
}

// later are the kinds of cases that another test runs, TestKafkaStreamsWindowJoins:
// joins of two streams.
var later = []string{"stream-stream", "stream-self-join"}

// better are the outputs where Tailrace deliberately differs, by case and number of
// the input (from 1): what Kafka Streams' test calls wrong in a comment.
var better = map[string]map[int][]string{
	"inner.inner": {11: {"~@11"}}, // KAFKA-6443: the result ends, so there is a tombstone
}

type cell struct{ V string }

// TestKafkaStreamsJoins runs the vectors that apply. Outputs are compared as net
// changes: the last one a key of those that an input caused, without those that
// change nothing.
func TestKafkaStreamsJoins(t *testing.T) {
	data, err := os.ReadFile("testdata/kafka-streams-joins.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, c := range v.Cases {
		if slices.Contains(later, c.Kind) {
			continue
		}
		ran++
		t.Run(c.Kind+"/"+c.Name, func(t *testing.T) { v.run(t, c) })
	}
	if ran != 20 || len(v.Cases) != 24 {
		t.Errorf("%d of %d cases ran, want 20 of 24", ran, len(v.Cases))
	}
}

func (v *vectors) run(t *testing.T, c vectorCase) {
	b := topology.New("vectors")
	db := sources.NewDatabase("db", nil)
	right := sources.Table[int64, cell](b, db, "public.r")
	var left topology.Table[int64, cell]
	var events, enriched topology.Stream[int64, cell]
	var out topology.Table[int64, cell]
	name, versions, _ := strings.Cut(c.Name, "/")
	if c.Kind == "stream-table" {
		events = sources.Stream[int64, cell](b, db, "public.l")
		enriched = enrichKind(name, versions == "table-versioned", events, right)
	} else {
		left = sources.Table[int64, cell](b, db, "public.l")
		joinLeft, joinRight := left, right
		if versions == "both-versioned" || versions == "left-versioned" {
			joinLeft = operators.Versioned("versions-l", left, retention).Table
		}
		if versions == "both-versioned" || versions == "right-versioned" {
			joinRight = operators.Versioned("versions-r", right, retention).Table
		}
		out = joinLeft
		for i, kind := range strings.Split(name, ".") {
			out = joinKind(kind, "join-"+string(rune('a'+i)), out, joinRight)
		}
	}
	d := topologytest.New(t, b.MustBuild())
	state := "~"
	for i, in := range v.Inputs[c.Input] {
		if in.Key == nil { // a row of a table has a key
			continue
		}
		d.Tx(func(tx *topologytest.Tx) {
			tx.CommitTime(time.UnixMicro(in.TS))
			switch {
			case in.Side == "R":
				write(d, tx, right, in.Value)
			case c.Kind != "stream-table":
				write(d, tx, left, in.Value)
			case in.Value != nil: // an event has a value
				topologytest.Emit(tx, events, 0, cell{*in.Value})
			}
		})
		var got, want []string
		if c.Kind == "stream-table" {
			for _, r := range topologytest.Records(d, enriched) {
				got = append(got, at(&r.Value.V, r.Time))
			}
			for _, r := range c.Expect[i] {
				want = append(want, at(r.Value, r.TS))
			}
		} else {
			for _, ch := range topologytest.Changes(d, out) {
				if ch.HasNew() {
					got = append(got, at(&ch.New.V, ch.Time))
				} else {
					got = append(got, at(nil, ch.Time))
				}
			}
			want, state = net(c.Expect[i], state)
		}
		if other, ok := better[c.Name][i+1]; ok {
			want, state = other, "~"
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("input %d: %s", i+1, diff)
		}
	}
}

// retention of versioned tables, as in Kafka Streams' tests.
const retention = 5 * time.Minute

func enrichKind(
	kind string, versioned bool, events topology.Stream[int64, cell], table topology.Table[int64, cell],
) topology.Stream[int64, cell] {
	key := func(cell) int64 { return 0 }
	inner := func(l, r cell) cell { return dash(l, true, r, true) }
	left := func(l, r cell, has bool) cell { return dash(l, true, r, has) }
	switch {
	case kind == "left" && versioned:
		return operators.LeftEnrichAsOf("out", events, operators.Versioned("versions", table, retention), key, left)
	case kind == "left":
		return operators.LeftEnrich("out", events, table, key, left)
	case versioned:
		return operators.EnrichAsOf("out", events, operators.Versioned("versions", table, retention), key, inner)
	}
	return operators.Enrich("out", events, table, key, inner)
}

// net folds what an input caused to the last output, if that is a change.
func net(out []vectorRecord, state string) ([]string, string) {
	if len(out) == 0 {
		return nil, state
	}
	last := out[len(out)-1]
	value := "~"
	if last.Value != nil {
		value = *last.Value
	}
	if value == state {
		return nil, state
	}
	return []string{at(last.Value, last.TS)}, value
}

func at(value *string, ts int64) string {
	if value == nil {
		return "~@" + text(ts)
	}
	return *value + "@" + text(ts)
}

// write makes the row under key 0 be value.
func write(d *topologytest.Driver, tx *topologytest.Tx, table topology.Table[int64, cell], value *string) {
	_, has := topologytest.Row(d, table, 0)
	switch {
	case value != nil:
		topologytest.Upsert(tx, table, 0, cell{*value})
	case has:
		topologytest.Delete(tx, table, 0)
	}
}

func joinKind(
	kind, name string, l, r topology.Table[int64, cell],
) topology.Table[int64, cell] {
	switch kind {
	case "inner":
		return operators.Join(name, l, r, func(l, r cell) cell { return dash(l, true, r, true) })
	case "left":
		return operators.LeftJoin(name, l, r, func(l, r cell, has bool) cell { return dash(l, true, r, has) })
	}
	return operators.OuterJoin(name, l, r, dash)
}

func dash(l cell, hasL bool, r cell, hasR bool) cell {
	if !hasL {
		l.V = "null"
	}
	if !hasR {
		r.V = "null"
	}
	return cell{l.V + "-" + r.V}
}
