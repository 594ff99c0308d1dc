// Package topologytest tests topologies without a database: transactions go in, rows
// and records come out, and everything in between is the real thing, step machine,
// operators and state, in memory. Connectors are never opened.
//
// # A first test
//
// Build the topology as your program does, hand it to New, and write to its source
// tables through the handles that package sources returned:
//
//	d := topologytest.New(t, topology)
//	topologytest.Insert(d, customers, 1, Customer{Name: "Ann"})
//	topologytest.Insert(d, orders, 7, Order{CustomerID: 1, Cents: 250})
//	got := topologytest.Rows(d, revenue) // map[string]Revenue
//
// Any handle of the topology can be read, not only those that end in a sink: Rows
// and Row for the rows of a table, Changes for its net changes, Records and Values
// for the records of a stream. Views can be read as in the program, too.
//
// # Transactions and time
//
// Each call is a transaction of its own. Tx makes one of several calls, over as many
// tables as you like:
//
//	d.Tx(func(tx *topologytest.Tx) {
//		topologytest.Update(tx, accounts, 1, Account{Cents: 90})
//		topologytest.Update(tx, accounts, 2, Account{Cents: 10})
//	})
//
// The databases' clock stands still until AdvanceTime moves it.
//
// # What is checked for you
//
// After every step the driver holds all nodes to Tailrace's promises: each key
// changes at most once, from what it was to something else, and streams are in
// order. A function of yours that is not pure is found here, with the node's name, when
// the old value that it gives for a row is not the one that it gave before; so is one that
// panics. With CheckEverything rows that do not change are asked for, too.
//
// Not found is an aggregator whose result depends on the order of rows, or whose Remove
// does not undo its Add: the driver does not compute groups in another order. Give
// aggregators of your own to aggregatetest.Laws, which does.
//
// # Crashes
//
// Crash loses what is not committed and goes on from there; the databases send it
// again. Results must not depend on that, nor on how work is cut: the options Chunks,
// Steps, Epochs, Memory and Partitions are there to try. Delayed is there to see what
// joins and aggregates show in between where partitions are on several members.
package topologytest
