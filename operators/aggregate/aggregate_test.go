package aggregate_test

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/operators/aggregate/aggregatetest"
	"github.com/tailrace/tailrace/record"
)

// over computes an aggregate of rows from nothing, each under its place as id.
func over[V, R any](t testing.TB, agg aggregate.Aggregator[V, R], rows ...V) R {
	t.Helper()
	r, err := tryOver(agg, rows...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tryOver[V, R any](agg aggregate.Aggregator[V, R], rows ...V) (r R, err error) {
	if err := agg.Err(); err != nil {
		return r, err
	}
	e := aggregate.NewEntries(&aggregatetest.Entries{})
	acc := agg.New()
	for i := range rows {
		if err := acc.Add(e, fmt.Appendf(nil, "%04d", i), &rows[i]); err != nil {
			return r, err
		}
	}
	return acc.Result(e)
}

func same[T any](v T) T { return v }

func null[T any](v T) sql.Null[T] { return sql.Null[T]{V: v, Valid: true} }

func dec(s string) record.Decimal {
	d, err := record.ParseDecimal(s)
	if err != nil {
		panic(err)
	}
	return d
}

type sale struct {
	Item  string
	Cents int64
	Price sql.Null[int32]
	Rate  float64
	Paid  record.Decimal
	At    time.Time
}

var sales = []sale{
	{"ink", 5, null[int32](7), 0.1, dec("1.10"), time.Unix(5, 0)},
	{"ink", 5, sql.Null[int32]{}, -0.1, dec("-3"), time.Unix(5, 0)},
	{"pen", -9, null[int32](-2), 1e300, dec("NaN"), time.Unix(-1, 5)},
	{"", math.MaxInt64 / 2, null[int32](7), math.Inf(1), dec("0.0000001"), time.Unix(9, 1)},
	{"z\x00z", math.MinInt64 / 2, sql.Null[int32]{V: 9}, math.NaN(), dec("Infinity"), time.Time{}},
	{"z", 0, null[int32](0), 5e-324, dec("99999999999999999999.5"), time.Unix(5, 0).In(time.FixedZone("", 3))},
}

// TestLaws holds every aggregator to the laws of package aggregatetest.
func TestLaws(t *testing.T) {
	cents := func(s sale) int64 { return s.Cents }
	item := func(s sale) string { return s.Item }
	laws(t, "Count", aggregate.Count[sale]())
	laws(t, "CountIf", aggregate.CountIf(func(s sale) bool { return s.Cents > 0 }))
	laws(t, "CountNotNull", aggregate.CountNotNull(func(s sale) sql.Null[int32] { return s.Price }))
	laws(t, "Sum", aggregate.Sum(func(s sale) int64 { return s.Cents / 64 }))
	laws(t, "SumNull", aggregate.SumNull(func(s sale) sql.Null[int32] { return s.Price }))
	laws(t, "SumFloat", aggregate.SumFloat(func(s sale) float64 { return s.Rate }))
	laws(t, "SumDecimal", aggregate.SumDecimal(func(s sale) record.Decimal { return s.Paid }))
	laws(t, "Avg", aggregate.Avg(cents))
	laws(t, "AvgNull", aggregate.AvgNull(func(s sale) sql.Null[int32] { return s.Price }))
	laws(t, "AvgFloat", aggregate.AvgFloat(func(s sale) float32 { return float32(s.Rate) }))
	laws(t, "AvgDecimal", aggregate.AvgDecimal(2, func(s sale) record.Decimal { return s.Paid }))
	laws(t, "Min", aggregate.Min(cents))
	laws(t, "Max", aggregate.Max(cents))
	laws(t, "Min of strings", aggregate.Min(item))
	laws(t, "Max of strings", aggregate.Max(item))
	laws(t, "Min of floats", aggregate.Min(func(s sale) float64 { return s.Rate }))
	laws(t, "Max of floats", aggregate.Max(func(s sale) float32 { return float32(s.Rate) }))
	laws(t, "Min of times", aggregate.Min(func(s sale) time.Time { return s.At }))
	laws(t, "Max of decimals", aggregate.Max(func(s sale) record.Decimal { return s.Paid }))
	laws(t, "MinNull", aggregate.MinNull(func(s sale) sql.Null[int32] { return s.Price }))
	laws(t, "Collect", aggregate.Collect(cents, item))
	laws(t, "CollectDesc", aggregate.CollectDesc(item, cents))
	laws(t, "TopN", aggregate.TopN(2, item, func(s sale) sale { return s }))
	laws(t, "BottomN", aggregate.BottomN(2, cents, item))
	laws(t, "ArgMin", aggregate.ArgMin(cents, item))
	laws(t, "ArgMax", aggregate.ArgMax(func(s sale) time.Time { return s.At }, item))
	laws(t, "Combine4", aggregate.Combine4(aggregate.Count[sale](), aggregate.Max(cents), aggregate.Min(item),
		aggregate.Avg(cents), func(n, most int64, first string, avg record.Decimal) string {
			return fmt.Sprint(n, most, first, avg)
		}))
	laws(t, "Custom", aggregate.Custom(aggregate.Fold[sale, int64, int64]{
		Add:    func(a int64, s sale) int64 { return a ^ s.Cents },
		Remove: func(a int64, s sale) int64 { return a ^ s.Cents },
		Merge:  func(a, b int64) int64 { return a ^ b },
		Result: same[int64],
	}))
	laws(t, "Reduce", aggregate.Reduce(func(_, s sale) sale { return s }))
}

func laws[R any](t *testing.T, name string, agg aggregate.Aggregator[sale, R]) {
	t.Run(name, func(t *testing.T) { aggregatetest.Laws(t, agg, sales...) })
}

// TestLawsCatch gives Laws aggregators that break them.
func TestLawsCatch(t *testing.T) {
	broken := map[string]aggregate.Fold[sale, []int64, []int64]{
		"removes another": {
			Add:    func(a []int64, s sale) []int64 { return append(slices.Clone(a), s.Cents) },
			Remove: func(a []int64, _ sale) []int64 { return slices.Clone(a[:len(a)-1]) },
			Result: func(a []int64) []int64 { return slices.Sorted(slices.Values(a)) },
		},
		"order matters": {
			Add: func(a []int64, s sale) []int64 { return append(slices.Clone(a), s.Cents) },
			Remove: func(a []int64, s sale) []int64 {
				i := slices.Index(a, s.Cents)
				return slices.Delete(slices.Clone(a), i, i+1)
			},
			Result: slices.Clone[[]int64],
		},
		"merges the wrong way round": {
			Add:    func(a []int64, s sale) []int64 { return append(slices.Clone(a), s.Cents) },
			Merge:  func(a, b []int64) []int64 { return append(slices.Clone(b), a...) },
			Result: slices.Clone[[]int64],
		},
		"changes a result that was given": {
			Add: func(a []int64, s sale) []int64 {
				i, _ := slices.BinarySearch(a, s.Cents)
				return slices.Insert(a, i, s.Cents)
			},
			Remove: func(a []int64, s sale) []int64 {
				i := slices.Index(a, s.Cents)
				return slices.Delete(a, i, i+1)
			},
			Result: same[[]int64],
		},
	}
	for name, f := range broken {
		t.Run(name, func(t *testing.T) {
			spy := &spy{TB: t}
			aggregatetest.Laws(spy, aggregate.Custom(f), sales...)
			if !spy.failed {
				t.Error("Laws found nothing wrong")
			}
		})
	}
}

// TestLawsCatchLastValue gives Laws a combination in which the last value wins.
func TestLawsCatchLastValue(t *testing.T) {
	last := func(_, s sale) sale { return s }
	keep := func(s, _ sale) sale { return s }
	spy := &spy{TB: t}
	aggregatetest.Laws(spy, aggregate.ReduceTable(last, keep), sales...)
	if !spy.failed {
		t.Error("Laws found nothing wrong")
	}
}

// spy keeps failures to itself.
type spy struct {
	testing.TB
	failed bool
}

func (s *spy) Errorf(string, ...any) { s.failed = true }
func (s *spy) Failed() bool          { return s.failed }

// TestSumIsExact compares sums with those of math/big.
func TestSumIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.SliceOf(rapid.Int64()).Draw(t, "ns")
		want := new(big.Int)
		for _, n := range ns {
			want.Add(want, big.NewInt(n))
		}
		got, err := tryOver(aggregate.Sum(same[int64]), ns...)
		switch {
		case want.IsInt64() && (err != nil || got != want.Int64()):
			t.Fatalf("Sum is %d, %v; want %d", got, err, want)
		case !want.IsInt64() && !errors.Is(err, aggregate.ErrOverflow):
			t.Fatalf("Sum is %d, %v; want ErrOverflow", got, err)
		}
		if len(ns) == 0 {
			return
		}
		avg, _ := new(big.Rat).SetFrac(want, big.NewInt(int64(len(ns)))).Float64()
		if got, _ := tryOver(aggregate.Avg(same[int64]), ns...); math.Abs(got.Float64()-avg) > math.Abs(avg)*1e-14 {
			t.Fatalf("Avg is %v, want about %v", got, avg)
		}
	})
}

