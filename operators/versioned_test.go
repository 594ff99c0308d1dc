package operators_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// timed is a row with a time of its own.
type timed struct {
	At time.Time
	V  string
}

func timedAt(at int64, v string) timed { return timed{time.UnixMicro(at).UTC(), v} }

func timeOf(r timed) time.Time { return r.At }

// oracleVersion is a version of a key in the order of the log.
type oracleVersion struct {
	at  int64
	has bool
	v   string
}

// versionOracle keeps every version that was ever taken, in a list.
type versionOracle struct {
	retention int64
	time      int64 // stream time
	seen      bool
	versions  map[int64][]oracleVersion
	late      []string
	expired   int
}

// put takes a row event, judged by stream time before its transaction.
func (o *versionOracle) put(k int64, v oracleVersion) {
	if o.seen && v.at < o.time-o.retention {
		o.expired++
		return
	}
	if newest, ok := o.newest(k); ok && v.at < newest.at {
		o.late = append(o.late, fmt.Sprint(k, v.v, v.at))
	}
	o.versions[k] = append(o.versions[k], v)
}

// newest is the version with the largest time, the last of those that tie.
func (o *versionOracle) newest(k int64) (newest oracleVersion, ok bool) {
	for _, v := range o.versions[k] {
		if !ok || v.at >= newest.at {
			newest, ok = v, true
		}
	}
	return newest, ok
}

// rows are the newest versions.
func (o *versionOracle) rows() map[int64]timed {
	out := map[int64]timed{}
	for k := range o.versions {
		if v, _ := o.newest(k); v.has {
			out[k] = timedAt(v.at, v.v)
		}
	}
	return out
}

// stream is what ToStream makes of a transaction before which the rows were before: the
// changes of the newest versions, and the rows that came out of order.
func (o *versionOracle) stream(before map[int64]timed) []string {
	out := o.late
	after := o.rows()
	for k := range o.versions {
		if old, row := before[k], after[k]; old != row {
			newest, _ := o.newest(k)
			out = append(out, fmt.Sprint(k, row.V, newest.at))
		}
	}
	slices.Sort(out)
	return out
}

// asOf is the version of a key at a time, as far as the retention tells.
func (o *versionOracle) asOf(k, at int64) (string, bool) {
	newest, _ := o.newest(k)
	if newest.at > at && o.seen && at < o.time-o.retention {
		return "", false
	}
	var found oracleVersion
	ok := false
	for _, v := range o.versions[k] {
		if v.at <= at && (!ok || v.at >= found.at) {
			found, ok = v, true
		}
	}
	return found.v, found.has
}

// asked is a record with the key it asks for.
type asked struct {
	K  int64
	At time.Time
	N  int64
}

