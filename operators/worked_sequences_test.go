package operators_test

import (
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// The worked sequences in this file are those of Kafka Streams' documentation and of its
// test driver that no other file has.

// TestSumOfStream is the documentation's sum of a stream.
func TestSumOfStream(t *testing.T) {
	type word struct {
		W string
		N int64
	}
	b := topology.New("words")
	words := sources.Stream[int64, word](b, sources.NewDatabase("db", nil), "public.words")
	sums := operators.Aggregate("sums", operators.GroupBy(words, func(_ int64, w word) string { return w.W }),
		aggregate.Sum(func(w word) int64 { return w.N }))
	d := topologytest.New(t, b.MustBuild())
	for i, w := range []string{"hello", "kafka", "streams", "kafka", "kafka", "streams"} {
		topologytest.Emit(d, words, int64(i), word{w, 1})
	}
	want := map[string]int64{"hello": 1, "kafka": 3, "streams": 2}
	if got := topologytest.Rows(d, sums); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestSumOfTable is the documentation's sum of a table: the lengths of users' names by
// region. A user who moves changes both regions in one step, where Kafka Streams puts out
// one after the other; an empty region stays with 0 only on demand.
func TestSumOfTable(t *testing.T) {
	type user struct {
		Name   string
		Region string
	}
	b := topology.New("regions")
	users := sources.Table[string, user](b, sources.NewDatabase("db", nil), "public.users")
	sums := func(name string, opts ...operators.AggregateOption) topology.Table[string, int64] {
		region := func(_ string, u user) string { return u.Region }
		return operators.Aggregate(name, operators.GroupBy(users, region),
			aggregate.Sum(func(u user) int64 { return int64(len(u.Name)) }), opts...)
	}
	kept, sql := sums("kept", operators.KeepEmpty()), sums("sql")
	d := topologytest.New(t, b.MustBuild(), topologytest.CheckEverything())
	for i, c := range []struct{ user, region, kept, sql string }{
		{"alice", "E", "E=5", "E=5"},
		{"bob", "A", "A=3", "A=3"},
		{"charlie", "A", "A=10", "A=10"},
		{"alice", "A", "A=15 E=0", "A=15 E=~"},
		{"charlie", "", "A=8", "A=8"},
		{"bob", "E", "A=5 E=3", "A=5 E=3"},
	} {
		if c.region == "" {
			topologytest.Delete(d, users, c.user)
		} else {
			topologytest.Upsert(d, users, c.user, user{c.user, c.region})
		}
		if got := counted(d, kept); got != c.kept {
			t.Errorf("change %d with empty groups: %s, want %s", i+1, got, c.kept)
		}
		if got := counted(d, sql); got != c.sql {
			t.Errorf("change %d: %s, want %s", i+1, got, c.sql)
		}
	}
}

func counted(d *topologytest.Driver, table topology.Table[string, int64]) string {
	var all []string
	for _, c := range topologytest.Changes(d, table) {
		if c.HasNew() {
			all = append(all, fmt.Sprint(c.Key, "=", c.New))
		} else {
			all = append(all, c.Key+"=~")
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// TestForeignKeyDocumented is the documentation's example of foreign-key joins.
func TestForeignKeyDocumented(t *testing.T) {
	for kind, want := range map[string][]string{
		"inner": {"", "k=1-foo", "k=~", "", "k=3-bar", "k=~", "", "", "q=10-baz r=10-baz"},
		"left": {"", "k=1-foo", "k=2-null", "k=3-null", "k=3-bar", "k=null-null", "q=10-null", "r=10-null",
			"q=10-baz r=10-baz"},
	} {
		b := topology.New("documented")
		db := sources.NewDatabase("db", nil)
		left := sources.Table[string, ref](b, db, "public.l")
		right := sources.Table[string, cell](b, db, "public.r")
		observe := fkJoin(kind, left, right)
		d := topologytest.New(t, b.MustBuild())
		for i, in := range []string{
			"R 1 foo", "L k 1", "L k 2", "L k 3", "R 3 bar", "L k null", "L q 10", "L r 10", "R 10 baz",
		} {
			fkInput(d, in, left, right)
			if got := observe(d); got != want[i] {
				t.Errorf("%s, after %s: %q, want %q", kind, in, got, want[i])
			}
		}
	}
}

// TestVersionedLateRow: a row that comes out of order is not seen by joins and
// aggregates, and passed on by ToStream.
func TestVersionedLateRow(t *testing.T) {
	b := topology.New("late")
	db := sources.NewDatabase("db", nil)
	rows := sources.Table[int64, timed](b, db, "public.rows", sources.EventTime(timeOf))
	right := sources.Table[string, cell](b, db, "public.r")
	versions := operators.Versioned("versions", rows, us(100)).Table
	joined := operators.LeftJoinForeignKey("joined", versions, right, func(r timed) string { return r.V },
		func(l timed, r cell, has bool) string { return fmt.Sprint(l.V, "-", r.V, has) })
	counts := operators.Aggregate("counts",
		operators.GroupBy(versions, func(_ int64, r timed) string { return r.V }), aggregate.Count[timed]())
	stream := operators.ToStream("stream", versions)
	d := topologytest.New(t, b.MustBuild(), topologytest.CheckEverything())
	topologytest.Insert(d, right, "x", cell{"X"})
	topologytest.Insert(d, rows, 1, timedAt(10, "x"))
	if got := topologytest.Values(d, stream); len(got) != 1 || len(topologytest.Changes(d, joined)) != 1 ||
		len(topologytest.Changes(d, counts)) != 1 {
		t.Errorf("the first row is passed on as %v", got)
	}
	topologytest.Update(d, rows, 1, timedAt(5, "y"))
	if got := len(topologytest.Changes(d, joined)) + len(topologytest.Changes(d, counts)); got != 0 {
		t.Errorf("the late row makes %d changes", got)
	}
	if got := topologytest.Values(d, stream); len(got) != 1 || got[0].New.V != "y" {
		t.Errorf("ToStream passes on %v, want the late row", got)
	}
	if got := topologytest.Rows(d, joined); len(got) != 1 || got[1] != "x-Xtrue" {
		t.Errorf("the join is %v", got)
	}
}

// TestNullsInWindows: a record whose value is NULL counts in windows of any kind. (In
// Kafka Streams not in sliding ones, nor without windows.) Of the aggregators each says
// what it does with it.
func TestNullsInWindows(t *testing.T) {
	type reading struct {
		At time.Time
		V  sql.Null[int64]
	}
	for name, def := range map[string]windows.Definition{
		"tumbling": windows.Tumbling(us(10)), "hopping": windows.Hopping(us(10), us(10)),
		"sliding": windows.Sliding(us(10)), "session": windows.Session(us(10)),
	} {
		b := topology.New("nulls")
		in := sources.Stream[int64, reading](b, sources.NewDatabase("db", nil), "public.r",
			sources.EventTime(func(r reading) time.Time { return r.At }))
		value := func(r reading) sql.Null[int64] { return r.V }
		out := operators.Aggregate("out",
			operators.Window(operators.GroupBy(in, func(int64, reading) string { return "a" }), def),
			aggregate.Combine2(aggregate.Count[reading](), aggregate.SumNull(value),
				func(n int64, sum sql.Null[int64]) string { return fmt.Sprint(n, sum) }))
		d := topologytest.New(t, b.MustBuild())
		var got []string
		for i, r := range []reading{{At: moment(2)}, {moment(3), sql.Null[int64]{V: 1, Valid: true}}} {
			topologytest.Emit(d, in, int64(i), r)
			var last record.Change[windows.Windowed[string], string]
			for _, c := range topologytest.Changes(d, out) {
				if c.HasNew() && (last.New == "" || c.Key.Window.Start < last.Key.Window.Start) {
					last = c
				}
			}
			got = append(got, last.New)
		}
		if want := "[1 {0 false} 2 {1 true}]"; fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %s", name, got, want)
		}
	}
}
