package mutants

// simulated are faults of Kafka mode that the simulation finds.
var simulated = []mutant{
	simulatedIn("state is applied before its transaction has committed",
		"internal/engine/kafka/commit.go", `	committed, err := e.session.Commit(end, offsets)
`, `	if err := e.session.Client().Flush(end); err != nil {
		return e.giveUp(ctx, err)
	}
	if err := e.apply(work, nil); err != nil {
		return err
	}
	committed, err := e.session.Commit(end, offsets)
`),
	simulatedIn("restoring ends at the last stable offset",
		"internal/kafka/log.go", `listOffsets(ctx, l.cl, parts, committedOrNot,`,
		`listOffsets(ctx, l.cl, parts, committedOnly,`),
	simulatedIn("offsets after an abort come from memory",
		"internal/kafka/rewind.go", `if now[p].Next != o.Next {`, `if false {`),
	simulatedIn("a record that was not written does not keep a transaction from committing",
		"internal/kafka/session.go", `	if failed != nil {
`, `	if false {
`),
	simulatedIn("after an abort the client goes on where it was",
		"internal/kafka/rewind.go", `	s.gts.Client().SetOffsets(set)
`, ``),
	simulatedIn("the ends of transactions are not read",
		"internal/kafka/session.go", `kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),`,
		`kgo.FetchIsolationLevel(kgo.ReadCommitted()),`),
	simulatedIn("all that was polled is committed",
		"internal/engine/kafka/commit.go", `			o.Metadata = s.metadata
`, `			o.Metadata, o.Next = s.metadata, max(o.Next, b.polled)
`),
	simulatedIn("checkpoint and state are two batches",
		"internal/engine/kafka/commit.go", `		if err := e.noteCheckpoint(batch, s.run); err != nil {
			return err
		}
`, `		first := e.cfg.Dir.DB.NewBatch()
		if err := e.noteCheckpoint(first, s.run); err != nil {
			return err
		}
		if err := e.cfg.Dir.DB.Commit(first, true); err != nil {
			return err
		}
`),
	simulatedIn("what is handed over does not wait for the topic",
		"internal/engine/kafka/handover.go", `b.handover.until = ends[b.partition]`,
		`b.handover.until = ends[b.partition] * 0`),
	simulatedIn("a task begins with what is on the disk",
		"changelog/restore.go", `at.Next < run.stores[at.Partition].target {`, `at.Next < 0 {`),
	simulatedIn("what was polled outlives an abort",
		"internal/engine/kafka/task.go", `	for _, b := range r.all {
		b.reset()
	}
`, ``),
	simulatedIn("restoring takes what was given up",
		"internal/kafka/batches.go", `len(aborted) > 0 && first >= aborted[0]`, `len(aborted) > 0 && first < 0`),
}

// simulatedIn is a mutant of Kafka mode.
func simulatedIn(name, file, old, new string) mutant {
	return mutant{
		name: name, file: file, old: old, new: new,
		pkg: "./internal/sim", test: "TestSim", sees: `seed \d+: `,
		tags: "synctests", env: []string{"TAILRACE_SIM_SEEDS=2000", "GOMAXPROCS=1"},
	}
}
