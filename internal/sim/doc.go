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
package sim
