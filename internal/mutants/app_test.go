package mutants

// app are faults of what is around the engines: the app, its views, user functions.
var app = []mutant{
	{
		name: "the state directory is closed under a reader",
		file: "app.go",
		old: `	if err != nil {
		return fmt.Errorf("tailrace: a view is still`,
		new: `	if err != nil {
		return dir.Close()
	}
	if err != nil {
		return fmt.Errorf("tailrace: a view is still`,
		pkg: ".", test: "TestReaderOutlastsTheApp", sees: `panic: pebble: closed`,
	},
	{
		name: "databases are read as they come",
		file: "internal/engine/commitorder.go",
		old:  `				expected = expected || !o.ahead.quiet`,
		new:  `				expected = false`,
		pkg:  "./internal/engine", test: "TestTransactionsOfSeveralDatabases", sees: `took [^\n]*want[^\n]*`,
	},
	{
		name: "what a table was is not compared at the start",
		file: "internal/engine/shapes.go",
		old:  `	if len(r.committed) > 0 {`,
		new:  `	if false {`,
		pkg:  "./internal/apptest", test: "TestAlteredTable", sees: `does not come: the topology to be held`,
	},
	{
		name: "a relation is not compared with what the session was opened with",
		file: "sources/table.go",
		old:  `	if err := stillAs(rel, r.request); err != nil {`,
		new:  `	if err := stillAs(rel, r.request); false {`,
		pkg:  "./internal/apptest", test: "TestAlteredBeforeRows",
		sees: `[^\n]*the view shows rows from after the change`,
	},
	{
		name: "who has joined goes on with a session from before",
		file: "internal/engine/admit.go",
		old:  `	return e.reopenOlder(ctx, j.runs)`,
		new:  `	return nil`,
		pkg:  "./internal/apptest", test: "TestMigrationDuringJoin", sees: `second-view: \d+, SQL \d+`,
	},
	{
		name: "streams that are divided leave their order",
		file: "operators/stateless.go",
		old:  `		inOrder(o.out)`,
		new:  `		inOrder(o.out[:0])`,
		pkg:  "./operators", test: "TestMergesOfMerges", sees: `[^\n]*record 0 of row 0 comes after[^\n]*`,
	},
	{
		name: "panics have no place",
		file: "topology/panic.go",
		old:  `At: userFrame(string(stack))`,
		new:  `At: userFrame("")`,
		pkg:  "./internal/apptest", test: "TestFailingFunction", sees: `[^\n]*_test.go:\d+: [^\n]*panic[^\n]*`,
	},
	{
		name: "a walk over an ordered store goes on where one before it ended",
		file: "operators/processstores.go",
		old:  `at := from // a second walk begins anew`,
		new:  `at := from; defer func() { from = at }()`,
		pkg:  "./operators", test: "TestOrderedStoreIsWalkedTwice", sees: `it counts [^\n]*`,
	},
	{
		name: "inputs whose ends are not known hold nobody back",
		file: "internal/engine/kafka/merge.go",
		old:  `r.asked && b.polled >= b.stable`,
		new:  `b.polled >= b.stable`,
		pkg:  "./internal/engine/kafka", test: "TestNextInputWaits", sees: `nothing is known of rows[^\n]*`,
	},
	{
		name: "the marks of a watch do not name the commit",
		file: "view/moment.go",
		old:  `return p.String() + "#" + strconv.FormatUint(p.Seq, 10)`,
		new:  `return p.String() + "#" + strconv.FormatUint(min(p.Seq, 6), 10)`,
		pkg:  "./view", test: "TestHTTP/watching", sees: `event: reset`,
	},
}
