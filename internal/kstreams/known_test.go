package kstreams_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/kstreams"
)

// known is a defect of Kafka Streams, or a declared difference, with the least input
// that shows it and what both make of it. Records are topic:key=value@time, ~ is null.
type known struct {
	name            string
	nodes           []kstreams.Node
	input           string
	kafka, tailrace string
}

func streamJoin(kind string, before, after, grace int64) []kstreams.Node {
	return []kstreams.Node{
		{ID: "l", Op: "stream", Topic: "l"}, {ID: "r", Op: "stream", Topic: "r"},
		{ID: "o", Op: "join", Kind: kind, In: []string{"l", "r"}, Window: &kstreams.Window{
			Kind: "join", Before: before, After: after, Grace: grace,
		}},
	}
}

func suppressed(fn string, w *kstreams.Window) []kstreams.Node {
	return []kstreams.Node{
		{ID: "l", Op: "stream", Topic: "l"},
		{ID: "g", Op: "aggregate", In: []string{"l"}, Fn: fn, Window: w, Retention: 1000},
		{ID: "o", Op: "suppress", In: []string{"g"}, Close: true},
	}
}

// joinTwice joins a table and then its result with another one.
func joinTwice(first, second string) []kstreams.Node {
	return []kstreams.Node{
		{ID: "l", Op: "table", Topic: "l"}, {ID: "r", Op: "table", Topic: "r"},
		{ID: "j", Op: "join", Kind: first, In: []string{"l", "r"}},
		{ID: "o", Op: "join", Kind: second, In: []string{"j", "r"}},
	}
}

func foreignKey(kind string) []kstreams.Node {
	return []kstreams.Node{
		{ID: "l", Op: "table", Topic: "l"}, {ID: "r", Op: "table", Topic: "r"},
		{ID: "o", Op: "join-foreign-key", Kind: kind, By: "ref", In: []string{"l", "r"}},
	}
}

func asOf() []kstreams.Node {
	return []kstreams.Node{
		{ID: "l", Op: "stream", Topic: "l"}, {ID: "r", Op: "table", Topic: "r", History: 100},
		{ID: "o", Op: "join", Kind: "inner", In: []string{"l", "r"}},
	}
}

func versionedCount() []kstreams.Node {
	return []kstreams.Node{
		{ID: "l", Op: "table", Topic: "l", History: 100},
		{ID: "o", Op: "aggregate", In: []string{"l"}, By: "key", Fn: "count"},
	}
}

