package operators_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
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

// randomOptions cuts the work of a test with a random generator of its own.
func randomOptions(r *rand.Rand) []topologytest.Option {
	return cut{
		chunks: 1 + r.IntN(5), steps: r.IntN(4), epochs: 1 + r.IntN(4),
		memory: []int64{0, 1, 3000}[r.IntN(3)], partitions: []int{0, 1, 2, 16}[r.IntN(4)], encoded: r.IntN(2) == 0,
	}.options()
}

// holdModel holds back changes of a table, with plain maps.
type holdModel struct {
	limit   int64
	max     int
	time    int64
	rows    map[int64]string
	out     map[int64]string
	pending map[int64]int64 // due by key
}

func (m *holdModel) transaction(rows map[int64]string, at int64) {
	for k := range union(m.rows, rows) {
		before, had := m.rows[k]
		after, has := rows[k]
		if _, waits := m.pending[k]; !waits && (had != has || before != after) {
			m.pending[k] = at + m.limit
		}
	}
	m.rows = maps.Clone(rows)
	m.time = max(m.time, at)
	keys := slices.SortedFunc(maps.Keys(m.pending), func(a, b int64) int {
		return cmp.Or(cmp.Compare(m.pending[a], m.pending[b]), cmp.Compare(a, b))
	})
	for i, k := range keys {
		if m.pending[k] > m.time && (m.max == 0 || len(keys)-i <= m.max) {
			break
		}
		delete(m.pending, k)
		if v, ok := m.rows[k]; ok {
			m.out[k] = v
		} else {
			delete(m.out, k)
		}
	}
}

// TestRandomSuppressUntilTimeLimit compares what goes out with a model after every
// transaction.
func TestRandomSuppressUntilTimeLimit(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := &holdModel{
			limit: r.Int64N(8), max: r.IntN(4), rows: map[int64]string{}, out: map[int64]string{},
			pending: map[int64]int64{}, time: -1 << 62,
		}
		b := topology.New("suppress")
		in := sources.Table[int64, cell](b, sources.NewDatabase("db", nil), "public.t")
		held := operators.SuppressUntilTimeLimit("held", in, us(m.limit), operators.MaxRecords(m.max))
		options := randomOptions(r)
		if m.max > 0 {
			options = append(options, topologytest.Partitions(0)) // the bound is one for all keys
		}
		d := topologytest.New(t, b.MustBuild(), options...)
		rows, now := map[int64]string{}, int64(0)
		for range 40 {
			now += r.Int64N(4)
			at := now
			if r.IntN(5) == 0 {
				d.AdvanceTime(moment(now).Sub(d.Now()))
			} else {
				at -= []int64{0, 0, 0, 1, 5}[r.IntN(5)]
				d.Tx(func(tx *topologytest.Tx) {
					tx.CommitTime(moment(at))
					for range 1 + r.IntN(3) {
						changeRow(r, tx, in, rows)
					}
				})
			}
			m.transaction(rows, at)
			switch r.IntN(8) {
			case 0:
				d.Crash()
			case 1:
				d.Reopen()
			}
			d.Commit()
			got := map[int64]string{}
			for k, c := range topologytest.Rows(d, held) {
				got[k] = c.V
			}
			if !maps.Equal(got, m.out) {
				t.Fatalf("seed %d: %v, want %v", seed, got, m.out)
			}
		}
	}
}

func changeRow(r *rand.Rand, tx *topologytest.Tx, in topology.Table[int64, cell], rows map[int64]string) {
	k := r.Int64N(5)
	if _, ok := rows[k]; ok && r.IntN(3) == 0 {
		topologytest.Delete(tx, in, k)
		delete(rows, k)
		return
	}
	rows[k] = string(rune('a' + r.IntN(3)))
	topologytest.Upsert(tx, in, k, cell{rows[k]})
}

// windowModel counts facts by key and window and gives final results.
type windowModel struct {
	size, grace, closes int64
	time                int64
	counts              map[windows.Windowed[int64]]int64
	final               map[windows.Windowed[int64]]int64
	late                int // rows of closed windows, and changes of windows that had gone out
}

