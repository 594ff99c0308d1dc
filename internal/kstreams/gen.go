package kstreams

import (
	"hash/fnv"
	"math/rand/v2"
)

// Gen draws a case. The same seed, family and number always draw the same case.
type Gen struct{ *rand.Rand }

func newGen(seed uint64, family string, number int) Gen {
	h := fnv.New64a()
	_, _ = h.Write([]byte(family))
	return Gen{rand.New(rand.NewPCG(seed, h.Sum64()+uint64(number)))}
}

// Of draws one of some things.
func Of[T any](g Gen, things ...T) T { return things[g.IntN(len(things))] }

// Chance is true once in n times.
func (g Gen) Chance(n int) bool { return g.IntN(n) == 0 }

// Between draws a number from low to high, both included.
func (g Gen) Between(low, high int) int64 { return int64(low + g.IntN(high-low+1)) }

// Mix says what records to draw. Zero values of Keys, Values and Records mean the
// defaults.
type Mix struct {
	Topics []string
	// Keys defaults to a, b, c and d.
	Keys []string
	// Values defaults to letter-digit pairs, few enough that the same comes again.
	Values []string
	// NullKeys and NullValues draw a null once in so many times, 0 never.
	NullKeys, NullValues int
	// Step is how far time moves on a record, 0 to 2*Step; defaults to 3.
	Step int
	// Late draws a time before the newest once in so many times, as far back as Back,
	// 0 never. Jump moves time forward by that much now and then, 0 never.
	Late, Back, Jump int
	// Records is how many there are at most; defaults to 24.
	Records int
}

// TableMix are upserts and tombstones of tables, out of order at times.
func TableMix(topics ...string) Mix {
	return Mix{Topics: topics, NullValues: 4, Late: 4, Back: 12}
}

// StreamMix are records of streams, with values and keys, out of order at times.
func StreamMix(topics ...string) Mix { return Mix{Topics: topics, Late: 4, Back: 12} }

// Records draws records.
func (g Gen) Records(m Mix) []Input {
	if m.Keys == nil {
		m.Keys = []string{"a", "b", "c", "d"}[:g.Between(2, 4)]
	}
	if m.Values == nil {
		m.Values = []string{"a1", "a2", "b1", "b7", "c4", "c10"}
	}
	step, most := m.Step, m.Records
	if step == 0 {
		step = 3
	}
	if most == 0 {
		most = 24
	}
	now := g.Between(0, 20)
	records := make([]Input, g.Between(1, most))
	for i := range records {
		r := &records[i]
		now += g.Between(0, 2*step)
		if m.Jump > 0 && g.Chance(12) {
			now += int64(m.Jump)
		}
		r.Topic, r.TS = Of(g, m.Topics...), now
		if m.Late > 0 && g.Chance(m.Late) {
			r.TS = max(0, now-g.Between(1, m.Back))
		}
		if m.NullKeys == 0 || !g.Chance(m.NullKeys) {
			r.Key = pointer(Of(g, m.Keys...))
		}
		if m.NullValues == 0 || !g.Chance(m.NullValues) {
			r.Value = pointer(Of(g, m.Values...))
		}
	}
	return records
}

func pointer(s string) *string { return &s }

// settleNulls keeps records without a key or a value from moving time: here what is due
// goes out with them, and in Kafka Streams with the next record (DESIGN section 4,
// idle input).
func settleNulls(records []Input) {
	newest := int64(0)
	for i := range records {
		r := &records[i]
		if r.Key == nil || r.Value == nil {
			r.TS = min(r.TS, newest)
		}
		newest = max(newest, r.TS)
	}
}
