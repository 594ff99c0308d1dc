package operators_test

import (
	"bytes"
	"cmp"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// fact is a row of a table of facts: a value under a key that may be NULL, with its
// time.
type fact struct {
	K  sql.Null[int64]
	V  string
	At time.Time
}

// epoch is the zero of the times of the tests in microseconds.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// moment is a time of a test: Kafka Streams' milliseconds are microseconds here.
func moment(n int64) time.Time { return epoch.Add(time.Duration(n) * time.Microsecond) }

type (
	nullKey    = sql.Null[int64]
	factStream = topology.Stream[nullKey, fact]
)

// facts reads a table of facts as a stream under the facts' own keys.
func facts(
	b *topology.Builder,
	db *sources.Database,
	table string,
) (source topology.Stream[int64, fact], s factStream) {
	source = sources.Stream[int64, fact](b, db, table,
		sources.EventTime(func(f fact) time.Time { return f.At }), sources.Lag[fact](0))
	return source, operators.Rekey(source, func(_ int64, f fact) sql.Null[int64] { return f.K })
}

func pairText(l fact, hasL bool, r fact, hasR bool) string {
	if !hasL {
		l.V = "null"
	}
	if !hasR {
		r.V = "null"
	}
	return l.V + "-" + r.V
}

func addWindowJoin(
	kind operators.JoinKind,
	name string,
	l, r factStream,
	w windows.JoinWindow,
) topology.Stream[
	sql.Null[int64], string,
] {
	switch kind {
	case operators.Left:
		return operators.LeftJoinWindow(name, l, r, w,
			func(l, r fact, has bool) string { return pairText(l, true, r, has) })
	case operators.Outer:
		return operators.OuterJoinWindow(name, l, r, w, pairText)
	}
	return operators.JoinWindow(name, l, r, w, func(l, r fact) string { return pairText(l, true, r, true) })
}

// joinModel is a join of streams as loops over all records that ever came.
type joinModel struct {
	kind                 operators.JoinKind
	before, after, grace int64
	time                 int64
	left, right          []*modelRecord
	out                  []string
	late                 int
}

type modelRecord struct {
	left    bool
	key     sql.Null[int64]
	v       string
	at      int64
	n       int // order of arrival
	matched bool
	gone    bool // without a partner
}

func (m *joinModel) emit(l, r *modelRecord) {
	var key sql.Null[int64]
	lv, rv, at := "null", "null", int64(-1<<63)
	if l != nil {
		lv, at, key = l.v, l.at, l.key
	}
	if r != nil {
		rv, at, key = r.v, max(at, r.at), r.key
	}
	m.out = append(m.out, fmt.Sprintf("%v %s-%s@%d", key, lv, rv, at))
}

// transaction takes the records of a transaction, or a heartbeat.
func (m *joinModel) transaction(rows []*modelRecord, heartbeat int64) {
	now := max(m.time, heartbeat)
	for _, x := range rows {
		now = max(now, x.at)
		m.arrive(x)
	}
	m.time = now
	var due []*modelRecord
	for _, l := range m.left {
		if m.kind != operators.Inner && !l.matched && !l.gone && l.at+m.after+m.grace < now {
			due = append(due, l)
		}
	}
	for _, r := range m.right {
		if m.kind == operators.Outer && !r.matched && !r.gone && r.at+m.before+m.grace < now {
			due = append(due, r)
		}
	}
	slices.SortFunc(due, func(a, b *modelRecord) int {
		side := 0
		if a.left != b.left {
			side = 1
			if b.left {
				side = -1
			}
		}
		return cmp.Or(cmp.Compare(a.at, b.at), side, bytes.Compare(keyBytes(a.key), keyBytes(b.key)),
			cmp.Compare(a.n, b.n))
	})
	for _, x := range due {
		x.gone = true
		m.alone(x)
	}
}

func keyBytes(k sql.Null[int64]) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(k.V)^1<<63)
}

func (m *joinModel) alone(x *modelRecord) {
	if x.left {
		m.emit(x, nil)
	} else {
		m.emit(nil, x)
	}
}

func (m *joinModel) arrive(x *modelRecord) {
	lookback, own, others := m.before, &m.right, m.left
	if x.left {
		lookback, own, others = m.after, &m.left, m.right
	}
	switch {
	case !x.key.Valid && (m.kind == operators.Outer || m.kind == operators.Left && x.left):
		m.alone(x)
		return
	case !x.key.Valid:
		return
	case x.at+max(lookback, 0)+m.grace < m.time:
		m.late++
		return
	}
	others = slices.Clone(others)
	slices.SortFunc(others, func(a, b *modelRecord) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.n, b.n))
	})
	for _, y := range others {
		l, r := x, y
		if !x.left {
			l, r = y, x
		}
		if l.key == r.key && r.at >= l.at-m.before && r.at <= l.at+m.after {
			x.matched, y.matched = true, true
			m.emit(l, r)
		}
	}
	*own = append(*own, x)
}

