package topologytest_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

type (
	wide   struct{ Amount string }
	narrow struct{ Amount small }
	rate   struct{ Percent int64 }
)

// small is a number below a thousand.
type small int64

func (s small) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(s), 10), nil }

func (s *small) UnmarshalText(text []byte) error {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if *s = small(n); err == nil && n > 999 {
		err = errors.New("too large")
	}
	return err
}

var errOdd = errors.New("odd amounts are not taken")

// poison is a topology whose nodes fail on what amounts say: a decimal digit each.
// 1 fails in filter, 2 panics in flat-map after it has emitted, 3 panics in the key of
// enrich, 4 in its joiner; what is too large fails in the source.
type poison struct {
	top  *topology.Topology
	in   topology.Stream[int64, wide]
	fees topology.Table[int64, rate]
	out  topology.Stream[int64, int64]
}

func newPoison(t *testing.T, policy topology.ErrorPolicy) poison {
	t.Helper()
	b := topology.New("poison")
	db := sources.NewDatabase("shop", nil)
	p := poison{in: sources.Stream[int64, wide](b, db, "public.events", sources.As[wide]("writer"))}
	sinks.Stream(p.in, sinks.NewTarget("out", nil), "written")
	p.fees = sources.Table[int64, rate](b, db, "public.rates")
	guard := func(s topology.Stream[int64, narrow]) topology.Stream[int64, narrow] {
		if policy != nil {
			return s.OnError(policy)
		}
		return s
	}
	in := guard(sources.Stream[int64, narrow](b, db, "public.events"))
	even := guard(operators.FilterContext(in, func(_ record.Context, _ int64, n narrow) (bool, error) {
		if n.Amount%10 == 1 {
			return true, errOdd
		}
		return true, nil
	}))
	twice := guard(operators.FlatMap(even, func(k int64, n narrow, emit func(int64, narrow)) {
		emit(k, n)
		if n.Amount%10 == 2 {
			panic("two")
		}
		emit(k, n)
	}))
	p.out = operators.LeftEnrich("priced", twice, p.fees, func(n narrow) int64 {
		if n.Amount%10 == 3 {
			panic("no key")
		}
		return 1
	}, func(n narrow, r rate, _ bool) int64 {
		if n.Amount%10 == 4 {
			panic("no price")
		}
		return int64(n.Amount) * r.Percent
	})
	if policy != nil {
		p.out = p.out.OnError(policy)
	}
	sinks.Stream(p.out, sinks.NewTarget("out", nil), "priced")
	top, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	p.top = top
	return p
}

// feed writes ten transactions of three events each.
func (p poison) feed(d *topologytest.Driver) {
	topologytest.Insert(d, p.fees, 1, rate{Percent: 10})
	n := int64(0)
	for i := range int64(10) {
		d.Tx(func(tx *topologytest.Tx) {
			for range 3 {
				amount := n
				if n == 17 {
					amount = 1 << 40
				}
				topologytest.Emit(tx, p.in, n, wide{Amount: strconv.FormatInt(amount, 10)})
				n++
			}
		})
		if i == 4 {
			d.Crash()
		}
	}
	d.Commit()
}

// TestDeadLetters sets aside what fails in each kind of node that takes a policy. The
// rest comes out, however work is cut and whatever is lost on the way.
func TestDeadLetters(t *testing.T) {
	var want []topologytest.DeadLetter
	for i, opts := range [][]topologytest.Option{
		nil,
		{topologytest.Chunks(1), topologytest.Epochs(7)},
		{topologytest.Epochs(0), topologytest.Memory(1)},
		{topologytest.Chunks(2), topologytest.Epochs(3), topologytest.Steps(1)},
	} {
		p := newPoison(t, func(record.Context, *topology.Failure) topology.Verdict { return topology.DeadLetter })
		d := topologytest.New(t, p.top, opts...)
		p.feed(d)
		var expect []int64
		for n := range int64(30) {
			if digit := n % 10; n != 17 && (digit == 0 || digit > 4) {
				expect = append(expect, 10*n, 10*n)
			}
		}
		if got := topologytest.Values(d, p.out); !slices.Equal(got, expect) {
			t.Errorf("with options %d come out %v, want %v", i, got, expect)
		}
		letters := d.DeadLetters()
		if i == 0 {
			want = letters
			checkLetters(t, letters)
		}
		if fmt.Sprint(letters) != fmt.Sprint(want) {
			t.Errorf("with options %d the letters are %+v, want %+v", i, letters, want)
		}
		if n := d.Dropped("dead-letter"); n != len(letters) {
			t.Errorf("%d are counted, there are %d", n, len(letters))
		}
	}
}