func TestSumOfSmallTypes(t *testing.T) {
	if _, err := tryOver(aggregate.Sum(same[int8]), 100, 28); !errors.Is(err, aggregate.ErrOverflow) {
		t.Errorf("100+28 as int8 is %v, want ErrOverflow", err)
	}
	if got := over(t, aggregate.Sum(same[int8]), 100, 28, -1); got != 127 {
		t.Errorf("100+28-1 as int8 is %d, want 127", got)
	}
	if got := over(t, aggregate.Sum(same[uint64]), math.MaxUint64, 0); got != math.MaxUint64 {
		t.Errorf("sum of the greatest uint64 is %d", got)
	}
}

// anyFloat draws finite floats of all magnitudes, and neighbours that cancel.
func anyFloat() *rapid.Generator[float64] {
	return rapid.OneOf(
		rapid.Map(rapid.Uint64(), func(b uint64) float64 {
			f := math.Float64frombits(b)
			if math.IsNaN(f) || math.IsInf(f, 0) {
				return 1
			}
			return f
		}),
		rapid.SampledFrom([]float64{
			0, math.Copysign(0, -1), 1, -1, 0.1, 1e16, -1e16, 5e-324, -5e-324, math.MaxFloat64,
			-math.MaxFloat64, 0x1p-1022, 0x1p53, 0x1p53 + 2, 0x1p970, 1 + 0x1p-52, 0x1p-53, -0x1p-53,
		}),
	)
}