func shows(count int64) bool { return count%3 != 0 }

func (m *windowModel) transaction(rows []*modelRecord, heartbeat int64) {
	before, after := maps.Clone(m.counts), m.counts
	now := max(m.time, heartbeat)
	for _, x := range rows {
		now = max(now, x.at)
		start := epoch.UnixMicro() + x.at
		start -= start % m.size
		if end := start + m.size; m.time+epoch.UnixMicro() < end+m.grace {
			after[windows.Windowed[int64]{Key: x.key.V, Window: windows.Window{Start: start, End: end}}]++
		} else {
			m.late++
		}
	}
	for w, n := range after {
		changed := before[w] != n && (shows(before[w]) || shows(n))
		if closes := w.Window.End + m.closes - epoch.UnixMicro(); closes <= m.time {
			if changed && shows(n) { // a window that ends is no loss
				m.late++
			}
		} else if closes <= now && shows(n) {
			m.final[w] = n
		}
	}
	m.time = now
}

// TestRandomSuppressUntilWindowCloses compares final results with a model; rows of the
// windowed table come and go, and the definition may close earlier than the table's.
func TestRandomSuppressUntilWindowCloses(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		m := &windowModel{
			size: 5, grace: r.Int64N(6), time: -1 << 62,
			counts: map[windows.Windowed[int64]]int64{}, final: map[windows.Windowed[int64]]int64{},
		}
		m.closes = max(0, m.grace-r.Int64N(3))
		b := topology.New("suppress")
		source, in := facts(b, sources.NewDatabase("db", nil), "public.f")
		def := windows.Tumbling(us(m.size))
		counts := operators.Filter(operators.Aggregate("counts", operators.Window(
			operators.GroupBy(in, func(_ nullKey, f fact) int64 { return f.K.V }), def.Grace(us(m.grace)),
		), aggregate.Count[fact]()), func(_ windows.Windowed[int64], n int64) bool { return shows(n) })
		final := operators.SuppressUntilWindowCloses("final", counts, def.Grace(us(m.closes)))
		d := topologytest.New(t, b.MustBuild(), randomOptions(r)...)
		now := int64(0)
		for n := range 40 {
			now += []int64{0, 1, 2, 40}[r.IntN(4)]
			if r.IntN(5) == 0 {
				d.AdvanceTime(moment(now).Sub(d.Now()))
				m.transaction(nil, now)
			}
			var rows []*modelRecord
			d.Tx(func(tx *topologytest.Tx) {
				for i := range 1 + r.IntN(4) {
					x := &modelRecord{key: nullKey{V: r.Int64N(2), Valid: true}, at: now - r.Int64N(9)}
					rows = append(rows, x)
					topologytest.Emit(tx, source, int64(10*n+i), fact{K: x.key, At: moment(x.at)})
				}
			})
			m.transaction(rows, -1<<62)
			if r.IntN(8) == 0 {
				d.Crash()
			}
		}
		d.Commit()
		if got := topologytest.Rows(d, final); !maps.Equal(got, m.final) {
			t.Fatalf("seed %d: %v, want %v", seed, got, m.final)
		}
		if got := d.Dropped("late"); got != m.late {
			t.Fatalf("seed %d: %d were late, want %d", seed, got, m.late)
		}
		for _, c := range topologytest.Changes(d, final) {
			if c.HasOld() {
				t.Fatalf("seed %d: the final result of %v changes from %v to %v", seed, c.Key, c.Old, c.New)
			}
		}
	}
}

// changeTexts are the committed changes of a table as key=value@time.
func changeTexts[K comparable, V any](
	d *topologytest.Driver, table topology.Table[K, V], key func(K) string,
) (out []string) {
	for _, c := range topologytest.Changes(d, table) {
		v := "~"
		if c.HasNew() {
			v = fmt.Sprint(c.New)
		}
		out = append(out, fmt.Sprintf("%s=%s@%d", key(c.Key), v, c.Time-epoch.UnixMicro()))
	}
	slices.Sort(out)
	return out
}

func plain(k string) string { return k }