// TestRandomJoinWindow compares joins of streams with loops over everything that ever
// came. The model forgets nothing and knows nothing of cuts, crashes and memory.
func TestRandomJoinWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &joinModel{
			kind: rapid.SampledFrom([]operators.JoinKind{operators.Inner, operators.Left, operators.Outer}).
				Draw(t, "kind"),
			before: rapid.Int64Range(-3, 10).Draw(t, "before"),
			grace:  rapid.Int64Range(0, 8).Draw(t, "grace"),
			time:   -1 << 62,
		}
		m.after = rapid.Int64Range(-m.before, 10).Draw(t, "after")
		b := topology.New("join")
		db := sources.NewDatabase("db", nil)
		left, l := facts(b, db, "public.l")
		right, r := facts(b, db, "public.r")
		w := windows.Within(0).Before(us(m.before)).After(us(m.after)).Grace(us(m.grace))
		out := addWindowJoin(m.kind, "out", l, r, w)
		c := drawCut(t)
		d := topologytest.New(t, b.MustBuild(), c.options()...)
		n, now := 0, int64(0)
		for range rapid.IntRange(1, 30).Draw(t, "transactions") {
			now += rapid.SampledFrom([]int64{0, 1, 2, 3, 30}).Draw(t, "passes")
			if rapid.IntRange(0, 5).Draw(t, "beat") == 0 {
				d.AdvanceTime(moment(now).Sub(d.Now()))
				m.transaction(nil, now)
			}
			var rows []*modelRecord
			d.Tx(func(tx *topologytest.Tx) {
				for range rapid.IntRange(1, 4).Draw(t, "rows") {
					n++
					x := &modelRecord{
						left: rapid.Bool().Draw(t, "left"), v: fmt.Sprint(n), n: n,
						at: now - rapid.SampledFrom([]int64{0, 0, 0, 1, 2, 5, 11, 20, -4}).Draw(t, "lag"),
					}
					if k := rapid.Int64Range(-1, 2).Draw(t, "key"); k >= 0 {
						x.key = sql.Null[int64]{V: k, Valid: true}
					}
					rows = append(rows, x)
					s := right
					if x.left {
						s = left
					}
					topologytest.Emit(tx, s, int64(n), fact{K: x.key, V: x.v, At: moment(x.at)})
				}
			})
			m.transaction(rows, -1<<62)
			switch rapid.IntRange(0, 9).Draw(t, "crash") {
			case 0:
				d.Crash()
			case 1:
				d.Reopen()
			}
		}
		d.Commit()
		equalList(t, m.kind.String()+" "+w.String(), joinTexts(d, out), m.out)
		if got := d.Dropped("late"); got != m.late {
			t.Fatalf("%d records were late, want %d", got, m.late)
		}
	})
}

func joinTexts(d *topologytest.Driver, out topology.Stream[sql.Null[int64], string]) []string {
	var got []string
	for _, r := range topologytest.Records(d, out) {
		got = append(got, fmt.Sprintf("%v %s@%d", r.Key, r.Value, r.Time-epoch.UnixMicro()))
	}
	return got
}

// TestRandomSelfJoinWindow compares a join of a stream with itself with loops over
// everything that ever came.
func TestRandomSelfJoinWindow(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 5))
		before, after, grace := r.Int64N(8), r.Int64N(8), r.Int64N(5)
		b := topology.New("self")
		source, in := facts(b, sources.NewDatabase("db", nil), "public.f")
		w := windows.Within(0).Before(us(before)).After(us(after)).Grace(us(grace))
		out := operators.SelfJoinWindow("out", in, w,
			func(l, r fact) string { return pairText(l, true, r, true) })
		d := topologytest.New(t, b.MustBuild(), randomOptions(r)...)
		var came []*modelRecord
		m := &joinModel{}
		streamTime := int64(-1 << 62)
		feedFacts(r, d, source, func(rows []*modelRecord, heartbeat int64) {
			now := max(streamTime, heartbeat)
			for _, x := range rows {
				now = max(now, x.at)
				asLeft, asRight := x.at+after+grace >= streamTime, x.at+before+grace >= streamTime
				slices.SortFunc(came, func(a, b *modelRecord) int {
					return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.n, b.n))
				})
				for _, y := range came {
					if asLeft && x.key == y.key && y.at >= x.at-before && y.at <= x.at+after {
						m.emit(x, y)
					}
				}
				if !asLeft && !asRight {
					m.late++
					continue
				}
				came = append(came, x)
				slices.SortStableFunc(came, func(a, b *modelRecord) int { return cmp.Compare(a.at, b.at) })
				for _, y := range came {
					if (asRight || y == x) && x.key == y.key && x.at >= y.at-before && x.at <= y.at+after {
						m.emit(y, x)
					}
				}
			}
			streamTime = now
		})
		if got := joinTexts(d, out); !slices.Equal(got, m.out) || d.Dropped("late") != m.late {
			t.Fatalf("seed %d: late %d,\n got %v\nwant %v", seed, d.Dropped("late"), got, m.out)
		}
	}
}