// TestSumFloatIsCorrectlyRounded compares sums with those of math/big, which is
// exact at this precision and rounds once.
func TestSumFloatIsCorrectlyRounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := rapid.SliceOf(anyFloat()).Draw(t, "fs")
		exact := new(big.Float).SetPrec(2300)
		for _, f := range fs {
			exact.Add(exact, new(big.Float).SetFloat64(f))
		}
		want, _ := exact.Float64()
		got, err := tryOver(aggregate.SumFloat(same[float64]), fs...)
		if err != nil || got != want {
			t.Fatalf("sum of %v is %v, %v; want %v", fs, got, err, want)
		}
		if math.Signbit(got) && got == 0 {
			t.Fatalf("sum of %v is -0", fs)
		}
		if len(fs) == 0 {
			return
		}
		mean, _ := exact.Quo(exact, big.NewFloat(float64(len(fs)))).Float64()
		avg, _ := tryOver(aggregate.AvgFloat(same[float64]), fs...)
		if math.Abs(avg-mean) > math.Abs(mean)*1e-15+5e-324 {
			t.Fatalf("average of %v is %v, want %v", fs, avg, mean)
		}
	})
}

func TestSumFloatSpecials(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		in   []float64
		want float64
	}{
		{[]float64{1, inf}, inf},
		{[]float64{1, -inf}, -inf},
		{[]float64{inf, -inf}, math.NaN()},
		{[]float64{1, math.NaN(), inf}, math.NaN()},
		{[]float64{math.MaxFloat64, math.MaxFloat64}, inf},
		{[]float64{math.MaxFloat64, math.MaxFloat64, -math.MaxFloat64}, math.MaxFloat64},
		{nil, 0},
	} {
		got := over(t, aggregate.SumFloat(same[float64]), c.in...)
		if got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("sum of %v is %v, want %v", c.in, got, c.want)
		}
	}
}

