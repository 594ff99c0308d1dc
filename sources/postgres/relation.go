package postgres

import (
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
	describe(m pgoutput.RelationMessage, tx moment) (*record.Relation, error)
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
