package record

// Relation describes a source table as of some moment in the log. A connector
// makes a new Relation whenever the table's shape changes, so a pointer compares
// as "same shape".
type Relation struct {
	// Schema and Name name the table, or the root of a partitioned table.
	Schema, Name string
	// OID is the table's id in the source, 0 where there is none.
	OID uint32
	// Columns are the table's columns in tuple order.
	Columns []Column
	// Identity says what old tuples of this relation carry.
	Identity Identity
	// File is the id of the file that holds the rows, which is another one once they
	// have been rewritten; 0 where the source does not tell.
	File uint32 `json:"-"`
	// Opened is the relation as it was when the session was opened, nil if this is it.
	Opened *Relation `json:"-"`
	// Misfit is why old tuples of these rows do not tell which row they are about although
	// the relation has a key, with the remedy; "" where they do.
	Misfit string `json:"-"`
}

// String returns schema.name.
func (r *Relation) String() string { return r.Schema + "." + r.Name }

// TypeKind says what a type is made of: pg_type.typtype.
type TypeKind byte

// The kinds that are told apart; 0 is any other, or not known.
const (
	KindComposite  TypeKind = 'c'
	KindRange      TypeKind = 'r'
	KindMultirange TypeKind = 'm'
)

// Column is a column of a relation.
type Column struct {
	Name string
	// Type is the type's SQL name, as format_type gives it; TypeOID its id.
	Type    string
	TypeOID uint32
	// Base is the SQL name of the type under a domain, with its modifiers; empty
	// where Type is no domain or the source does not tell. Without it a domain
	// fits only Go types that read text.
	Base string
	// TypeMod is the type modifier, -1 where there is none.
	TypeMod int32
	// Key says that the column is part of the key: the primary key, or the
	// replica identity index where the table uses one.
	Key bool
	// NotNull says that the column cannot be NULL, as far as the source tells.
	NotNull bool
	// Kind says what the type, or the one under a domain, is made of, as far as the
	// source tells.
	Kind TypeKind
	// Collation is the column's collation where it is not deterministic, else "".
	Collation string
	// Number is the column's number in the source, which no other column of the table
	// ever has; 0 where the source does not tell.
	Number int16 `json:"-"`
	// Stamp is another one once the column's definition has been changed; 0 where the
	// source does not tell.
	Stamp uint32 `json:"-"`
	// Labels are the values of the column's enumerated type, each as its id, "=", its
	// text and a line break; "" for other types.
	Labels string `json:"-"`
}

// Identity is a table's replica identity: what old tuples carry.
type Identity uint8

// The replica identities, by PostgreSQL's names.
const (
	IdentityDefault Identity = iota
	IdentityFull
	IdentityIndex
	IdentityNothing
)

// Row is one row event of a source table as its connector read it.
type Row struct {
	Rel *Relation
	Op  Op
	// OldKind says what Old carries.
	OldKind OldKind
	// Ordinal is the row's place in its transaction, from 0.
	Ordinal uint32
	// Old and New have one value a column of Rel. Their bytes are valid until the
	// batch they came in is released.
	Old, New Tuple
}

// OldKind says what the old tuple of a row event carries.
type OldKind uint8

// What an old tuple may carry.
const (
	OldNone OldKind = iota // nothing
	OldKey                 // the key columns only; the rest is not to be trusted
	OldFull                // all columns
)

// Tuple is the values of a row, one a column.
type Tuple []Value

// Value is one column's value in the source's text form.
type Value struct {
	Kind ValueKind
	Data []byte
}

// ValueKind says how a value is given.
type ValueKind uint8

// The kinds of values.
const (
	Null ValueKind = iota
	// Unchanged stands for a large value that the log leaves out because the
	// update did not touch it; the last value that Tailrace holds is the value.
	Unchanged
	// Text is PostgreSQL's text form, under the session settings DateStyle=ISO,
	// IntervalStyle=postgres, TimeZone=UTC, extra_float_digits=3,
	// bytea_output=hex, client_encoding=UTF8.
	Text
)

// Message is a logical decoding message: an event without a table.
type Message struct {
	Prefix  string
	Content []byte
	// Ordinal is the message's place among the rows of its transaction.
	Ordinal uint32
	// Transactional is false for a message that was not part of a transaction; it
	// comes as a transaction of its own.
	Transactional bool
}
