package operators_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// joinScript is a sequence of single records and what a join puts out after each: "L 0
// A@5" is the left record A of key 0 at time 5; a key of ~ is NULL.
type joinScript struct {
	name   string
	kind   operators.JoinKind
	window windows.JoinWindow
	steps  []string // record, then outputs if any, as "L 0 A@5: A-null@5"
}

func symmetric(d, grace int64) windows.JoinWindow {
	return windows.Within(us(d)).Grace(us(grace))
}

func backwards(d int64) windows.JoinWindow { return windows.Within(0).Before(us(d)) }

// joinScripts are worked sequences of Kafka Streams' own tests (KAFKA-10847 and the
// documentation), and its defects on 4.3.1 with the right result: the comments say
// what Kafka Streams puts out.
var joinScripts = []joinScript{
	{"duplicates are kept", operators.Left, symmetric(100, 10), []string{
		"L 0 A0@0", "L 0 A00@0", "R 1 a0@111: A0-null@0 A00-null@0", "R 2 dummy@500",
		"L 2 A2@1000", "L 2 A20@1000", "R 2 a2@1001: A2-a2@1001 A20-a2@1001", "R 3 a3@315",
	}},
	{"either side lets time pass", operators.Left, symmetric(100, 0), []string{
		"L 0 A0@1", "L 1 A1@2", "L 0 A00@3", "R 1 a1@3: A1-a1@3", "L 2 dummy@401: A0-null@1 A00-null@3",
	}},
	{"right records of a left join stay silent", operators.Left, symmetric(100, 0), []string{
		"R 0 A0@1", "R 1 A1@2", "R 0 A00@3", "L 1 a1@3: a1-A1@3", "L 2 dummy@401",
	}},
	{"only before", operators.Left, backwards(100), []string{
		"L 0 A0@1000", "L 1 A1@1001: A0-null@1000", "L 2 A2@1002: A1-null@1001", "L 3 A3@1003: A2-null@1002",
		"R 0 x0@899", "R 1 x1@899", "R 2 x2@899", "R 3 x3@899",
		"R 0 a0@999: A0-a0@1000", "R 1 a1@999: A1-a1@1001", "R 2 a2@999: A2-a2@1002", "R 3 a3@999: A3-a3@1003",
		"R 0 c0@1001", "R 1 c1@1001: A1-c1@1001", "R 2 c2@1001: A2-c2@1002", "R 3 c3@1001: A3-c3@1003",
	}},
	{"the close is strict", operators.Outer, symmetric(15000, 5000), []string{
		"L 0 E@40000", "L 0 F@60000", "R 0 f@80000: E-null@40000", "L 0 G@100000: F-null@60000",
		"L 1 z@100001: null-f@80000",
	}},
	{"order of what is released together", operators.Outer, symmetric(2, 0), []string{
		"L 0 a@10", "R 1 b@10", "L 2 c@9", "R 3 z@100: c-null@9 null-b@10 a-null@10",
	}},
	{"NULL keys, left", operators.Left, symmetric(10, 0), []string{
		"L ~ E@16: E-null@16", "R ~ e@17", "L 0 z@100",
	}},
	{"NULL keys, outer", operators.Outer, symmetric(10, 0), []string{
		"L ~ E@16: E-null@16", "R ~ e@17: null-e@17", "L 0 z@100",
	}},
	// A-null@85 at once, and then A-b@86.
	{"KAFKA-19536", operators.Left, symmetric(10, 50), []string{
		"L 9 z@100", "L 0 A@85", "R 0 b@86: A-b@86", "L 9 y@500: z-null@100",
	}},
	// null-b@85 at once, and then A-b@86.
	{"KAFKA-19536 on the right", operators.Outer, symmetric(10, 50), []string{
		"L 9 z@100", "R 0 b@85", "L 0 A@86: A-b@86", "L 9 y@500: z-null@100",
	}},
	{"KAFKA-19536 without a match", operators.Left, symmetric(10, 50), []string{
		"L 9 z@100", "L 0 A@85", "L 9 y@145", "L 9 x@146: A-null@85",
	}},
	// A-null@50.
	{"KAFKA-16123, left", operators.Left, symmetric(10, 0), []string{
		"L 9 z@100", "L 0 A@50", "L 9 y@200: z-null@100",
	}},
	// A-b@95.
	{"KAFKA-16123, inner", operators.Inner, symmetric(10, 0), []string{
		"R 0 b@95", "L 9 z@100", "L 0 A@86",
	}},
	// null-b@50, then A-b@50.
	{"KAFKA-16123, outer", operators.Outer, symmetric(10, 5), []string{
		"L 9 z@100", "R 0 b@50", "L 0 A@50",
	}},
	// No match, and later x-null.
	{"join store boundary, only before", operators.Left, backwards(10), []string{
		"R 0 p@90", "R 9 z@100", "L 0 x@100: x-p@100", "L 9 y@500",
	}},
	// No match.
	{"join store boundary", operators.Inner, symmetric(10, 0), []string{
		"R 0 p@80", "R 9 z@100", "L 0 x@90: x-p@90",
	}},
}

