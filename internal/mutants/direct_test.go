package mutants

// direct are faults of direct mode: of transactions, commits and targets.
var direct = []mutant{
	{
		name: "commits inside of transactions",
		file: "internal/engine/loop.go",
		old: `		if err := e.feedPiece(d, p); err != nil {
			return e.recover(ctx, err)
		}
`,
		new: `		for rest := p.Rows; len(rest) > 1 && !p.Tx.Snapshot; {
			some := sources.TxRows{Tx: p.Tx, Rows: rest[:(len(rest)+9)/10]}
			rest = rest[len(some.Rows):]
			p.Rows = rest
			if err := e.feedPiece(d, &some); err != nil {
				return e.recover(ctx, err)
			}
			for _, r := range d.runs {
				if err := r.task.Step(); err != nil {
					return err
				}
			}
			if err := e.writeCommit(ctx); err != nil {
				return err
			}
			for _, r := range d.runs {
				if r.takes {
					r.task.Begin(p.Tx)
				}
			}
		}
		if err := e.feedPiece(d, p); err != nil {
			return e.recover(ctx, err)
		}
`,
		pkg: "./internal/apptest", test: "TestNeverTorn", sees: `torn: [^\n]*`,
	},
	{
		name: "steps end where pieces of transactions do",
		file: "internal/task/feed.go",
		old: `			if err := t.feed(i, tx, rows[from:to]); err != nil {
				return err
			}
		}
`,
		new: `			if err := t.feed(i, tx, rows[from:to]); err != nil {
				return err
			}
		}
		if err := t.Step(); err != nil {
			return err
		}
`,
		pkg: "./internal/apptest", test: "TestWorkIsCutAnyWay", sees: `events differ[^\n]*`,
	},
	{
		name: "a queue is trimmed before its target has the rows",
		file: "internal/engine/target.go",
		old: `		err = w.Apply(ctx, epochs)
		snap.Close()
`,
		new: `		if err := e.taken(t, epochs[len(epochs)-1].Seq); err != nil {
			return storage(err)
		}
		err = w.Apply(ctx, epochs)
		snap.Close()
`,
		pkg: "./internal/crash", test: "TestCrash", sees: `[^\n]*(SQL has|it took epoch|lost \")[^\n]*`,
	},
	{
		name: "the slot is acknowledged before the state is durable",
		file: "internal/engine/commit.go",
		old: `	f.computed, f.frontier = time.Now(), e.frontier()
`,
		new: `	f.computed, f.frontier = time.Now(), e.frontier()
	for _, d := range e.databases {
		if d.session != nil {
			d.session.Ack(f.frontier[d.name])
		}
	}
`,
		pkg: "./internal/crash", test: "TestCrash", sees: `[^\n]*the slot confirms[^\n]*`,
	},
	{
		name: "a newcomer leaves its slot",
		file: "internal/engine/ownslot.go", old: "err := e.dropOwnSlots(cleanup, d, runs[:1]); err != nil {",
		new: "err := cleanup.Err(); err != nil {",
		pkg: "./internal/crash", test: "TestCrash", sees: `[^\n]*slots of newcomers are left`,
	},
	{
		name: "a stream is tried again without end",
		file: "sources/postgres/session.go", old: "if err = again.judge(err, s.received.Load()); !transient(err) {",
		new: "if _ = again; !transient(err) {",
		pkg: "./sources/postgres", test: "TestNoRoomForAnOpenTransaction", sees: `it was tried again \d+ times`,
	},
	{
		name: "a stream ends though it gets on",
		file: "sources/postgres/errors.go", old: "case malformed && received != r.at:",
		new: "case malformed && received < r.at:",
		pkg: "./sources/postgres", test: "TestRepeatedFailures", sees: `attempt 3: [^\n]*`,
	},
}
