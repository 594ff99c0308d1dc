package debezium

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/record"
)

// topic is what a decoder knows of a topic.
type topic struct {
	name string
	// tables are those whose records go to the topic, mostly one.
	tables []*tableState
	values schemas
	keys   schemas
	// format is that of values without schema, once one was seen.
	format format
}

// tableState is what a decoder has learned of a table in a topic.
type tableState struct {
	table *Table
	// plain is the shape of records without schema; bySchema those of others.
	plain    *shape
	bySchema map[*schema]*shape
	// current is the shape of the last row, which tells a tombstone's.
	current *shape
}

func (t *topic) add(table *Table) {
	t.tables = append(t.tables, &tableState{table: table, bySchema: map[*schema]*shape{}})
}

// schema is the schema of a record's key or value, read once.
type schema struct {
	// prefix is what the record begins with, up to the payload.
	prefix []byte
	wire   *wire
	format format
	// convs are those of a key's members under Config.Plain.
	convs map[string]*conv
}

// schemas are the schemas that a topic's records had, the last one first.
type schemas struct{ list []*schema }

// maxSchemas bounds how many are kept; a topic has a new one with each change of its
// table.
const maxSchemas = 16

// find returns the schema that a record begins with.
func (c *schemas) find(text []byte) *schema {
	for i, s := range c.list {
		if bytes.HasPrefix(text, s.prefix) {
			if i > 0 {
				copy(c.list[1:i+1], c.list[:i])
				c.list[0] = s
			}
			return s
		}
	}
	return nil
}

func (c *schemas) add(s *schema) {
	c.list = slices.Insert(c.list, 0, s)
	if len(c.list) > maxSchemas {
		c.list = c.list[:maxSchemas]
	}
}

// shape is what rows of one table look like under one schema.
type shape struct {
	table   *Table
	columns []column
	index   map[string]int
	reads   int // how many columns are read
	// order is the order in which the last row had its members.
	order []member
	// keys are the key columns' places, in the order of the records' keys; known says
	// that a key has been seen.
	keys  []int
	known bool
	rel   *record.Relation
	// stamp numbers the rows, so that members seen need not be cleared.
	stamp uint64
	// learned is the decoder's.
	learned *bool
}

// column is a column of a shape. err says why it cannot be read.
type column struct {
	record.Column
	conv *conv
	err  error
	read bool
	seen uint64
}

// member is a member of a row's object: a column, or -1, or what a flattening transform
// has added.
type member struct {
	name   []byte
	column int
	meta   meta
	source string
}

// newShape makes the shape of a table's rows. row is the schema of a row, nil where the
// records have none.
func (d *Decoder) newShape(t *Table, row *wire) (*shape, error) {
	sh := &shape{table: t, index: map[string]int{}, learned: &d.learned}
	var err error
	switch {
	case d.cfg.Plain:
		err = d.plainShape(sh, row)
	case len(t.Columns) > 0:
		err = d.declaredColumns(sh, row)
	case row == nil:
		return nil, refuse(ErrNoSchema, "the records have no schema; declare the table's columns (ReadCatalog "+
			"reads them from the source), or set value.converter.schemas.enable=true")
	default:
		err = d.columnsOf(sh, row)
	}
	if err != nil {
		return nil, err
	}
	for i := range sh.columns {
		sh.index[sh.columns[i].Name] = i
		if sh.columns[i].read {
			sh.reads++
		}
	}
	for _, name := range t.Read {
		if _, ok := sh.index[name]; !ok {
			return nil, &Error{Column: name, Err: ErrMissing, Reason: "the records do not hold the column: the " +
				"connector leaves it out, or the table has none of that name"}
		}
	}
	return sh, nil
}