// TestVersioned compares the newest versions, joins as of, with and without waiting, an
// aggregate and ToStream with lists of all versions.
func TestVersioned(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { testVersioned(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func testVersioned(t *testing.T, r *rand.Rand) {
	retention := int64(r.IntN(15))
	grace := min(retention, int64(1+r.IntN(6)))
	b := topology.New("versions")
	db := sources.NewDatabase("db", nil)
	rows := sources.Table[int64, timed](b, db, "public.rows", sources.EventTime(timeOf))
	events := sources.Stream[int64, asked](b, db, "public.events",
		sources.EventTime(func(a asked) time.Time { return a.At }))
	versions := operators.Versioned("versions", rows, time.Duration(retention)*time.Microsecond)
	key := func(a asked) int64 { return a.K }
	join := func(a asked, v timed, has bool) string { return fmt.Sprint(a.N, v.V, has) }
	left := operators.LeftEnrichAsOf("left", events, versions, key, join)
	inner := operators.EnrichAsOf("inner", events, versions, key,
		func(a asked, v timed) string { return join(a, v, true) })
	waiting := operators.LeftEnrichAsOf("waiting", events, versions, key, join,
		operators.WaitForRows(time.Duration(grace)*time.Microsecond))
	stream := operators.ToStream("stream", versions.Table)
	groups := operators.Aggregate("groups", operators.GroupBy(versions.Table,
		func(_ int64, v timed) string { return v.V }), aggregate.Count[timed]())

	d := topologytest.New(t, b.MustBuild(), topologytest.CheckEverything(), topologytest.Epochs(1+r.IntN(4)),
		topologytest.Chunks(1+r.IntN(3)), topologytest.Memory([]int64{0, 1, 2000}[r.IntN(3)]))
	o := &versionOracle{retention: retention, versions: map[int64][]oracleVersion{}}
	present := map[int64]timed{} // the source table
	var eventTime, n int64
	type held struct {
		asked
		at int64
	}
	var buffer []held
	for range 40 {
		clock := int64(100 + r.IntN(40))
		if r.IntN(8) == 0 {
			clock += 30
		}
		var wantLeft, wantInner, wantWaiting []string
		o.late = nil
		maxTime, maxEvent := int64(0), int64(0)
		var came []held
		before := o.rows()
		d.Tx(func(tx *topologytest.Tx) {
			tx.CommitTime(time.UnixMicro(clock))
			for range 1 + r.IntN(4) {
				k, at := r.Int64N(3), clock-int64(r.IntN(12))
				switch _, has := present[k]; {
				case r.IntN(3) == 0:
					n++
					a := asked{K: k, At: time.UnixMicro(at).UTC(), N: n}
					topologytest.Emit(tx, events, n, a)
					came = append(came, held{a, at})
					maxEvent = max(maxEvent, at)
				case r.IntN(20) == 0:
					topologytest.Truncate(tx, rows)
					for k := range present {
						o.put(k, oracleVersion{at: clock})
					}
					clear(present)
					maxTime = max(maxTime, clock)
				case has && r.IntN(3) == 0:
					at = present[k].At.UnixMicro() // a deletion has the time of its row
					topologytest.Delete(tx, rows, k)
					delete(present, k)
					o.put(k, oracleVersion{at: at})
					maxTime = max(maxTime, at)
				default:
					row := timedAt(at, string(rune('a'+r.IntN(3))))
					topologytest.Upsert(tx, rows, k, row)
					present[k] = row
					o.put(k, oracleVersion{at, true, row.V})
					maxTime = max(maxTime, at)
				}
			}
		})
		ask := func(h held) string {
			v, has := o.asOf(h.K, h.at)
			if !has {
				v = ""
			}
			return join(h.asked, timed{V: v}, has)
		}
		for _, h := range came {
			wantLeft = append(wantLeft, ask(h))
			if _, has := o.asOf(h.K, h.at); has {
				wantInner = append(wantInner, ask(h))
			}
		}
		eventTime = max(eventTime, maxEvent)
		var due []held
		for _, h := range came {
			if h.at <= eventTime-grace {
				wantWaiting = append(wantWaiting, ask(h))
			} else {
				buffer = append(buffer, h)
			}
		}
		buffer = slices.DeleteFunc(buffer, func(h held) bool {
			if h.at <= eventTime-grace {
				due = append(due, h)
				return true
			}
			return false
		})
		slices.SortStableFunc(due, func(a, b held) int { return int(a.at - b.at) })
		for _, h := range due {
			wantWaiting = append(wantWaiting, ask(h))
		}
		if maxTime > 0 {
			o.time, o.seen = max(o.time, maxTime), true
		}
		if r.IntN(4) == 0 {
			d.Crash()
		}
		d.Commit()
		check := func(what string, want, got any) {
			t.Helper()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s at %d, retention %d, grace %d: %s", what, clock, retention, grace, diff)
			}
		}
		after := o.rows()
		wantGroups := map[string]int64{}
		for _, v := range after {
			wantGroups[v.V]++
		}
		check("rows", after, topologytest.Rows(d, versions.Table))
		check("groups", wantGroups, topologytest.Rows(d, groups))
		check("left", wantLeft, orNil(topologytest.Values(d, left)))
		check("inner", wantInner, orNil(topologytest.Values(d, inner)))
		check("waiting", wantWaiting, orNil(topologytest.Values(d, waiting)))
		check("expired", o.expired, d.Dropped("expired"))
		var records []string
		for _, r := range topologytest.Records(d, stream) {
			records = append(records, fmt.Sprint(r.Key, r.Value.New.V, r.Time))
		}
		slices.Sort(records)
		check("stream", o.stream(before), records)
	}
}

func orNil[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}
