// Package postgres reads tables of PostgreSQL 14 to 18 by logical replication: a
// snapshot first, then every committed transaction, in commit order, without a gap or
// a duplicate between the two.
//
// # What it needs
//
// The server needs wal_level = logical and a free replication slot and sender. The
// role needs
//
//	ALTER ROLE reader REPLICATION;
//	GRANT USAGE ON SCHEMA shop TO reader;
//	GRANT SELECT ON shop.orders TO reader;  -- or only the mapped and key columns
//
// and, where row level security is on, BYPASSRLS. Publications are made by Open if the
// role owns the tables and may CREATE in the database; otherwise Open's error has the
// SQL for an owner to run once. All that is wrong comes in one error, a SetupError,
// each with its remedy.
//
// # What it makes
//
// A replication slot and two publications, by default named for app and database: one
// for tables whose rows the log can identify, and one, with the suffix _insert, for
// inserts into the others. PostgreSQL refuses UPDATE and DELETE of a table without
// replica identity once its updates are published; so such a table is never published
// that way, and no write of the application fails because of Tailrace. (Whoever drops
// the primary key of a table later should run Tailrace again before updating it.)
// Publications carry a comment that says who made them; nothing without it is changed
// or dropped.
//
// # Positions
//
// A transaction's position is the end of its commit record. The slot is only ever told
// what Ack was called with, so it is never ahead of the state: an idle database's
// frontier comes as Batch.Idle, and the log behind it is freed when that is acknowledged.
// A message that is not part of a transaction has the position after its first byte,
// and as its time the server's clock when it was sent, as the log has none for it.
//
// # When the slot cannot go on
//
// A slot that is missing, lost, ahead of the state, of another plugin or database, or
// used by somebody else, a server that is another one or went back in time, and a
// missing publication are each an error with a name and a remedy; see ErrSlotMissing
// and its neighbours. A slot of ours without state, left by a start that ended before
// its first checkpoint, is dropped and made anew; one with a name from Config.Slot only
// if the comment of its publication shows that this app made it.
//
// # Limits
//
// The log has no TRUNCATE, DETACH or DROP of a single partition of a table that is read
// by its root: rows that go that way stay in views until a new snapshot; delete them
// instead. Nor has it the rows of a partition that is attached. Tables are read without
// those that inherit from them. docs/operations.md says what to do about each. During the
// snapshot its tables have an ACCESS SHARE lock, as pg_dump takes: TRUNCATE and ALTER
// TABLE wait for it, other writes do not. Values read the same on every connection, in
// the forms that record.Text documents; money as in the C locale, and names of tables and
// types with their schema.
package postgres
