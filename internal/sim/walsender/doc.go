// Package walsender is a PostgreSQL server as a script has it, for simulations of direct mode:
// in memory, over pipes, in virtual time. A script commits transactions, and does harm.
//
// It speaks the protocol from the start of a connection on, and answers, by a part of their
// text, just the queries that sources/postgres asks; any other is an error, which Unknown tells
// of, and where one selects something else than it did, its answer has to follow (catalog.go).
// It has the catalog of a few plain tables, publications as they are made, one slot with its
// rules (a new stream begins where the slot was confirmed or later; what was confirmed is known
// after a restart only if it had been written down; one reader at a time, who may outlive his
// connection), the rows of a snapshot, and the log: transactions with aborted subtransactions,
// those that are large in pieces before they commit, where the client asked for that (protocol
// version 2), and messages.
//
// There is none of this: rights, TLS, passwords, types but text and bigint, NULL, partitions,
// tables that are altered, several databases or timelines, standbys, locks that keep a
// snapshot waiting, two-phase commits, and SQL that anybody else could run.
package walsender