// TestSuppressUntilTimeLimitRules runs Kafka Streams' own cases: counts of rows by value.
func TestSuppressUntilTimeLimitRules(t *testing.T) {
	inputs := []struct {
		key   int64
		value string
	}{{1, "v1"}, {1, "v2"}, {2, "v1"}, {3, "tick"}, {4, "tock"}} // at 0 to 4
	for name, c := range map[string]struct {
		limit   time.Duration
		options []operators.SuppressOption
		want    []string
	}{
		"time limit": {us(2), nil, []string{"[]", "[]", "[v1=1@2]", "[v2=1@1]", "[]"}},
		"max records": {time.Hour, []operators.SuppressOption{operators.MaxRecords(1)}, []string{
			"[]", "[v1=0@1]", "[v2=1@1]", "[v1=1@2]", "[tick=1@3]"}},
	} {
		b := topology.New("suppress")
		in := sources.Table[int64, cell](b, sources.NewDatabase("db", nil), "public.t")
		counts := operators.Aggregate("counts", operators.GroupBy(in, func(_ int64, c cell) string { return c.V }),
			aggregate.Count[cell](), operators.KeepEmpty())
		out := operators.SuppressUntilTimeLimit("held", counts, c.limit, c.options...)
		d := topologytest.New(t, b.MustBuild())
		for i, in2 := range inputs {
			d.Tx(func(tx *topologytest.Tx) {
				tx.CommitTime(moment(int64(i)))
				topologytest.Upsert(tx, in, in2.key, cell{in2.value})
			})
			if got := fmt.Sprint(changeTexts(d, out, plain)); got != c.want[i] {
				t.Errorf("%s: input %d: %s, want %s", name, i+1, got, c.want[i])
			}
		}
	}
}

