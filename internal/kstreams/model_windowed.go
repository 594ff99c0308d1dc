package kstreams

import (
	"cmp"
	"math"
	"slices"
)

// windowModel computes the windowed aggregate of a stream, or of several that are
// co-grouped, from lists of records: what is right, whatever Kafka Streams does.
type windowModel struct {
	c      *Case
	n      *Node
	time   int64
	groups map[string]*windowGroup
	out    []Output
	fnOf   map[string]string // aggregator by topic
	// timeOf is stream time by topic, where each input has its own, as those of a cogroup
	// in Kafka Streams; nil: there is one.
	timeOf map[string]int64
}

// windowGroup is what the model knows of one key.
type windowGroup struct {
	key string
	// taken are the records of the key that were not late, in order of arrival.
	taken []contributed
	// rows are the windows that there are: with their records, and what was put out.
	rows map[[2]int64]*windowRow
}

type contributed struct {
	value Text
	ts    int64
	fn    string
}

type windowRow struct {
	window  [2]int64
	records []contributed
	// sessions: part of another one by now.
	gone bool
	done bool
}

// modelWindows computes node n of c, an aggregate or cogroup over windows whose inputs
// are sources.
func modelWindows(c *Case, n *Node) *Result { return newWindowModel(c, n).run() }

func newWindowModel(c *Case, n *Node) *windowModel {
	m := &windowModel{
		c: c, n: n, time: math.MinInt64, groups: map[string]*windowGroup{}, fnOf: map[string]string{},
	}
	for i, id := range n.In {
		m.fnOf[c.Node(id).Topic] = n.Fn
		if len(n.Fns) > i {
			m.fnOf[c.Node(id).Topic] = n.Fns[i]
		}
	}
	return m
}

func (m *windowModel) run() *Result {
	r := &Result{}
	for i := range m.c.Records {
		m.take(&m.c.Records[i])
		r.Steps = append(r.Steps, m.out)
		m.out = nil
	}
	return r
}

func (m *windowModel) take(in *Input) {
	before := m.time
	m.time = max(m.time, in.TS)
	if m.timeOf != nil {
		at, ok := m.timeOf[in.Topic]
		if before = at; !ok {
			before = math.MinInt64
		}
		m.timeOf[in.Topic] = max(before, in.TS)
	}
	key := textOf(in.Key)
	if m.n.By != "" {
		key = keyOf(m.n.By, key, textOf(in.Value))
	}
	if key.Valid && (in.Value != nil || m.n.Window.Kind != "sliding") {
		g := m.groups[key.V]
		if g == nil {
			g = &windowGroup{key: key.V, rows: map[[2]int64]*windowRow{}}
			m.groups[key.V] = g
		}
		x := contributed{value: textOf(in.Value), ts: in.TS, fn: m.fnOf[in.Topic]}
		switch m.n.Window.Kind {
		case "sliding":
			m.slide(g, x, before)
		case "session":
			m.session(g, x, before)
		default:
			m.hop(g, x, before)
		}
	}
	m.close()
}

// open reports whether a window takes records at a stream time.
func (m *windowModel) open(w [2]int64, at int64) bool {
	switch grace := m.n.Window.Grace; m.n.Window.Kind {
	case "sliding":
		return w[1]+grace >= at
	case "session":
		return w[1]+m.n.Window.Size+grace >= at
	default:
		return w[1]+grace > at
	}
}

func (m *windowModel) hop(g *windowGroup, x contributed, before int64) {
	size, advance := m.n.Window.Size, m.n.Window.Advance
	if m.n.Window.Kind == "tumbling" {
		advance = size
	}
	for start := int64(0); start <= x.ts; start += advance {
		w := [2]int64{start, start + size}
		if x.ts >= w[1] || !m.open(w, before) {
			continue
		}
		r := g.row(w)
		r.records = append(r.records, x)
		m.update(g, r)
	}
}

func (g *windowGroup) row(w [2]int64) *windowRow {
	r := g.rows[w]
	if r == nil {
		r = &windowRow{window: w}
		g.rows[w] = r
	}
	return r
}

