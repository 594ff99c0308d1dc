package postgres

import (
	"time"

	"github.com/tailrace/tailrace/internal/pgoutput"
	"github.com/tailrace/tailrace/record"
)

// relation is a table as the log last described it. rel is nil for a table that
// nobody asked for.
type relation struct {
	rel   *record.Relation
	width int
	// oldKeys says that whole old rows may have the key alone: those of a root under REPLICA
	// IDENTITY FULL that has a partition which is not.
	oldKeys bool
}

// describer makes relations of the log's messages: it adds what they leave out, from
// the catalog.
type describer interface {
	// describe returns the relation of a description in a transaction, nil for a table nobody
	// asked for; known is false where the catalog has to be asked.
	describe(m pgoutput.RelationMessage, xid uint32) (rel *record.Relation, known bool)
	// look asks the catalog. It takes its time, so nobody waits for a lock meanwhile.
	look(m pgoutput.RelationMessage, xid uint32) (*record.Relation, error)
	// rest gives up what looks have left open and no longer use, close all of it.
	rest(now time.Time)
	close()
	// partition returns how rows of a root come whose partition is described behind it, and
	// whether it is one.
	partition(root *record.Relation, m pgoutput.RelationMessage) (rel *record.Relation, is bool)
}

// sameShape reports whether two relations differ in nothing a reader could see.
func sameShape(a, b *record.Relation) bool {
	if a.Schema != b.Schema || a.Name != b.Name || a.OID != b.OID || a.Identity != b.Identity ||
		len(a.Columns) != len(b.Columns) {
		return false
	}
	for i := range a.Columns {
		if a.Columns[i] != b.Columns[i] {
			return false
		}
	}
	return true
}

// identityOf translates pg_class.relreplident.
func identityOf(b byte) record.Identity {
	switch b {
	case 'f':
		return record.IdentityFull
	case 'i':
		return record.IdentityIndex
	case 'n':
		return record.IdentityNothing
	}
	return record.IdentityDefault
}