func checkLetters(t *testing.T, letters []topologytest.DeadLetter) {
	t.Helper()
	var got []string
	ids := map[string]bool{}
	for _, l := range letters {
		got = append(got, fmt.Sprintf("%s %s=%s: %s", l.Node, l.Key, l.Value, l.Error))
		if ids[l.ID] || !strings.HasPrefix(l.ID, "shop/0/") || l.Position == "0/0" || l.CommitTime == 0 {
			t.Errorf("the letter has no id of its own or no transaction: %+v", l)
		}
		ids[l.ID] = true
	}
	user := "topology: user function failed: "
	var want []string
	for _, n := range []int{1, 2, 3, 4, 11, 12, 13, 14, 17, 21, 22, 23, 24} {
		value := fmt.Sprintf(`%d={"amount":"%d"}`, n, n)
		switch {
		case n == 17:
			want = append(want, `shop/public.events {"id":"17"}={"amount":"1099511627776","id":"17"}: `+
				"sources: value cannot be decoded: table public.events: ")
		case n%10 == 1:
			want = append(want, "filter#1 "+value+": "+user+errOdd.Error())
		case n%10 == 2:
			want = append(want, "flat-map#1 "+value+": "+user+"panic: two")
		case n%10 == 3:
			want = append(want, "priced "+value+": "+user+"panic: no key", "priced "+value+": "+user+"panic: no key")
		case n%10 == 4:
			want = append(
				want,
				"priced "+value+": "+user+"panic: no price",
				"priced "+value+": "+user+"panic: no price",
			)
		}
	}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("the letters are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestPolicies skips some failures, stops at others, and refuses policies where they
// would make results wrong.
func TestPolicies(t *testing.T) {
	skip := newPoison(t, func(ctx record.Context, f *topology.Failure) topology.Verdict {
		if ctx.Tx == nil || f.Node.Name != ctx.Node {
			t.Errorf("the policy is asked with %+v about %v", ctx, f)
		}
		if ctx.Node == "flat-map#1" && f.Key == int64(12) {
			return topology.Stop
		}
		return topology.Skip
	})
	fails := &failing{}
	func() {
		defer func() {
			if r := recover(); r != nil && r != fails {
				panic(r)
			}
		}()
		skip.feed(topologytest.New(fails, skip.top))
	}()
	if !strings.Contains(fails.message, "panic: two") || !strings.Contains(fails.message, "flat-map#1") {
		t.Errorf("a policy that stops gives %q", fails.message)
	}
	all := newPoison(t, func(record.Context, *topology.Failure) topology.Verdict { return topology.Skip })
	d := topologytest.New(t, all.top)
	all.feed(d)
	if n, kept := d.Dropped("skipped"), d.DeadLetters(); n != 19 || len(kept) > 0 {
		t.Errorf("%d are skipped, %d kept, want 19 and 0", n, len(kept))
	}

	b := topology.New("wrong")
	in := sources.Stream[int64, wide](b, sources.NewDatabase("shop", nil), "public.events")
	operators.Merge(in, in).
		OnError(func(record.Context, *topology.Failure) topology.Verdict { return topology.Skip })
	in.OnError(nil)
	_, err := b.Build()
	for _, want := range []string{`merge "merge#1" has no error policy`, "the error policy is nil"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Build gives %v, want %s", err, want)
		}
	}
}

// failing is a test that fails and goes on.
type failing struct{ message string }

func (f *failing) Helper()        {}
func (f *failing) Cleanup(func()) {}

func (f *failing) Fatalf(format string, args ...any) {
	f.message = fmt.Sprintf(format, args...)
	panic(f)
}
