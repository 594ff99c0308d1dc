package operators_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// infinity is the last time there is, as a row of a database may have it.
var infinity = time.UnixMicro(math.MaxInt64).UTC()

// TestInfinity gives records the last time there is, in one transaction and in two:
// they meet as others do, and nothing that was kept of them falls due.
func TestInfinity(t *testing.T) {
	key := nullKey{V: 1, Valid: true}
	ends := infinity.Add(-3 * time.Microsecond)
	for _, c := range []struct {
		name string
		add  func(l, r factStream) topology.Stream[nullKey, string]
		want string
	}{
		{"join", func(l, r factStream) topology.Stream[nullKey, string] {
			return addWindowJoin(operators.Inner, "out", l, r, symmetric(5, 1))
		}, "[a-A b-A a-B b-B]"},
		{"left join", func(l, r factStream) topology.Stream[nullKey, string] {
			return addWindowJoin(operators.Left, "out", l, r, symmetric(5, 1))
		}, "[a-A b-A a-B b-B]"},
		{"self join", func(l, _ factStream) topology.Stream[nullKey, string] {
			return operators.SelfJoinWindow("out", l, symmetric(5, 1),
				func(l, r fact) string { return pairText(l, true, r, true) })
		}, "[a-a b-a a-b b-b]"},
		{"deduplicate", func(l, _ factStream) topology.Stream[nullKey, string] {
			first := operators.DeduplicateByKey("first", l, windows.Within(us(5)))
			return operators.MapStreamValues(first, func(_ nullKey, f fact) string { return f.V })
		}, "[a]"},
	} {
		for _, at := range []time.Time{ends, infinity} {
			for _, together := range []bool{true, false} {
				t.Run(fmt.Sprint(c.name, " ", infinity.Sub(at), " together ", together), func(t *testing.T) {
					b := topology.New("infinity")
					db := sources.NewDatabase("db", nil)
					left, l := facts(b, db, "public.l")
					right, r := facts(b, db, "public.r")
					out := c.add(l, r)
					d := topologytest.New(t, b.MustBuild())
					var rows []func(tx *topologytest.Tx)
					for i, v := range []string{"a", "A", "b", "B"} {
						source := left
						if i%2 == 1 {
							source = right
						}
						rows = append(rows, func(tx *topologytest.Tx) {
							topologytest.Emit(tx, source, int64(i), fact{K: key, V: v, At: at})
						})
					}
					if together {
						d.Tx(func(tx *topologytest.Tx) {
							for _, row := range rows {
								row(tx)
							}
						})
					} else {
						for _, row := range rows {
							d.Tx(row)
						}
					}
					var got []string
					for _, r := range topologytest.Records(d, out) {
						got = append(got, r.Value)
					}
					if fmt.Sprint(got) != c.want {
						t.Errorf("got %v, want %s", got, c.want)
					}
				})
			}
		}
	}
}
