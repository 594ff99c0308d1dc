// Package sim runs Kafka mode in simulation: members of a group, a cluster (kfake over its
// virtual network) and disks that can crash (Pebble on a vfs.CrashableMem), in one process and
// in virtual time (testing/synctest). What they run and what happens to them, a seed chooses:
// a topology, partitions, members, the form of the records, and a schedule of faults, each of
// which happens at the n-th occasion after so many events, never at a time. In the end all that
// the members have written is compared with what an oracle makes of the input topics: outputs
// as a reader of committed records sees them, views, and the views of a member that has nothing
// but the changelogs.
//
// A failure names the seed and its schedule. Goroutines are not scheduled by the seed, so that
// a seed that has failed may have to be run some more times, on one core, until it fails again:
//
//	make sim SEEDS=1 FIRST=1411
//	TAILRACE_SIM_LOG=1 make sim SEEDS=1 FIRST=1411	# with what the members log
//	TAILRACE_SIM_TRACE=1 make sim                 	# each seed's plan before it runs
//
// The Kafka client needs the build tag synctests: with it its locks let virtual time go on.
//
// What kfake does otherwise than Kafka, and what is left out here for it: transactions end in
// one step, so that no marker comes late; leaders do not move, as kfake does not know where
// older epochs ended; compaction moves the beginning of a log, so that state may be given up
// as out of range; a group miscounts who has joined, and loses members that wait for the
// others, so that members tell it to wait for seconds only; and it never drops a member whose
// JoinGroup it cannot answer, so that brokers learn late that a connection is gone over which
// one came.
//
// Direct mode is simulated as well, against a server of PostgreSQL's protocol in memory
// (walsender, whose comment says what of a server it is), and a target in memory whose writes
// are atomic. A seed chooses transactions, large ones in pieces and with subtransactions that
// are rolled back among them, and what happens: crashes at crash points and at operations of
// the disk, connections cut at any byte, mute or slow, a server that crashes, resends, or
// notices late that a reader is gone, a target that refuses, hangs, or fails with what it has
// written, a slot that is lost. Whenever views are looked at, and after each write to the
// target, they are to hold just what the transactions up to their position make, by an oracle
// that applies these one after the other; no view goes back; and the app never ends by itself,
// as it would if a slot had been told more than outlives a crash. Not covered are topologies
// but one (a join, an aggregate and messages), several databases, newcomers, changed topologies
// and tables, stream time and error policies, and real targets.
package sim
