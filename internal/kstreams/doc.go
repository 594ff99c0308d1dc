// Package kstreams compares Tailrace with Kafka Streams: a case (a topology and
// its input, see Case) runs on Kafka Streams' TopologyTestDriver (java/, Oracle) and
// on Tailrace (Run), and whatever differs is a bug, or a Known difference with a name
// and a predicate.
//
// To add an operator:
//
//  1. If Java's Graph.java has no such op yet, add it there.
//  2. Make a file family_NAME.go with what builds the op on Tailrace,
//     var _ = addOp("op", func(b *Build, n *Node) (any, error) { ... }),
//     which returns a Stream, a Table or a WindowedTable (addJoin for another join,
//     addWindows for aggregates over other windows).
//  3. In the same file add a family, var _ = addFamily(&Family{Name: ..., Make: ...});
//     Make draws a topology and its input from a Gen.
//  4. Run it: make fuzz-kstreams FAMILY=NAME CASES=2000 SEED=1. A case that differs is
//     minimised and printed with both outputs.
//  5. If Kafka Streams is wrong, add a Known with a predicate that is as narrow as the
//     defect, and a test of its minimal input to known_test.go.
//
// Times are plain numbers: milliseconds for Kafka Streams, microseconds here. The
// comparison nets the outputs of tables, see Compare.
package kstreams