// TestAvgRounds has PostgreSQL's results.
func TestAvgRounds(t *testing.T) {
	for _, c := range []struct {
		in   []int64
		want string
	}{
		{[]int64{1, 2}, "1.5"},                          // 1.5000000000000000
		{[]int64{1, 1, 2}, "1.3333333333333333"},        //
		{[]int64{0, 1, 1}, "0.66666666666666666667"},    //
		{[]int64{1000000, 0, 0}, "333333.333333333333"}, //
		{[]int64{-1, -1, 0}, "-0.66666666666666666667"}, //
		{[]int64{math.MaxInt64, math.MaxInt64}, "9223372036854775807"},
		{nil, "0"},
	} {
		if got := over(t, aggregate.Avg(same[int64]), c.in...); got != dec(c.want) {
			t.Errorf("avg of %v is %v, want %s", c.in, got, c.want)
		}
	}
	got := over(t, aggregate.AvgDecimal(6, same[record.Decimal]), dec("1000000000000"), dec("1000000000000.1"),
		dec("2000000000000"))
	if want := dec("1333333333333.366667"); got != want {
		t.Errorf("avg of numeric(20,6) is %v, want %v", got, want)
	}
}

// TestNull follows SQL: NULLs do not count, and nothing but NULLs gives NULL.
func TestNull(t *testing.T) {
	var none sql.Null[int32]
	id := same[sql.Null[int32]]
	if got := over(t, aggregate.SumNull(id), none, none); got.Valid {
		t.Errorf("sum of NULLs is %v, want NULL", got)
	}
	if got := over(t, aggregate.SumNull(id), none, null[int32](0)); got != null[int32](0) {
		t.Errorf("sum of NULL and 0 is %v, want 0", got)
	}
	if got := over(t, aggregate.MinNull(id), null[int32](5), none, null[int32](3)); got != null[int32](3) {
		t.Errorf("min of 5, NULL, 3 is %v, want 3", got)
	}
	if got := over(t, aggregate.MaxNull(id), none); got.Valid {
		t.Errorf("max of NULL is %v, want NULL", got)
	}
	if got := over(t, aggregate.AvgNull(id), null[int32](1), none, null[int32](2)); got != null(dec("1.5")) {
		t.Errorf("avg of 1, NULL, 2 is %v, want 1.5", got)
	}
	if got := over(t, aggregate.CountNotNull(id), none, null[int32](0), none); got != 1 {
		t.Errorf("count of NULL, 0, NULL is %d, want 1", got)
	}
	f := over(t, aggregate.SumFloatNull(same[sql.Null[float64]]), sql.Null[float64]{V: math.NaN()}, null(2.5))
	if f != null(2.5) {
		t.Errorf("sum of NULL and 2.5 is %v, want 2.5", f)
	}
	d := over(t, aggregate.SumDecimalNull(same[sql.Null[record.Decimal]]),
		null(dec("1.5")), sql.Null[record.Decimal]{})
	if d != null(dec("1.5")) {
		t.Errorf("sum of 1.5 and NULL is %v, want 1.5", d)
	}
}

// TestMinMaxOrder compares with cmp on histories of adds and removes, the smallest
// and the greatest ones among them.
func TestMinMaxOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type row struct {
			id string
			v  string
		}
		e := aggregate.NewEntries(&aggregatetest.Entries{})
		low, high := aggregate.Min(same[string]).New(), aggregate.Max(same[string]).New()
		eHigh := aggregate.NewEntries(&aggregatetest.Entries{})
		var rows []row
		for i := range rapid.IntRange(1, 40).Draw(t, "ops") {
			if len(rows) > 0 && rapid.Bool().Draw(t, "remove") {
				slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.v, b.v) })
				at := rapid.SampledFrom([]int{0, len(rows) - 1, len(rows) / 2}).Draw(t, "at")
				for _, err := range []error{
					low.Remove(e, []byte(rows[at].id), &rows[at].v),
					high.Remove(eHigh, []byte(rows[at].id), &rows[at].v),
				} {
					if err != nil {
						t.Fatal(err)
					}
				}
				rows = slices.Delete(rows, at, at+1)
			} else {
				v := rapid.SampledFrom([]string{"", "\x00", "a", "aa", "a\x00", "b", "\xff", "\xff\xff"}).Draw(t, "v")
				r := row{fmt.Sprintf("%03d", i), v}
				if low.Add(e, []byte(r.id), &r.v) != nil || high.Add(eHigh, []byte(r.id), &r.v) != nil {
					t.Fatal("add failed")
				}
				rows = append(rows, r)
			}
			var want, wantHigh string
			for j, r := range rows {
				if j == 0 || r.v < want {
					want = r.v
				}
				if j == 0 || r.v > wantHigh {
					wantHigh = r.v
				}
			}
			got, err := low.Result(e)
			gotHigh, errHigh := high.Result(eHigh)
			if err != nil || errHigh != nil || got != want || gotHigh != wantHigh {
				t.Fatalf("min %q max %q (%v, %v), want %q and %q of %v", got, gotHigh, err, errHigh, want, wantHigh, rows)
			}
		}
	})
}

