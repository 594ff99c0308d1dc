package mutants

import "slices"

// operators are faults of operators, at least one a family. Most are found by the comparison
// with Kafka Streams.
var operators = slices.Concat(differing, []mutant{
	{
		name: "an unreferenced row shows while it is referred to",
		file: "operators/outerjoinforeignkey.go", old: "if !hasR || referenced {", new: "if !hasR {",
		pkg: "./internal/sqloracle", test: "TestTablesEqualSQL", sees: `outer foreign-key join:`,
	},
	{
		name: "a table's rows are in the windows of their events",
		file: "operators/window.go", old: "time = record.Micros(at)", new: "_ = record.Micros(at)",
		pkg: "./internal/sqloracle", test: "TestTablesEqualSQL", sees: `(tumbling|hopping|days):`,
	},
	{
		name: "a row that leaves a partition stays there",
		file: "topology/exchangetable.go", old: "return yield(from, &older) && yield(to, &newer)",
		new: "return yield(to, &newer)",
		pkg: "./internal/kstreams", test: "TestPartitions/table-aggregate", sees: `case \d+, [^\n]*`,
	},
	{
		name: "ids do not outlive a crash",
		file: "operators/deduplicate.go", old: "rt.Register(d.passed)", new: "_ = rt.Register",
		pkg: "./internal/kstreams", test: "TestCrashes/deduplicate", sees: `case \d+ in [^\n]*`,
	},
	{
		name: "a row that waits for an answer shows without",
		file: "operators/foreignkeyanswers.go", old: "return j.eachLeft(j.wait)", new: "return nil",
		pkg: "./operators", test: "TestForeignKeyAnsweredLater", sees: `is seen without what it refers to`,
	},
	{
		name: "an answer is taken that is stale",
		file: "operators/foreignkeyanswers.go", old: "if !refers || f != c.New.About {", new: "if !refers {",
		pkg: "./operators", test: "TestForeignKeyAnsweredLater", sees: `is joined with`,
	},
	{
		name: "a row ends by its older version's time",
		file: "operators/ttl.go", old: "if old != nil {", new: "if old != nil && *old < 0 {",
		pkg: "./operators", test: "TestTTL", sees: `--- FAIL: TestTTL`,
	},
	{
		name: "merged records come input by input",
		file: "operators/merge.go", old: "inOrder(m.out)", new: "inOrder(m.out[:0])",
		pkg: "./operators", test: "TestRandomStreams|ExampleMerge", sees: `--- FAIL: [^\n]*`,
	},
})

