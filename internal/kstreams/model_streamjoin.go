package kstreams

import (
	"cmp"
	"math"
	"slices"
)

// joinDefects are the ways in which Kafka Streams' join of streams goes wrong. All
// false is right; all true is what Kafka Streams 4.3.1 does.
type joinDefects struct {
	// lateAlone: a record that comes within grace but behind the end of its window, and
	// finds no partner, goes out without one at once (KAFKA-19536).
	lateAlone bool
	// takesLate: a record beyond grace is taken (KAFKA-16123).
	takesLate bool
	// expires: a store forgets records that could still be joined: those that are
	// before+after+grace old, by the time of their own side.
	expires bool
	// waits: records without a partner go out later than their window closes: only with a
	// record that has the newest time, a key and a value, and not before the newest of
	// those that wait would go out. One that has waited too long finds a partner.
	waits bool
}

// streamJoin is a model of a join of two streams, with slices and no engine.
type streamJoin struct {
	node    *Node
	defects joinDefects
	time    int64
	kept    [2][]kept // left and right, as they came
	oldest  [2]int64  // newest time of each side
	waiting []kept
	minTime int64
	out     []Output
}

type kept struct {
	side  int
	key   string
	value Text
	ts    int64
}

// modelStreamJoin computes a join of two streams l and r, which may be the same one.
func modelStreamJoin(c *Case, n *Node, d joinDefects) *Result {
	j := &streamJoin{node: n, defects: d, time: math.MinInt64, minTime: math.MaxInt64}
	j.oldest = [2]int64{math.MinInt64, math.MinInt64}
	r := &Result{}
	left := c.Node(n.In[0]).Topic
	for i := range c.Records {
		in := &c.Records[i]
		side := 1
		if in.Topic == left {
			side = 0
		}
		j.take(side, in)
		if n.In[0] == n.In[1] {
			j.take(1, in)
		}
		r.Steps = append(r.Steps, j.out)
		j.out = nil
	}
	return r
}

// reach is how far before and after a record of a side its partners lie.
func (j *streamJoin) reach(side int) (before, after int64) {
	w := j.node.Window
	if side == 0 {
		return w.Before, w.After
	}
	return w.After, w.Before
}

// keeps reports whether records of a side go out without a partner.
func (j *streamJoin) keeps(side int) bool {
	return j.node.Kind == "outer" || j.node.Kind == "left" && side == 0
}

func (j *streamJoin) take(side int, in *Input) {
	x := kept{side: side, value: textOf(in.Value), ts: in.TS}
	before := j.time
	j.time = max(j.time, x.ts)
	if in.Key == nil && in.Value != nil && j.keeps(side) {
		j.alone(x, true)
	}
	if in.Key != nil {
		j.oldest[side] = max(j.oldest[side], x.ts)
	}
	if in.Key == nil || in.Value == nil {
		j.expireAlone(side)
		return
	}
	x.key = *in.Key
	back, ahead := j.reach(side)
	if !j.defects.takesLate && x.ts+max(ahead, 0)+j.node.Window.Grace < before {
		return
	}
	j.keep(x)
	if !j.defects.waits || x.ts == j.time {
		j.release(side)
	}
	found := j.pair(x, max(0, x.ts-back), max(0, x.ts+ahead))
	switch {
	case found || !j.keeps(side):
	case j.defects.lateAlone && max(0, x.ts+ahead) < j.time:
		j.alone(x, false)
	default:
		j.minTime = min(j.minTime, x.ts)
		j.waiting = append(j.waiting, x)
		if !j.defects.waits {
			j.release(side)
		}
	}
}

// expireAlone lets out what is due on a record that is not joined itself.
func (j *streamJoin) expireAlone(side int) {
	if !j.defects.waits {
		j.release(side)
	}
}

func (j *streamJoin) keep(x kept) {
	if !j.defects.expires || x.ts > j.oldest[x.side]-j.retention() {
		j.kept[x.side] = append(j.kept[x.side], x)
	}
}

func (j *streamJoin) retention() int64 {
	return j.node.Window.Before + j.node.Window.After + j.node.Window.Grace
}

// pair joins a record with those of the other side, in order of time and arrival.
func (j *streamJoin) pair(x kept, from, to int64) bool {
	other := 1 - x.side
	var partners []kept
	for _, y := range j.kept[other] {
		expired := j.defects.expires && y.ts <= j.oldest[other]-j.retention()
		if y.key == x.key && from <= y.ts && y.ts <= to && !expired {
			partners = append(partners, y)
		}
	}
	slices.SortStableFunc(partners, func(a, b kept) int { return cmp.Compare(a.ts, b.ts) })
	for _, y := range partners {
		j.waiting = slices.DeleteFunc(j.waiting, func(w kept) bool {
			return w.side == y.side && w.key == y.key && w.ts == y.ts
		})
		l, r := x, y
		if x.side == 1 {
			l, r = y, x
		}
		j.put(x.key, joined(l.value, r.value), max(x.ts, y.ts))
	}
	return len(partners) > 0
}

func (j *streamJoin) put(key string, value Text, ts int64) {
	j.out = append(j.out, Output{Node: j.node.ID, Key: &key, Value: &value.V, TS: ts})
}

func (j *streamJoin) alone(x kept, nullKey bool) {
	value := joined(x.value, Text{})
	if x.side == 1 {
		value = joined(Text{}, x.value)
	}
	j.put(x.key, value, x.ts)
	if nullKey {
		j.out[len(j.out)-1].Key = nil
	}
}

// release lets out what has waited until its window closed, by time, then right before
// left, then key.
func (j *streamJoin) release(side int) {
	grace := j.node.Window.Grace
	if _, ahead := j.reach(side); j.defects.waits && j.minTime != math.MaxInt64 &&
		j.minTime+ahead+grace >= j.time {
		return
	}
	slices.SortStableFunc(j.waiting, func(a, b kept) int {
		return cmp.Or(cmp.Compare(a.ts, b.ts), cmp.Compare(b.side, a.side), cmp.Compare(a.key, b.key))
	})
	j.minTime = math.MaxInt64
	var open [2]bool
	var rest []kept
	for i, x := range j.waiting {
		j.minTime = x.ts
		if open[0] && open[1] {
			rest = append(rest, j.waiting[i:]...)
			break
		}
		if _, ahead := j.reach(x.side); x.ts+ahead+grace >= j.time {
			open[x.side] = true
			rest = append(rest, x)
			continue
		}
		j.alone(x, false)
	}
	j.waiting = rest
}