func TestMinMaxOfFloats(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	if got := over(t, aggregate.Max(same[float64]), inf, nan, 1); !math.IsNaN(got) {
		t.Errorf("max with NaN is %v; NaN is the greatest, as in PostgreSQL", got)
	}
	if got := over(t, aggregate.Min(same[float64]), nan, inf, -1, -2); got != -2 {
		t.Errorf("min is %v, want -2", got)
	}
	if got := over(t, aggregate.Min(same[float64]), nan, -inf, -math.MaxFloat64); got != -inf {
		t.Errorf("min is %v, want -Inf", got)
	}
}

// TestMinReadsOneEntry shows that Min of a large group does not read it.
func TestMinReadsOneEntry(t *testing.T) {
	store := &counting{}
	e := aggregate.NewEntries(store)
	acc := aggregate.Min(same[int64]).New()
	for i := range int64(1000) {
		if err := acc.Add(e, fmt.Appendf(nil, "%04d", i), &i); err != nil {
			t.Fatal(err)
		}
	}
	for i := range int64(100) {
		if err := acc.Remove(e, fmt.Appendf(nil, "%04d", i), &i); err != nil {
			t.Fatal(err)
		}
		if got, err := acc.Result(e); err != nil || got != i+1 {
			t.Fatalf("min is %d, %v; want %d", got, err, i+1)
		}
	}
	if store.visited != 100 {
		t.Errorf("100 removals of the smallest read %d entries, want one each", store.visited)
	}
}

// counting counts the entries that scans visit.
type counting struct {
	aggregatetest.Entries
	visited, longest int // in all, and in the longest scan
}

func (c *counting) ScanRange(lower, upper []byte, reverse bool, fn func(key, value []byte) bool) error {
	before := c.visited
	defer func() { c.longest = max(c.longest, c.visited-before) }()
	return c.Entries.ScanRange(lower, upper, reverse, func(key, value []byte) bool {
		c.visited++
		return fn(key, value)
	})
}

func TestLists(t *testing.T) {
	type item struct {
		N    int
		Name string
	}
	rows := []item{{2, "b"}, {1, "a"}, {3, "c"}, {2, "d"}, {1, "e"}}
	n, name := func(i item) int { return i.N }, func(i item) string { return i.Name }
	for what, c := range map[string]struct {
		got  []string
		want string
	}{
		"Collect":     {over(t, aggregate.Collect(n, name), rows...), "a e b d c"},
		"CollectDesc": {over(t, aggregate.CollectDesc(n, name), rows...), "c b d a e"},
		"TopN":        {over(t, aggregate.TopN(2, n, name), rows...), "c b"},
		"BottomN":     {over(t, aggregate.BottomN(3, n, name), rows...), "a e b"},
		"TopN of few": {over(t, aggregate.TopN(9, name, name), rows...), "e d c b a"},
	} {
		if got := strings.Join(c.got, " "); got != c.want {
			t.Errorf("%s is %q, want %q", what, got, c.want)
		}
	}
	if got := over(t, aggregate.Collect(n, name)); got == nil || len(got) > 0 {
		t.Errorf("Collect of nothing is %#v, want an empty list", got)
	}
	if got := over(t, aggregate.ArgMin(n, name), rows...); got != "a" {
		t.Errorf("ArgMin is %q, want a", got)
	}
	if got := over(t, aggregate.ArgMax(n, name), rows...); got != "c" {
		t.Errorf("ArgMax is %q, want c", got)
	}
}