func (s *joinScript) run(t *testing.T) {
	b := topology.New("script")
	db := sources.NewDatabase("db", nil)
	left, l := facts(b, db, "public.l")
	right, r := facts(b, db, "public.r")
	out := addWindowJoin(s.kind, "out", l, r, s.window)
	d := topologytest.New(t, b.MustBuild())
	for i, step := range s.steps {
		in, want, _ := strings.Cut(step, ": ")
		words := strings.Fields(in)
		var f fact
		var at int64
		f.V, _, _ = strings.Cut(words[2], "@")
		if _, err := fmt.Sscan(words[2][len(f.V)+1:], &at); err != nil {
			t.Fatal(err)
		}
		if words[1] != "~" {
			f.K.Valid = true
			if _, err := fmt.Sscan(words[1], &f.K.V); err != nil {
				t.Fatal(err)
			}
		}
		f.At = moment(at)
		source := left
		if words[0] == "R" {
			source = right
		}
		topologytest.Emit(d, source, int64(i), f)
		var got []string
		for _, r := range topologytest.Records(d, out) {
			got = append(got, fmt.Sprintf("%s@%d", r.Value, r.Time-epoch.UnixMicro()))
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("after %q: %q, want %q", in, got, want)
		}
	}
}

// TestJoinWindowRules runs the worked sequences.
func TestJoinWindowRules(t *testing.T) {
	for _, s := range joinScripts {
		t.Run(s.name, s.run)
	}
}

// TestKafkaStreamsWindowJoins runs the vectors of joins of streams, record by record,
// order included: 10 s both ways, 24 h of grace.
func TestKafkaStreamsWindowJoins(t *testing.T) {
	data, err := os.ReadFile("testdata/kafka-streams-joins.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Inputs map[string][]struct {
			Side  string
			Key   *int64
			Value *string
			TS    int64
		}
		Cases []struct {
			Kind, Name, Input string
			Expect            [][]struct {
				Key   *int64
				Value string
				TS    int64
			}
		}
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, c := range v.Cases {
		if c.Kind != "stream-stream" && c.Kind != "stream-self-join" {
			continue
		}
		ran++
		b := topology.New("vectors")
		db := sources.NewDatabase("db", nil)
		left, l := facts(b, db, "public.l")
		right, r := facts(b, db, "public.r")
		w := symmetric(10_000, 24*3600*1000)
		var out topology.Stream[nullKey, string]
		if c.Kind == "stream-self-join" {
			operators.Peek(r, func(record.Context, nullKey, fact) {})
			out = operators.SelfJoinWindow("out", l, w, func(l, r fact) string { return pairText(l, true, r, true) })
		} else {
			kinds := map[string]operators.JoinKind{
				"inner": operators.Inner, "left": operators.Left, "outer": operators.Outer,
			}
			out = addWindowJoin(kinds[c.Name], "out", l, r, w)
		}
		d := topologytest.New(t, b.MustBuild())
		for i, in := range v.Inputs[c.Input] {
			if in.Value == nil { // a fact has a value
				continue
			}
			f := fact{V: *in.Value, At: moment(in.TS)}
			if in.Key != nil {
				f.K = nullKey{V: *in.Key, Valid: true}
			}
			source := left
			if in.Side == "R" {
				source = right
			}
			topologytest.Emit(d, source, int64(i), f)
			var want []string
			for _, e := range c.Expect[i] {
				var key nullKey
				if e.Key != nil {
					key = nullKey{V: *e.Key, Valid: true}
				}
				want = append(want, fmt.Sprintf("%v %s@%d", key, e.Value, e.TS))
			}
			if got := joinTexts(d, out); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s %s, input %d: %v, want %v", c.Kind, c.Name, i+1, got, want)
			}
		}
	}
	if ran != 4 {
		t.Errorf("%d cases ran, want 4", ran)
	}
}