// TestSuppressUntilWindowClosesRules runs Kafka Streams' own cases, a jump of time that
// closes all windows at once among them.
func TestSuppressUntilWindowClosesRules(t *testing.T) {
	for name, c := range map[string]struct {
		window windows.TumblingWindow
		times  []int64
		want   string
	}{
		"grace": {windows.Tumbling(us(2)).Grace(us(1)), []int64{0, 1, 2, 1, 0, 5, 0},
			"[0/2=4@1 2/4=1@2]"},
		"jump": {windows.Tumbling(us(2)).Grace(us(2)), []int64{0, 1, 2, 0, 3, 0, 4, 0, 30},
			"[0/2=4@1 2/4=2@3 4/6=1@4]"},
		// With emission on close Kafka Streams puts out [30,40) only, after a pause.
		"windows lost on close": {windows.Tumbling(us(10)), []int64{1, 12, 22, 32, 42},
			"[0/10=1@1 10/20=1@12 20/30=1@22 30/40=1@32]"},
	} {
		b := topology.New("suppress")
		source, in := facts(b, sources.NewDatabase("db", nil), "public.f")
		counts := operators.Aggregate("counts", operators.Window(operators.GroupByKey(in), c.window),
			aggregate.Count[fact]())
		out := operators.SuppressUntilWindowCloses("final", counts, c.window)
		d := topologytest.New(t, b.MustBuild())
		for i, at := range c.times {
			topologytest.Emit(d, source, int64(i), fact{K: nullKey{V: 1, Valid: true}, At: moment(at)})
		}
		got := changeTexts(d, out, func(k windows.Windowed[nullKey]) string {
			return fmt.Sprintf("%d/%d", k.Window.Start-epoch.UnixMicro(), k.Window.End-epoch.UnixMicro())
		})
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
}

// TestSuppressBeforeJoin: what follows sees what has gone out last, not what is held
// back.
func TestSuppressBeforeJoin(t *testing.T) {
	b := topology.New("suppress")
	db := sources.NewDatabase("db", nil)
	left := sources.Table[string, cell](b, db, "public.l")
	right := sources.Table[string, cell](b, db, "public.r")
	out := operators.OuterJoin("out", left, operators.SuppressUntilTimeLimit("held", right, us(10)), dash)
	d := topologytest.New(t, b.MustBuild())
	for i, s := range []struct {
		table      topology.Table[string, cell]
		at         int64
		key, value string
		want       string
	}{
		{right, 0, "B", "1", "[]"}, {right, 0, "A", "1", "[]"},
		{right, 10, "tick", "x", "[A={null-1}@0 B={null-1}@0]"}, {right, 11, "A", "2", "[]"},
		{left, 12, "A", "a", "[A={a-1}@12]"}, {left, 12, "B", "b", "[B={b-1}@12]"},
		{right, 20, "tick2", "x", "[tick={null-x}@10]"}, {right, 21, "tick3", "x", "[A={a-2}@12]"},
	} {
		d.Tx(func(tx *topologytest.Tx) {
			tx.CommitTime(moment(s.at))
			topologytest.Upsert(tx, s.table, s.key, cell{s.value})
		})
		if got := fmt.Sprint(changeTexts(d, out, plain)); got != s.want {
			t.Errorf("input %d: %s, want %s", i+1, got, s.want)
		}
	}
}

// TestSuppressMistakes finds all of them at Build.
func TestSuppressMistakes(t *testing.T) {
	b := topology.New("wrong")
	in := sources.Table[int64, cell](b, sources.NewDatabase("db", nil), "public.t")
	operators.SuppressUntilTimeLimit("", in, -time.Second, operators.MaxRecords(-1))
	windowed := operators.ToTable("windowed", operators.Rekey(operators.ToStream("changes", in),
		func(k int64, _ record.Change[int64, cell]) windows.Windowed[int64] {
			return windows.Windowed[int64]{Key: k}
		}))
	operators.SuppressUntilWindowCloses("nil", windowed, nil)
	operators.SuppressUntilWindowCloses("bad", windowed, windows.Tumbling(0))
	counts := operators.Aggregate("counts", operators.Window(operators.GroupByKey(operators.ToStream("s", in)),
		windows.Tumbling(time.Minute).Grace(time.Second)), aggregate.Count[record.Change[int64, cell]]())
	minutes := operators.Filter(counts, func(windows.Windowed[int64], int64) bool { return true })
	operators.SuppressUntilWindowCloses("other", minutes, windows.Tumbling(time.Hour))
	operators.SuppressUntilWindowCloses("same", minutes, windows.Tumbling(time.Minute).Grace(2*time.Second))
	_, err := b.Build()
	for _, want := range []string{
		"needs a name", "time limit is -1s", "MaxRecords is -1", "is nil", "size is 0",
		`"other": the definition is tumbling 1h0m0s, and the table's windows are tumbling 1m0s grace 1s`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one with %q", err, want)
		}
	}
	if err != nil && strings.Contains(err.Error(), `"same"`) {
		t.Errorf("the windows are the same, and the error is %v", err)
	}
}

// TestSuppressIsFinal has the sequences in which Kafka Streams lets a window out twice:
// a sliding window [5,10] as 1 and then 2, and a session as [0,0]=1 and then [0,5]=2.
func TestSuppressIsFinal(t *testing.T) {
	for _, c := range []struct {
		window windows.Definition
		times  []int64
		want   string
	}{
		{windows.Sliding(us(5)), []int64{10, 10, 100}, "[5/10=2@10]"},
		{windows.Session(us(5)), []int64{0, 5, 5, 100}, "[0/5=3@5]"},
	} {
		b := topology.New("final")
		source, in := facts(b, sources.NewDatabase("db", nil), "public.f")
		counts := operators.Aggregate("counts", operators.Window(operators.GroupByKey(in), c.window),
			aggregate.Count[fact]())
		out := operators.SuppressUntilWindowCloses("final", counts, c.window)
		d := topologytest.New(t, b.MustBuild())
		for i, at := range c.times {
			topologytest.Emit(d, source, int64(i), fact{K: nullKey{V: 1, Valid: true}, At: moment(at)})
		}
		got := changeTexts(d, out, func(k windows.Windowed[nullKey]) string {
			return fmt.Sprintf("%d/%d", k.Window.Start-epoch.UnixMicro(), k.Window.End-epoch.UnixMicro())
		})
		if fmt.Sprint(got) != c.want {
			t.Errorf("%v: %v, want %s", c.window, got, c.want)
		}
	}
}
