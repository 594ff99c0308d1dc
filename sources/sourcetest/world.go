// Package sourcetest is the conformance suite for implementers of the sources contract:
// Exercise runs it over a World, which is a fresh source of two tables.
package sourcetest

import (
	"testing"

	"github.com/tailrace/tailrace/sources"
)

// The tables of a World. Accounts has the key id (an integer), and the columns name and
// note, both text that can be NULL; values of note are large. Entries has the same columns.
const (
	Accounts = "accounts"
	Entries  = "entries"
)

// App and Database are the names under which the suite opens a source.
const (
	App      = "sourcetest"
	Database = "shop"
)

// World is a fresh source whose two tables are empty, and a connector to it. All
// functions fail the test on an error.
type World struct {
	Connector sources.Connector
	// Table returns the name by which a table is asked for, such as public.accounts.
	Table func(name string) string
	// Commit makes the changes in one transaction. It may be called from any goroutine.
	Commit func(changes ...Change)
	// Rows returns what a table holds: columns by id. A NULL has no entry.
	Rows func(name string) map[string]map[string]string
	// Confirmed returns up to where the source has forgotten what is before, for this
	// reader. Nil where it does not tell.
	Confirmed func() uint64
	// Cut breaks the reader's connections; they may be made again. Nil where there are
	// none.
	Cut func()
}

// Op is what a Change does.
type Op int

// The changes that a source has to tell of.
const (
	// Insert makes the row ID with Name and Note.
	Insert Op = iota
	// SetName changes the name of the row ID and leaves its note alone.
	SetName
	// SetNote changes the note of the row ID and leaves its name alone.
	SetNote
	// Move gives the row ID the key To and leaves the rest alone.
	Move
	// Delete removes the row ID.
	Delete
	// Truncate removes all rows of the table.
	Truncate
	// Fill inserts the rows ID to To, with names and without notes.
	Fill
)

// Change is a part of a transaction.
type Change struct {
	Table  string
	Op     Op
	ID, To int
	// Name and Note are the values to write; nil is NULL.
	Name, Note *string
}

// Value is a text for Name or Note.
func Value(s string) *string { return &s }

// Exercise tests a connector. fresh makes a world; the suite calls it once a test.
func Exercise(t *testing.T, fresh func(t *testing.T) World) {
	for _, c := range []struct {
		name string
		run  func(r *reader)
	}{
		{"every kind of change", everyChange},
		{"large values that an update leaves out", unchangedValues},
		{"the hand-over from the snapshot to the log", handOver},
		{"a large transaction is one transaction", largeTransaction},
		{"resuming after each transaction", resume},
		{"the acknowledgement", acknowledgement},
		{"a batch keeps its bytes until it is released", memory},
		{"a lost connection", lostConnection},
		{"the end of a session", endOfSession},
		{"drop", drop},
		{"what cannot be read", refusals},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(newReader(t, fresh(t)))
		})
	}
}
