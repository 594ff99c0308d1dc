package kstreams_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/kstreams"
)

// started is set when a test has asked for the Java program.
var started bool

var start = sync.OnceValues(func() (*kstreams.Oracle, error) {
	started = true
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	defer cancel()
	return kstreams.Start(ctx)
})

// oracle returns the package's one Java program. Without Java the tests fail.
func oracle(t *testing.T) *kstreams.Oracle {
	t.Helper()
	o, err := start()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestMain(m *testing.M) {
	code := m.Run()
	if started {
		if o, err := start(); err == nil {
			if err := o.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	os.Exit(code)
}

// settings of `make fuzz-kstreams`.
func setting(t *testing.T, name string, standard int) int {
	t.Helper()
	text := os.Getenv("TAILRACE_FUZZ_" + name)
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("TAILRACE_FUZZ_%s: %v", name, err)
	}
	return n
}

// TestFuzz runs random cases of each family on Kafka Streams and on Tailrace.
func TestFuzz(t *testing.T) {
	t.Parallel()
	only := strings.Fields(strings.ReplaceAll(os.Getenv("TAILRACE_FUZZ_FAMILY"), ",", " "))
	for _, name := range only {
		if kstreams.FamilyNamed(name) == nil {
			t.Fatalf("no family is called %q", name)
		}
	}
	r := runner{
		seed: uint64(setting(t, "SEED", 1)), first: setting(t, "FIRST", 1), cases: setting(t, "CASES", 150),
	}
	for _, f := range kstreams.Families() {
		if len(only) > 0 && !slices.Contains(only, f.Name) {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			r.family(t, f)
		})
	}
}

type runner struct {
	seed         uint64
	first, cases int
}

// workers keep the Java program busy.
const workers = 3

// failures is how many failing cases of a family are shown.
const failures = 3

// family runs a family's cases.
func (r runner) family(t *testing.T, f *kstreams.Family) {
	o := oracle(t)
	numbers := make(chan int)
	var mu sync.Mutex
	var failed []*kstreams.Verdict
	clean, silent, known := 0, 0, map[string]int{}
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for number := range numbers {
				v, err := f.Check(o, f.Case(r.seed, number))
				mu.Lock()
				switch {
				case err != nil:
					t.Errorf("case %d: %v", number, err)
				case v.Failed():
					failed = append(failed, v)
				case v.Diff != nil:
					known[v.Known]++
				default:
					clean++
					if v.Outputs() == 0 {
						silent++
					}
				}
				mu.Unlock()
			}
		})
	}
	for number := r.first; number < r.first+r.cases && !t.Failed(); number++ {
		numbers <- number
	}
	close(numbers)
	group.Wait()
	t.Logf("%s: %d cases: %d agree (%d without output), %d fail, known differences %v",
		f.Name, r.cases, clean, silent, len(failed), known)
	slices.SortFunc(failed, func(a, b *kstreams.Verdict) int { return int(a.Case.ID - b.Case.ID) })
	for _, v := range failed[:min(len(failed), failures)] {
		r.report(t, f, v)
	}
	if len(failed) > failures {
		t.Errorf("%d more cases fail", len(failed)-failures)
	}
	// Where most cases differ or say nothing, agreement proves little.
	if explained := sum(known); r.cases >= 100 && len(failed) == 0 && (clean-silent)*2 < r.cases {
		t.Errorf("only %d of %d cases agree on some output: %d are explained away, %d have none",
			clean-silent, r.cases, explained, silent)
	}
}

func sum(m map[string]int) int {
	n := 0
	for v := range maps.Values(m) {
		n += v
	}
	return n
}

func (r runner) report(t *testing.T, f *kstreams.Family, v *kstreams.Verdict) {
	number := v.Case.ID
	least, err := f.Minimise(oracle(t), v)
	if err != nil {
		t.Errorf("case %d: minimise: %v", number, err)
		least = v
	}
	t.Errorf("case %d (make fuzz-kstreams FAMILY=%s SEED=%d FIRST=%d CASES=1): %s\n%s",
		number, f.Name, r.seed, number, least.Diff, show(least))
}

// show prints a case with what both made of each input.
func show(v *kstreams.Verdict) string {
	var b strings.Builder
	c := *v.Case
	c.Records = nil
	fmt.Fprintf(&b, "%s\n", c.String())
	for i, in := range v.Case.Records {
		fmt.Fprintf(&b, "%2d %s %s=%s@%d\tKafka Streams: %v\tTailrace: %v\n", i+1, in.Topic,
			or(in.Key), or(in.Value), in.TS, step(v.Kafka, i), step(v.Tailrace, i))
	}
	return b.String()
}

func or(s *string) string {
	if s == nil {
		return "~"
	}
	return *s
}

func step(r *kstreams.Result, i int) any {
	if i >= len(r.Steps) {
		return r.Error
	}
	var all []string
	for _, o := range r.Steps[i] {
		all = append(all, o.Node+":"+o.String())
	}
	return all
}