var joinsKnown = []known{
	{ // The left one is in time, and so is its partner: it has not been without one.
		"KAFKA-19536", streamJoin("left", 10, 10, 50), "l:z=Z@100 l:a=A@85 r:a=b@86",
		"a=A-null@85 a=A-b@86", "a=A-b@86",
	},
	{
		"KAFKA-19536 on the right", streamJoin("outer", 10, 10, 50), "l:z=Z@100 r:a=b@85 l:a=A@86",
		"a=null-b@85 a=A-b@86", "a=A-b@86",
	},
	{ // The window of A ended at 60, long before 100.
		"KAFKA-16123", streamJoin("left", 10, 10, 0), "l:z=Z@100 l:a=A@50", "a=A-null@50", "",
	},
	{
		"KAFKA-16123 inner", streamJoin("inner", 10, 10, 0), "r:a=b@95 l:z=Z@100 l:a=A@86", "a=A-b@95", "",
	},
	{
		"KAFKA-16123 outer", streamJoin("outer", 10, 10, 5), "l:z=Z@100 r:a=b@50 l:a=A@50",
		"a=null-b@50 a=A-b@50", "",
	},
	{ // Both are in order and ten apart.
		"join store boundary", streamJoin("inner", 10, 0, 0), "r:a=p@90 r:z=Z@100 l:a=x@100", "", "a=x-p@100",
	},
	{
		"join store boundary, late within the window", streamJoin("inner", 10, 10, 0),
		"r:a=p@80 r:z=Z@100 l:a=x@90", "", "a=x-p@90",
	},
	{ // b's window closed at 16; that c waits too is no reason to keep it.
		"nulls wait", streamJoin("left", 10, 10, 0), "l:a=A@0 l:b=B@5 l:c=C@9 l:d=D@11 l:e=E@16",
		"a=A-null@0", "a=A-null@0 b=B-null@5",
	},
	{ // (KAFKA-6443) The right row is gone, so is the result.
		"KAFKA-6443", joinTwice("inner", "inner"), "l:a=A@1 r:a=b@2 r:a=~@3",
		"a=A-b-b@2 a=A-b-b@2", "a=A-b-b@2 a=~@3",
	},
	{
		"KAFKA-6443 outer", joinTwice("outer", "inner"), "r:a=6@1 r:a=~@2",
		"a=null-6-6@1 a=null-6-6@1", "a=null-6-6@1 a=~@2",
	},
	{ // What is deleted at 31 is older than nothing.
		"deletion forgotten", versionedCount(), "l:a=x@31 l:a=~@31 l:a=y@24",
		"a=1@31 a=0@31 a=1@31", "a=1@31 a=0@31",
	},
	{ // So does a join of a stream, which then finds the older row.
		"deletion forgotten as of", asOf(), "r:c=x@34 r:c=~@34 r:c=y@32 l:c=v@43", "c=v-y@43", "",
	},
	{ // An older version, which ended at 31, makes Kafka Streams remember.
		"deletion remembered", versionedCount(), "l:a=w@20 l:a=x@31 l:a=~@31 l:a=y@24",
		"a=1@20 a=1@31 a=0@31", "a=1@20 a=0@31",
	},
	{ // In the other order both say 10.
		"time of a foreign-key result", foreignKey("inner"), "l:1=x/1@10 r:x=a@5",
		"1=x/1-a@5", "1=x/1-a@10",
	},
	{
		"needless output: a tombstone of nothing", foreignKey("inner"), "l:1=x/1@1 l:1=~@2", "1=~@2", "",
	},
	{
		"needless output: an update of nothing",
		[]kstreams.Node{{ID: "l", Op: "table", Topic: "l"}, {ID: "o", Op: "filter", In: []string{"l"}, Fn: "all"}},
		"l:a=x@1 l:a=x@2", "a=x@1 a=x@2", "a=x@1",
	},
	{
		"needless output: a filter's tombstone",
		[]kstreams.Node{{ID: "l", Op: "table", Topic: "l"}, {ID: "o", Op: "filter", In: []string{"l"}, Fn: "none"}},
		"l:a=x@1", "a=~@1", "",
	},
	{
		"suppress is not final: sliding", suppressed("count", &kstreams.Window{Kind: "sliding", Size: 5}),
		"l:a=x@10 l:a=x@10 l:b=x@90", "a[5,10]=1@10 a[5,10]=2@10 b[85,90]=1@90", "a[5,10]=2@10",
	},
	{ // The record of 15 came when [0,16] had closed; it does not lie in [16,32].
		"sliding takes too much", suppressed("count", &kstreams.Window{Kind: "sliding", Size: 16, Grace: 3}),
		"l:a=x@14 l:d=x@21 l:a=x@15 l:a=x@31 l:a=x@32 l:z=x@1000",
		"a[0,16]=1@14 d[5,21]=1@21 a[15,31]=2@31 a[16,32]=3@32 a[32,48]=1@32",
		"a[0,16]=1@14 d[5,21]=1@21 a[15,31]=2@31 a[16,32]=2@32 a[32,48]=1@32",
	},
	{ // [0,0] and [0,5] are not both sessions.
		"suppress is not final: session", suppressed("count", &kstreams.Window{Kind: "session", Size: 5}),
		"l:a=x@0 l:b=x@5 l:a=x@5 l:b=x@90", "a[0,0]=1@0 a[0,5]=2@5 b[5,5]=1@5", "a[0,5]=2@5 b[5,5]=1@5",
	},
}

