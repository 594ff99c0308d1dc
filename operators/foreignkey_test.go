package operators_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// ref is a row that refers to another: F is its foreign key, "" for NULL.
type ref struct{ F string }

// fkInput is one input of a worked sequence: "L k f" puts the left row k with foreign
// key f, "R k v" the right row; without a value the row is deleted, if it is there.
func fkInput(d *topologytest.Driver, in string, left topology.Table[string, ref],
	right topology.Table[string, cell],
) {
	f := strings.Fields(in)
	switch {
	case f[0] == "L" && len(f) == 3:
		topologytest.Upsert(d, left, f[1], ref{strings.TrimPrefix(f[2], "null")})
	case f[0] == "R" && len(f) == 3:
		topologytest.Upsert(d, right, f[1], cell{f[2]})
	case f[0] == "L":
		if _, ok := topologytest.Row(d, left, f[1]); ok {
			topologytest.Delete(d, left, f[1])
		}
	default:
		if _, ok := topologytest.Row(d, right, f[1]); ok {
			topologytest.Delete(d, right, f[1])
		}
	}
}

// fkSequences are the worked sequences of foreign-key joins of Kafka Streams' tests:
// after each input what inner, left and outer joins put out. Tombstones that Kafka
// Streams sends where there was no row are left out: Tailrace sends none.
var fkSequences = []struct {
	name string
	in   []string
	want map[string][]string
}{
	{
		"rows on both sides",
		[]string{"R r1 v1", "R r2 v2", "R r3 v3", "L l1 r1", "L l2 r2", "L l3 r1", "L l1", "L l9"},
		map[string][]string{
			"inner": {"", "", "", "l1=r1-v1", "l2=r2-v2", "l3=r1-v1", "l1=~", ""},
			"left":  {"", "", "", "l1=r1-v1", "l2=r2-v2", "l3=r1-v1", "l1=~", ""},
			"outer": {"/r1=null-v1", "/r2=null-v2", "/r3=null-v3", "l1=r1-v1 /r1=~", "l2=r2-v2 /r2=~",
				"l3=r1-v1", "l1=~", ""},
		},
	},
	{
		"the foreign key moves there and back",
		[]string{"R r1 v1", "R r2 v2", "L l1 r1", "L l1 r2", "L l1 r1"},
		map[string][]string{
			"inner": {"", "", "l1=r1-v1", "l1=r2-v2", "l1=r1-v1"},
			"left":  {"", "", "l1=r1-v1", "l1=r2-v2", "l1=r1-v1"},
			"outer": {"/r1=null-v1", "/r2=null-v2", "l1=r1-v1 /r1=~", "l1=r2-v2 /r1=null-v1 /r2=~",
				"l1=r1-v1 /r1=~ /r2=null-v2"},
		},
	},
	{
		"the right row comes and goes",
		[]string{"L l1 r1", "L l2 r2", "L l3 r1", "R r1 v1", "R r1", "R r3 v3"},
		map[string][]string{
			"inner": {"", "", "", "l1=r1-v1 l3=r1-v1", "l1=~ l3=~", ""},
			"left": {"l1=r1-null", "l2=r2-null", "l3=r1-null", "l1=r1-v1 l3=r1-v1",
				"l1=r1-null l3=r1-null", ""},
			"outer": {"l1=r1-null", "l2=r2-null", "l3=r1-null", "l1=r1-v1 l3=r1-v1",
				"l1=r1-null l3=r1-null", "/r3=null-v3"},
		},
	},
	{
		"no right row ever",
		[]string{"L l1 r1", "L l1 r2", "L l1 r3", "R r1 v1", "L l1", "L l1"},
		map[string][]string{
			// Kafka Streams sends unnecessary tombstones for the moves and the delete.
			"inner": {"", "", "", "", "", ""},
			"left":  {"l1=r1-null", "l1=r2-null", "l1=r3-null", "", "l1=~", ""},
			"outer": {"l1=r1-null", "l1=r2-null", "l1=r3-null", "/r1=null-v1", "l1=~", ""},
		},
	},
	{
		"an update of what is no longer referred to",
		[]string{"L l1 r1", "L l1 r2", "R r1 v1", "R r1 w1"},
		map[string][]string{
			"inner": {"", "", "", ""},
			"left":  {"l1=r1-null", "l1=r2-null", "", ""},
			"outer": {"l1=r1-null", "l1=r2-null", "/r1=null-v1", "/r1=null-w1"},
		},
	},
	{
		"the foreign key is NULL",
		[]string{"L l1 null", "R r1 v1", "L l1 r1", "L l1 null", "R q v2", "L l2 q", "L l3 q", "R q w2"},
		map[string][]string{
			"inner": {"", "", "l1=r1-v1", "l1=~", "", "l2=q-v2", "l3=q-v2", "l2=q-w2 l3=q-w2"},
			"left": {"l1=null-null", "", "l1=r1-v1", "l1=null-null", "", "l2=q-v2", "l3=q-v2",
				"l2=q-w2 l3=q-w2"},
			"outer": {"l1=null-null", "/r1=null-v1", "l1=r1-v1 /r1=~", "l1=null-null /r1=null-v1",
				"/q=null-v2", "l2=q-v2 /q=~", "l3=q-v2", "l2=q-w2 l3=q-w2"},
		},
	},
}