// slide takes a record that lies in a window that is open, or may come to: then each
// open window, of those that there are and those that the records make, holds all
// records that lie in it.
func (m *windowModel) slide(g *windowGroup, x contributed, before int64) {
	d := m.n.Window.Size
	if !m.open([2]int64{x.ts, x.ts + d}, before) {
		return
	}
	g.taken = append(g.taken, x)
	for _, p := range g.taken {
		for _, w := range [][2]int64{{max(0, p.ts-d), max(d, p.ts)}, {p.ts + 1, p.ts + 1 + d}} {
			if w[0] > x.ts || w[1] < x.ts || !m.open(w, before) {
				m.rightOf(g, x, w, before)
				continue
			}
			if p.ts+1 == w[0] && !holds(g, w) && g.rows[w] == nil {
				continue
			}
			m.fill(g, w)
		}
	}
}

// rightOf fills the window right behind the new record, if there is something in it.
func (m *windowModel) rightOf(g *windowGroup, x contributed, w [2]int64, before int64) {
	if w[0] == x.ts+1 && g.rows[w] == nil && m.open(w, before) && holds(g, w) {
		m.fill(g, w)
	}
}

func holds(g *windowGroup, w [2]int64) bool {
	return slices.ContainsFunc(g.taken, func(c contributed) bool { return w[0] <= c.ts && c.ts <= w[1] })
}

// fill puts all records that lie in a window into it.
func (m *windowModel) fill(g *windowGroup, w [2]int64) {
	r := g.row(w)
	before := len(r.records)
	r.records = nil
	for _, c := range g.taken {
		if w[0] <= c.ts && c.ts <= w[1] {
			r.records = append(r.records, c)
		}
	}
	if len(r.records) != before {
		m.update(g, r)
	}
}

func (m *windowModel) session(g *windowGroup, x contributed, before int64) {
	gap := m.n.Window.Size
	if !m.open([2]int64{x.ts, x.ts}, before) && !m.extends(g, x, before) {
		return
	}
	w := [2]int64{x.ts, x.ts}
	var found []*windowRow
	for _, r := range g.sessions() {
		if !r.gone && m.open(r.window, before) && r.window[0] <= x.ts+gap && r.window[1] >= x.ts-gap {
			found = append(found, r)
			w = [2]int64{min(w[0], r.window[0]), max(w[1], r.window[1])}
		}
	}
	var records []contributed
	for _, r := range found {
		records = append(records, r.records...)
		r.gone = true
		delete(g.rows, r.window)
		if !m.n.Close && r.window != w {
			m.put(g, r, nil, r.window[1])
		}
	}
	r := &windowRow{window: w, records: append(records, x)}
	g.rows[w] = r
	m.update(g, r)
}

// extends reports whether a record that would be late by itself lies close to an open
// session.
func (m *windowModel) extends(g *windowGroup, x contributed, before int64) bool {
	for _, r := range g.rows {
		if m.open(r.window, before) && r.window[0] <= x.ts+m.n.Window.Size && r.window[1] >= x.ts-m.n.Window.Size {
			return true
		}
	}
	return false
}

// sessions are a group's rows by time.
func (g *windowGroup) sessions() []*windowRow {
	var all []*windowRow
	for _, r := range g.rows {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *windowRow) int {
		return cmp.Or(cmp.Compare(a.window[1], b.window[1]), cmp.Compare(a.window[0], b.window[0]))
	})
	return all
}

// update puts out a window that changed, unless that waits for its close.
func (m *windowModel) update(g *windowGroup, r *windowRow) {
	if m.n.Close {
		return
	}
	m.emit(g, r)
}

func (m *windowModel) emit(g *windowGroup, r *windowRow) {
	agg, at := initial(r.records[0].fn), r.records[0].ts
	if len(m.n.Fns) > 0 {
		agg = initial(m.n.Fns[0])
	}
	for i, x := range r.records {
		at = max(at, x.ts)
		if i == 0 && m.n.Kind == "reduce" {
			agg = printed(x.value)
			continue
		}
		agg = add(x.fn, agg, x.value)
	}
	if m.n.Window.Kind == "session" {
		at = r.window[1]
	}
	m.put(g, r, &agg, at)
}

func (m *windowModel) put(g *windowGroup, r *windowRow, value *string, at int64) {
	w := r.window
	m.out = append(m.out, Output{Node: m.n.ID, Key: &g.key, Window: &w, Value: value, TS: at})
}

// close puts out what has closed, if that is what is asked for.
func (m *windowModel) close() {
	if !m.n.Close {
		return
	}
	for _, key := range sortedKeys(m.groups) {
		for _, r := range m.groups[key].sessions() {
			if !r.done && !m.open(r.window, m.time) {
				r.done = true
				m.emit(m.groups[key], r)
			}
		}
	}
}