// TestProblems shows that a wrong aggregator is an error of Build, not of a run.
func TestProblems(t *testing.T) {
	type odd struct{ F func() }
	for name, err := range map[string]error{
		"no order":       aggregate.Min(func(odd) complex128 { return 0 }).Err(),
		"cannot be kept": aggregate.Collect(func(odd) int { return 0 }, same[odd]).Err(),
		"no rows":        aggregate.TopN(0, func(odd) int { return 0 }, func(odd) int { return 0 }).Err(),
		"zero":           aggregate.Aggregator[odd, int]{}.Err(),
		"no Add":         aggregate.Custom(aggregate.Fold[odd, int, int]{}).Err(),
		"in a combination": aggregate.Combine2(aggregate.Count[odd](), aggregate.Aggregator[odd, int]{},
			func(int64, int) int { return 0 }).Err(),
		"mapped": aggregate.Map(aggregate.Aggregator[odd, int]{}, same[int]).Err(),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "aggregate: ") {
			t.Errorf("%s: the error is %v, want one that begins with aggregate:", name, err)
		}
	}
}

// TestStoredStateIsChecked shows that cut states are errors, not panics.
func TestStoredStateIsChecked(t *testing.T) {
	cut(t, aggregate.Count[int64]())
	cut(t, aggregate.Sum(same[int64]))
	cut(t, aggregate.Avg(same[int64]))
	cut(t, aggregate.SumDecimal(func(n int64) record.Decimal { return record.NewDecimal(n, -3) }))
	cut(t, aggregate.Combine2(aggregate.Sum(same[int64]), aggregate.Sum(same[int64]),
		func(a, b int64) int64 { return a }))
}

func cut[R any](t *testing.T, agg aggregate.Aggregator[int64, R]) {
	t.Helper()
	acc, n := agg.New(), int64(12345)
	if err := acc.Add(nil, nil, &n); err != nil {
		t.Fatal(err)
	}
	stored := acc.AppendState(nil)
	if err := agg.New().DecodeState(stored); err != nil {
		t.Errorf("%s: %v", agg.Schema(), err)
	}
	for i := range len(stored) {
		if err := agg.New().DecodeState(stored[:i]); err == nil {
			t.Errorf("%s: %d of %d bytes were taken for a state", agg.Schema(), i, len(stored))
		}
	}
}

// TestGroupsMoveInPieces moves a large group, and removes it: no walk is longer than a piece,
// and none passes over what is done already.
func TestGroupsMoveInPieces(t *testing.T) {
	const rows = 20_000
	store := &counting{}
	e := aggregate.NewEntries(store)
	e.Scope([]byte("from/"))
	for i := range rows {
		if err := e.Set(i%2, fmt.Appendf(nil, "%06d", i), []byte("value")); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, visited, left int, err error) {
		t.Helper()
		if err != nil || store.Len() != left {
			t.Errorf("%s: %d entries are left, want %d; %v", what, store.Len(), left, err)
		}
		if store.visited != visited || store.longest > rows/2 {
			t.Errorf("%s: %d entries were read, up to %d at once, want %d in pieces",
				what, store.visited, store.longest, visited)
		}
		store.visited, store.longest = 0, 0
	}
	check("moved", rows, rows, e.Move([]byte("from/"), []byte("into/")))
	e.Scope([]byte("from/"))
	check("what was moved is no longer there", 0, rows, e.Clear(0))
	e.Scope([]byte("into/"))
	check("one slot removed", rows/2, rows/2, e.Clear(0))
	check("the other slot removed", rows/2, 0, e.Clear(1))
}

// TestSchemasDiffer: a topology with one aggregator in the place of another is another one,
// though what they store may have one form.
func TestSchemasDiffer(t *testing.T) {
	whole := func(int) sql.Null[int64] { return sql.Null[int64]{} }
	schemas := map[string]string{}
	for name, schema := range map[string]string{
		"Count":        aggregate.Count[int]().Schema(),
		"CountIf":      aggregate.CountIf(func(int) bool { return true }).Schema(),
		"CountNotNull": aggregate.CountNotNull(whole).Schema(),
		"Map":          aggregate.Map(aggregate.Count[int](), func(n int64) int64 { return -n }).Schema(),
		"Map to text":  aggregate.Map(aggregate.Count[int](), func(int64) string { return "" }).Schema(),
	} {
		if other, ok := schemas[schema]; ok {
			t.Errorf("%s and %s have the schema %q", name, other, schema)
		}
		schemas[schema] = name
	}
}
