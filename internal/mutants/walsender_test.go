package mutants

// scripted are faults of direct mode that its simulation finds.
var scripted = []mutant{
	scriptedIn("the slot is acknowledged before the state is durable",
		"internal/engine/commit.go",
		`	f.computed, f.frontier = time.Now(), e.frontier()
`,
		`	f.computed, f.frontier = time.Now(), e.frontier()
	for _, d := range e.databases {
		if d.session != nil {
			d.session.Ack(f.frontier[d.name])
		}
	}
`),
	scriptedIn("rows of subtransactions that were rolled back stay",
		"sources/postgres/spool.go",
		"if y.p.gone.has(subxid) && ",
		"if y.p.gone.has(subxid) && false && "),
	scriptedIn("what a lost connection left of a transaction stays",
		"sources/postgres/assemble.go",
		"		a.cur.dropTail()\n",
		""),
	scriptedIn("who was sent a transaction again takes it again",
		"sources/postgres/assemble.go",
		"	a.skip = m.CommitLSN < a.from",
		"	a.skip = false"),
	scriptedIn("a transaction right behind the position is skipped",
		"sources/postgres/assemble.go",
		"	a.skip = m.CommitLSN < a.from",
		"	a.skip = m.CommitLSN <= a.from"),
	scriptedIn("a queue is trimmed before its target has the rows",
		"internal/engine/target.go",
		`		err = w.Apply(ctx, epochs)
		snap.Close()
`,
		`		if err := e.taken(t, epochs[len(epochs)-1].Seq); err != nil {
			return storage(err)
		}
		err = w.Apply(ctx, epochs)
		snap.Close()
`),
	scriptedIn("the state directory's name is not synced",
		"state/dir.go",
		"	return errors.Join(dir.Sync(), dir.Close())",
		"	return dir.Close()"),
	scriptedIn("a commit is not synced",
		"state/pebble.go",
		`	durable = func() error { return pb.write(pb.batch.SyncWait) }
	return durable, pb.write(func() error { return p.db.ApplyNoSyncWait(pb.batch, pebble.Sync) })
`,
		`	durable = func() error { return nil }
	return durable, pb.write(func() error { return p.db.Apply(pb.batch, pebble.NoSync) })
`),
	scriptedIn("large values that were left alone are lost",
		"sources/table.go",
		`	ev.New = ev.Old
	if err := t.bound.value.Decode(&ev.New, row.New); err != nil {
`,
		`	if err := t.bound.value.Decode(&ev.New, row.New); err != nil {
`),
}

// scriptedIn is a mutant of direct mode.
func scriptedIn(name, file, old, new string) mutant {
	return mutant{
		name: "simulated: " + name, file: file, old: old, new: new,
		pkg: "./internal/sim", test: "TestSimDirect", sees: `direct mode, seed \d+: `,
		env: []string{"TAILRACE_SIM_SEEDS=2000"},
	}
}