// TestForeignKeySequences runs the worked sequences, and the same with an outer join.
// A key of the right side is printed with a slash before it.
func TestForeignKeySequences(t *testing.T) {
	for _, seq := range fkSequences {
		for kind, want := range seq.want {
			t.Run(seq.name+"/"+kind, func(t *testing.T) {
				b := topology.New("sequences")
				db := sources.NewDatabase("db", nil)
				left := sources.Table[string, ref](b, db, "public.l")
				right := sources.Table[string, cell](b, db, "public.r")
				observe := fkJoin(kind, left, right)
				d := topologytest.New(t, b.MustBuild())
				got := make([]string, len(seq.in))
				for i, in := range seq.in {
					fkInput(d, in, left, right)
					got[i] = observe(d)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// fkJoin adds a join, and returns what prints its changes in the order of keys.
func fkJoin(
	kind string, left topology.Table[string, ref], right topology.Table[string, cell],
) (observe func(d *topologytest.Driver) string) {
	fk := func(r ref) sql.Null[string] { return sql.Null[string]{V: r.F, Valid: r.F != ""} }
	join := func(l ref, hasL bool, r cell, hasR bool) string {
		if !hasL || l.F == "" {
			l.F = "null"
		}
		return dash(cell{l.F}, true, r, hasR).V
	}
	if kind == "outer" {
		type either = operators.EitherKey[string, string]
		return show(operators.OuterJoinForeignKeyNull("join", left, right, fk, join), func(k either) string {
			if k.Right.Valid {
				return "/" + k.Right.V
			}
			return k.Left.V
		})
	}
	var table topology.Table[string, string]
	if kind == "left" {
		table = operators.LeftJoinForeignKeyNull("join", left, right, fk,
			func(l ref, r cell, has bool) string { return join(l, true, r, has) })
	} else {
		table = operators.JoinForeignKeyNull("join", left, right, fk,
			func(l ref, r cell) string { return join(l, true, r, true) })
	}
	return show(table, func(k string) string { return k })
}

func show[K comparable](
	table topology.Table[K, string], name func(K) string,
) func(d *topologytest.Driver) string {
	return func(d *topologytest.Driver) string {
		var left, right []string
		for _, c := range topologytest.Changes(d, table) {
			value := c.New
			if !c.HasNew() {
				value = "~"
			}
			if n := name(c.Key); strings.HasPrefix(n, "/") {
				right = append(right, n+"="+value)
			} else {
				left = append(left, n+"="+value)
			}
		}
		slices.Sort(left)
		slices.Sort(right)
		return strings.Join(append(left, right...), " ")
	}
}

// TestSelfJoins joins a table with itself in several ways. Each change of a row gives
// each result row one change, and a tombstone when it ends (KAFKA-6443).
func TestSelfJoins(t *testing.T) {
	type employee struct {
		Name string
		Boss sql.Null[int64]
	}
	b := topology.New("self")
	staff := sources.Table[int64, employee](b, sources.NewDatabase("db", nil), "public.staff")
	twice := operators.Join("twice", staff, staff, func(l, r employee) string { return l.Name + r.Name })
	thrice := operators.Join("thrice", twice, staff, func(l string, r employee) string { return l + r.Name })
	sides := operators.Join3("sides", staff, staff, staff,
		func(a, b, c employee) string { return a.Name + b.Name + c.Name })
	boss := func(e employee) sql.Null[int64] { return e.Boss }
	bosses := operators.LeftJoinForeignKeyNull("bosses", staff, staff, boss,
		func(e, b employee, has bool) string { return fmt.Sprint(e.Name, "<", b.Name) })
	above := operators.JoinForeignKeys2("above", staff, operators.ReferNull(staff, boss),
		operators.ReferNull(bosses, boss).Optional(),
		func(e employee, b sql.Null[employee], bb sql.Null[string]) string {
			return fmt.Sprint(e.Name, "<", b.V.Name, "&", bb.V)
		})
	d := topologytest.New(t, b.MustBuild(), topologytest.CheckEverything())
	check := func(what string, want ...string) {
		t.Helper()
		var got []string
		for _, o := range []topology.Table[int64, string]{twice, thrice, sides, bosses, above} {
			got = append(got, show(o, func(k int64) string { return fmt.Sprint(k) })(d))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	under := func(id int64) sql.Null[int64] { return sql.Null[int64]{V: id, Valid: true} }
	topologytest.Insert(d, staff, 1, employee{Name: "a"})
	check("the first", "1=aa", "1=aaa", "1=aaa", "1=a<", "")
	topologytest.Insert(d, staff, 2, employee{"b", under(1)})
	check("one under it", "2=bb", "2=bbb", "2=bbb", "2=b<a", "2=b<a&a<")
	topologytest.Update(d, staff, 1, employee{Name: "A"})
	check("a change above", "1=AA", "1=AAA", "1=AAA", "1=A< 2=b<A", "2=b<A&A<")
	topologytest.Update(d, staff, 1, employee{"A", under(2)})
	check("a circle", "", "", "", "1=A<b", "1=A<b&b<A 2=b<A&A<b")
	topologytest.Update(d, staff, 2, employee{"b", under(2)})
	check("its own boss", "", "", "", "2=b<b", "1=A<b&b<b 2=b<b&b<b")
	topologytest.Delete(d, staff, 1)
	check("a row goes", "1=~", "1=~", "1=~", "1=~", "1=~")
	topologytest.Truncate(d, staff)
	check("all go", "2=~", "2=~", "2=~", "2=~", "2=~")
}

// TestChainedOnOneTable are the inputs of KAFKA-6443 in the issue's own words: Kafka
// Streams puts out A-a-a twice, and nothing when the right row goes.
func TestChainedOnOneTable(t *testing.T) {
	for _, oneOperator := range []bool{false, true} {
		b := topology.New("chain")
		db := sources.NewDatabase("db", nil)
		left := sources.Table[int64, cell](b, db, "public.l")
		right := sources.Table[int64, cell](b, db, "public.r")
		join := func(l, r cell) cell { return cell{l.V + "-" + r.V} }
		var out topology.Table[int64, cell]
		if oneOperator {
			out = operators.Join3("three", left, right, right, func(a, b, c cell) cell { return join(join(a, b), c) })
		} else {
			out = operators.Join("two", operators.Join("one", left, right, join), right, join)
		}
		d := topologytest.New(t, b.MustBuild())
		var got []record.Change[int64, cell]
		at := int64(0)
		put := func(table topology.Table[int64, cell], value string) {
			at++
			d.Tx(func(tx *topologytest.Tx) {
				tx.CommitTime(time.UnixMicro(at))
				if value == "" {
					topologytest.Delete(tx, table, 0)
				} else {
					topologytest.Upsert(tx, table, 0, cell{value})
				}
			})
			got = append(got, topologytest.Changes(d, out)...)
		}
		put(left, "A")
		put(right, "a")
		put(right, "")
		put(left, "")
		want := []record.Change[int64, cell]{
			{New: cell{"A-a-a"}, Sides: record.HasNew, Time: 2},
			{Old: cell{"A-a-a"}, Sides: record.HasOld, Time: 3},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("one operator %t: %s", oneOperator, diff)
		}
	}
}