func (d *Decoder) declaredColumns(sh *shape, row *wire) error {
	for i := range sh.table.Columns {
		c := &sh.table.Columns[i]
		var w *wire
		if row != nil {
			w = row.field(c.Name)
		} else {
			w = d.modes.wireOf(c)
		}
		if w == nil {
			continue // The relation does not have it.
		}
		if err := d.addColumn(sh, c.Column, w, c); err != nil {
			return err
		}
	}
	return nil
}

func (d *Decoder) columnsOf(sh *shape, row *wire) error {
	for _, f := range row.fields {
		if m, _ := d.metaOf(f.name); m != notMeta {
			continue
		}
		c := record.Column{Name: f.name, TypeMod: -1, NotNull: !f.wire.optional}
		if err := d.addColumn(sh, c, f.wire, nil); err != nil {
			return err
		}
	}
	return nil
}

func (d *Decoder) addColumn(sh *shape, rc record.Column, w *wire, declared *Column) error {
	t := sh.table
	c := column{Column: rc, read: t.reads(rc.Name)}
	var err error
	if c.conv, err = convOf(w, declared, &d.modes); err == nil {
		if c.conv.lossy != "" && !d.lossy[t.Name+"."+c.Name] {
			err = refuse(ErrLossy, c.conv.lossy+"; or accept it with Config.AcceptLossy")
		}
		c.conv.unavailable = unavailable(c.conv, d.modes.Placeholder)
		c.Type = c.conv.typ
		if declared != nil && c.Type == declared.Base {
			c.Type = declared.Type
		}
	}
	if c.err = err; err != nil {
		switch {
		case t.Read == nil:
			return nil // Nobody asked for it: the relation does not have it.
		case c.read:
			return at(err, "", c.Name)
		}
	}
	sh.columns = append(sh.columns, c)
	return nil
}

// at adds the place to an error of this package.
func at(err error, table, column string) error {
	var e *Error
	if err == nil || !errors.As(err, &e) {
		return err
	}
	out := *e
	if out.Table == "" {
		out.Table = table
	}
	if out.Column == "" {
		out.Column = column
	}
	return &out
}

// relation returns the shape's relation, whose key are the columns of the last key.
func (sh *shape) relation() *record.Relation {
	if sh.rel != nil {
		return sh.rel
	}
	schema, name := sh.table.schemaAndName()
	rel := &record.Relation{Schema: schema, Name: name, Identity: sh.table.Identity}
	for i := range sh.columns {
		c := sh.columns[i].Column
		if sh.known {
			c.Key = slices.Contains(sh.keys, i)
		}
		rel.Columns = append(rel.Columns, c)
	}
	sh.rel = rel
	return rel
}

// keyColumns sets the columns that the records' key has.
func (sh *shape) keyColumns(names []string) error {
	keys := make([]int, 0, len(names))
	for _, name := range names {
		i, ok := sh.index[name]
		if !ok {
			return &Error{Column: name, Err: ErrKey, Reason: "the record's key has a column that its rows do not have"}
		}
		keys = append(keys, i)
	}
	var declared, have []string
	for _, c := range sh.table.Columns {
		if c.Key {
			declared = append(declared, c.Name)
		}
	}
	have = slices.Sorted(slices.Values(names))
	slices.Sort(declared)
	if len(declared) > 0 && len(have) > 0 && !slices.Equal(declared, have) {
		return refuse(ErrKey, "the records' key is ("+strings.Join(have, ", ")+"), the table's is ("+
			strings.Join(declared, ", ")+"); set message.key.columns, or declare the records' key. Under REPLICA "+
			"IDENTITY USING INDEX deletes carry a wrong key otherwise")
	}
	for i := range keys {
		// A key is read whether or not it was asked for: without it no row is found.
		c := &sh.columns[keys[i]]
		if c.err != nil {
			return at(c.err, "", c.Name)
		}
		if !c.read {
			c.read, *sh.learned = true, true
			sh.reads++
		}
	}
	if !sh.known || !slices.Equal(keys, sh.keys) {
		sh.keys, sh.known, sh.rel = keys, true, nil
	}
	return nil
}