// groupsKnown are declared differences of groups and of time.
var groupsKnown = []known{
	{ // As in SQL, a group is there while it has rows. KeepEmpty does as Kafka Streams.
		"an empty group", countBy("key"), "l:a=x@1 l:a=~@2", "a=1@1 a=0@2", "a=1@1 a=~@2",
	},
	{ // As in SQL, NULL is a group.
		"a NULL group", countBy("ref"), "l:a=x@1 l:b=y/1@2", "y=1@2", "null=1@1 y=1@2",
	},
	{ // The count does not change, and so its time does not.
		"needless output: a row that changes within its group", countBy("key"), "l:a=x@1 l:a=y@5",
		"a=1@1 a=1@5", "a=1@1",
	},
	{ // z lets time pass, whether the window sees it or not.
		"stream time of what is filtered", []kstreams.Node{
			{ID: "l", Op: "stream", Topic: "l"},
			{ID: "f", Op: "filter", In: []string{"l"}, Fn: "not-a"},
			{
				ID: "o", Op: "aggregate", In: []string{"f"}, Fn: "count",
				Window: &kstreams.Window{Kind: "tumbling", Size: 10},
			},
		},
		"l:a=x@5 l:z=a@100 l:a=x@6", "a[0,10]=1@5 a[0,10]=2@6", "a[0,10]=1@5",
	},
	{
		"a difference of 0 crashes", []kstreams.Node{
			{ID: "l", Op: "stream", Topic: "l"},
			{ID: "o", Op: "aggregate", In: []string{"l"}, Fn: "count", Window: &kstreams.Window{Kind: "sliding"}},
		},
		"l:a=x@5",
		"org.apache.kafka.streams.errors.StreamsException: Exception caught in process. taskId=0_0, " +
			"processor=KSTREAM-AGGREGATE-0000000002, topic=l, partition=0, offset=0: " +
			"java.lang.IllegalArgumentException: Window endMs must be greater than window startMs.",
		"a[5,5]=1@5",
	},
	{ // Nothing is there to join a record without a key, and a left join passes it on.
		"a NULL key that waits crashes", []kstreams.Node{
			{ID: "l", Op: "stream", Topic: "l"}, {ID: "r", Op: "table", Topic: "r", History: 100},
			{ID: "o", Op: "join", Kind: "left", In: []string{"l", "r"}, Grace: new(int64(5))},
		},
		"l:~=x@5 l:a=y@20",
		"org.apache.kafka.streams.errors.StreamsException: Exception caught in process. taskId=0_0, " +
			"processor=KSTREAM-LEFTJOIN-0000000003, topic=l, partition=0, offset=0: " +
			"java.lang.NullPointerException: key cannot be null",
		"null=x-null@5",
	},
}

func countBy(by string) []kstreams.Node {
	return []kstreams.Node{
		{ID: "l", Op: "table", Topic: "l"},
		{ID: "o", Op: "aggregate", In: []string{"l"}, By: by, Fn: "count", AsSQL: true},
	}
}

// TestKnown shows the real output of Kafka Streams beside ours.
func TestKnown(t *testing.T) {
	t.Parallel()
	for _, k := range slices.Concat(joinsKnown, groupsKnown) {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			c := &kstreams.Case{Nodes: k.nodes, Out: []string{"o"}, Records: parseInputs(t, k.input)}
			kafka, err := oracle(t).Run(c)
			if err != nil {
				t.Fatal(err)
			}
			tailrace, err := kstreams.Run(c, kstreams.Always)
			if err != nil {
				t.Fatal(err)
			}
			if got := allOutputs(kafka); got != k.kafka {
				t.Errorf("Kafka Streams gives\n     %s\nand not %s", got, k.kafka)
			}
			if got := allOutputs(tailrace); got != k.tailrace {
				t.Errorf("Tailrace gives\n     %s\nand not %s", got, k.tailrace)
			}
		})
	}
}

func parseInputs(t *testing.T, input string) (in []kstreams.Input) {
	t.Helper()
	for _, field := range strings.Fields(input) {
		topic, rest, _ := strings.Cut(field, ":")
		key, rest, _ := strings.Cut(rest, "=")
		value, at, _ := strings.Cut(rest, "@")
		ts, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			t.Fatalf("record %q: %v", field, err)
		}
		r := kstreams.Input{Topic: topic, TS: ts}
		if key != "~" {
			r.Key = &key
		}
		if value != "~" {
			r.Value = &value
		}
		in = append(in, r)
	}
	return in
}

func allOutputs(r *kstreams.Result) string {
	var all []string
	for _, step := range r.Steps {
		all = append(all, texts(step)...)
	}
	return strings.TrimSpace(strings.Join(all, " ") + r.Error)
}