// TestJoinWindowOfOneRow joins two streams of the same rows: results have places of
// their own, and the left record is the first to come.
func TestJoinWindowOfOneRow(t *testing.T) {
	b := topology.New("same")
	source, s := facts(b, sources.NewDatabase("db", nil), "public.f")
	out := addWindowJoin(operators.Outer, "out", s, s, symmetric(5, 0))
	d := topologytest.New(t, b.MustBuild())
	for i, v := range []string{"A", "B"} {
		topologytest.Emit(d, source, int64(i), fact{K: nullKey{V: 1, Valid: true}, V: v, At: moment(int64(i))})
	}
	if got := fmt.Sprint(topologytest.Values(d, out)); got != "[A-A B-A A-B B-B]" {
		t.Errorf("the pairs are %s", got)
	}
}

// TestJoinWindowMistakes finds all of them at Build, and names node and key where a
// joiner fails.
func TestJoinWindowMistakes(t *testing.T) {
	b := topology.New("wrong")
	_, s := facts(b, sources.NewDatabase("db", nil), "public.f")
	addWindowJoin(operators.Inner, "", s, s, windows.Within(-time.Second).Grace(-time.Second))
	_, err := b.Build()
	for _, want := range []string{"needs a name", "must not be negative", "grace is -1s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one with %q", err, want)
		}
	}

	b = topology.New("kind")
	_, s = facts(b, sources.NewDatabase("db", nil), "public.f")
	operators.JoinWindowContext("odd", operators.Outer+1, s, s, symmetric(5, 0),
		func(_ record.Context, _ nullKey, _ fact, _ bool, _ fact, _ bool) (o string, emit bool, err error) {
			return "", false, nil
		})
	if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), "no such kind") {
		t.Errorf("the error is %v, want one that refuses the kind", err)
	}

	b = topology.New("failing")
	source, s := facts(b, sources.NewDatabase("db", nil), "public.f")
	operators.JoinWindowContext("fails", operators.Left, s, s, symmetric(5, 0),
		func(ctx record.Context, _ nullKey, l fact, _ bool, _ fact, hasRight bool) (string, bool, error) {
			switch {
			case !hasRight:
				panic("alone")
			case l.V == "bad":
				return "", false, errors.New("bad value at " + ctx.Time.Format("05.000000"))
			}
			return "", false, nil
		})
	d := topologytest.New(t, b.MustBuild())
	key := nullKey{V: 7, Valid: true}
	for v, want := range map[string]string{"bad": "bad value at 00.000001", "null": "alone"} {
		f := fact{K: key, V: v, At: moment(1)}
		if v == "null" {
			f.K.Valid = false
		}
		err := d.TryTx(func(tx *topologytest.Tx) { topologytest.Emit(tx, source, 1, f) })
		var failure *topology.Failure
		if !errors.As(err, &failure) || failure.Node.Name != "fails" || !strings.Contains(err.Error(), want) ||
			failure.Key != any(f.K) && v == "bad" {
			t.Errorf("%s: the error is %v", v, err)
		}
	}
}