// differing are found as differences from Kafka Streams.
var differing = []mutant{
	{
		name: "a table's filter keeps rows that no longer fit",
		file: "operators/filter.go", old: "if has&record.HasNew != 0 && f.keepRow(key, *newer) {",
		new: "if has&record.HasNew != 0 {",
		pkg: "./internal/kstreams", test: "TestFuzz/table-stateless", sees: differs,
	},
	{
		name: "split gives a record to each branch that takes it",
		file: "operators/split.go", old: "if other.When == nil || other.When(k, v) {",
		new: "if other.When == nil {",
		pkg: "./internal/kstreams", test: "TestFuzz/stateless", sees: differs,
	},
	{
		name: "a stream's table does not note when rows came",
		file: "operators/convert.go", old: "t.Put(r.Key, r.Value, r.Time)",
		new: "t.Put(r.Key, r.Value, 0)",
		pkg: "./internal/kstreams", test: "TestFuzz/to-table", sees: differs,
	},
	{
		name: "a join has its left side's time",
		file: "operators/join.go", old: "return max(l.Time, r.Time)",
		new: "return l.Time",
		pkg: "./internal/kstreams", test: "TestFuzz/table-join-inner", sees: differs,
	},
	{
		name: "a join of three does without a side",
		file: "operators/joinsides.go", old: "!hasC && !c.optional ||",
		new: "false ||",
		pkg: "./internal/kstreams", test: "TestFuzz/join-of-three", sees: differs,
	},
	{
		name: "a row stays where it referred to",
		file: "operators/foreignkeys.go", old: "if err := x.index.Delete(x.indexKey(oldFK, c.Key)); err != nil {",
		new: "if err := error(nil); err != nil {",
		pkg: "./internal/kstreams", test: "TestFuzz/foreign-key-inner", sees: differs,
	},
	{
		name: "a join of two foreign keys does without the second",
		file: "operators/joinforeignkeys.go", old: "!hasR && !second.optional {",
		new: "false {",
		pkg: "./internal/kstreams", test: "TestFuzz/two-foreign-keys", sees: differs,
	},
	{
		name: "rows do not leave their groups",
		file: "operators/aggregation.go", old: "err = g.acc.Remove(a.entries, c.id, c.value)",
		new: "err = nil",
		pkg: "./internal/kstreams", test: "TestFuzz/table-aggregate", sees: differs,
	},
	{
		name: "groups of a stream have no time",
		file: "operators/groupby.go", old: "add: true, time: r.Time, tag: &r.Tag}",
		new: "add: true, tag: &r.Tag}",
		pkg: "./internal/kstreams", test: "TestFuzz/stream-aggregate", sees: differs,
	},
	{
		name: "closed windows take records",
		file: "operators/window.go", old: "if w.closes && windows.Closed(w.window, win, streamTime) {",
		new: "if w.closes && win.Start == 1 && windows.Closed(w.window, win, streamTime) {",
		pkg: "./internal/kstreams", test: "TestFuzz/hopping", sees: differs,
	},
	{
		name: "a new sliding window takes what is near",
		file: "operators/windowsliding.go", old: "if !holds(win, r.time) {",
		new: "if r.time < 0 {",
		pkg: "./internal/kstreams", test: "TestFuzz/sliding", sees: differs,
	},
	{
		name: "a session ends before its gap does",
		file: "operators/windowsession.go", old: "if f.Start > w.around.End {",
		new: "if f.Start >= w.around.End {",
		pkg: "./internal/kstreams", test: "TestFuzz/session", sees: differs,
	},
	{
		name: "windows that close in a jump of time are lost",
		file: "operators/timedaggregation.go", old: `	if t.onClose {
		v, err`,
		new: `	if t.onClose && now-at < 10 {
		v, err`,
		pkg: "./internal/kstreams", test: "TestFuzz/tumbling-close", sees: differs,
	},
	{
		name: "what a cogroup takes has no time",
		file: "operators/cogroup.go", old: "add: true, time: r.time, tag: &r.tag}",
		new: "add: true, tag: &r.tag}",
		pkg: "./internal/kstreams", test: "TestFuzz/cogroup", sees: differs,
	},
	{
		name: "what is suppressed waits too long",
		file: "operators/suppress.go", old: "w.Due = addSpan(c.Time, t.limit)",
		new: "w.Due = addSpan(c.Time, t.limit+1)",
		pkg: "./internal/kstreams", test: "TestFuzz/suppress-limit", sees: differs,
	},
	{
		name: "a window goes out after it has closed",
		file: "operators/suppress.go", old: "closes := t.definition.Closes(c.Key.Window)",
		new: "closes := t.definition.Closes(c.Key.Window) + 1",
		pkg: "./internal/kstreams", test: "TestFuzz/suppress-close", sees: differs,
	},
	{
		name: "a join of streams takes what is late",
		file: "operators/joinwindow.go", old: "case j.left.window.Late(r.Time, j.before):",
		new: "case j.left.window.Late(r.Time, j.before) && r.Time < 0:",
		pkg: "./internal/kstreams", test: "TestFuzz/stream-join-left", sees: differs,
	},
	{
		name: "a record meets itself before others of its time",
		file: "operators/joinself.go", old: "if at > j.r.Time {",
		new: "if at >= j.r.Time {",
		pkg: "./internal/kstreams", test: "TestFuzz/stream-self-join", sees: differs,
	},
	{
		name: "an enriched record has its row's time",
		file: "operators/enrich.go", old: "Value: o, Time: r.Time, Tag: r.Tag",
		new: "Value: o, Time: max(r.Time, row.Time), Tag: r.Tag",
		pkg: "./internal/kstreams", test: "TestFuzz/stream-table-inner", sees: differs,
	},
	{
		name: "a row is there that is not",
		file: "operators/enrich.go", old: "row.New, row.HasNew())",
		new: "row.New, true)",
		pkg: "./internal/kstreams", test: "TestFuzz/stream-global-inner", sees: differs,
	},
	{
		name: "a version holds from after its time on",
		file: "operators/versioned.go", old: "newest.Time <= at {",
		new: "newest.Time < at {",
		pkg: "./internal/kstreams", test: "TestFuzz/versioned-stream-inner", sees: differs,
	},
	{
		name: "a late version becomes the newest",
		file: "operators/versioned.go", old: "if newest.HasNew() && c.Time < newest.Time {",
		new: "if newest.HasNew() && c.Time < newest.Time-100 {",
		pkg: "./internal/kstreams", test: "TestFuzz/versioned-join-inner", sees: differs,
	},
	{
		name: "a record waits longer than its grace",
		file: "operators/enrichasof.go", old: "due -= w.grace",
		new: "due -= w.grace + 1",
		pkg: "./internal/kstreams", test: "TestFuzz/versioned-grace-inner", sees: differs,
	},
	{
		name: "a timer has the time that it fires at",
		file: "operators/process.go", old: "c.time, c.index, c.tag.Path = at, 0,",
		new: "c.time, c.index, c.tag.Path = now, 0,",
		pkg: "./internal/kstreams", test: "TestFuzz/process", sees: differs,
	},
	{
		name: "timers are forgotten in a restart",
		file: "operators/timers.go", old: "floor: math.MinInt64}",
		new: "floor: math.MaxInt64}",
		pkg: "./internal/kstreams", test: "TestFuzz/process", sees: differs,
	},
	{
		name: "ids are forgotten too early",
		file: "operators/deduplicate.go", old: "d.window.Mirror().Expires(r.Time), d.key",
		new: "r.Time+1, d.key",
		pkg: "./internal/kstreams", test: "TestFuzz/deduplicate", sees: differs,
	},
}

const differs = `after input [^\n]*`
