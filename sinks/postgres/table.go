package postgres

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/sinks"
)

// table is an output and the table it is written to.
type table struct {
	id      uint32
	output  string
	name    name
	columns []column
	keyLen  int
	reads   []sinks.SourceTable // what the output's topology reads
	// events says that the output is append-only: rows are inserted once, by event id.
	events bool
	// whole says that its whole content is on its way. was is what was written to until now,
	// "" if that does not matter, and made what there is; see heldAs.
	whole     bool
	was, made string
	// opt is what the user said about the output; create says that the table may be
	// created.
	opt    Output
	create bool
	// statements are those made so far.
	statements map[chunkRow][]statement
}

// column is a column of an output.
type column struct {
	name string
	// want is the type that the output's values need; as a user may write it.
	want string
	// given says that want is the user's own word for this column.
	given    bool
	nullable bool
	// cast is the type of the target's column as its catalog prints it, without a
	// length: an explicit cast to varchar(3) would cut a value off, an assignment
	// refuses it.
	cast string
}

// eventColumns are the columns of an events table. json and not jsonb, because jsonb
// refuses some strings and drops a repeated member.
var eventColumns = []sinks.Column{
	{Name: "id", Type: "text"},
	{Name: "key", Type: "json", Nullable: true},
	{Name: "value", Type: "json", Nullable: true},
	{Name: "source", Type: "text"},
	{Name: "position", Type: "pg_lsn"},
	{Name: "xid", Type: "bigint"},
	{Name: "time", Type: "timestamptz"},
	{Name: "last", Type: "boolean"},
	{Name: "replayed", Type: "boolean"},
}

// resolveOutputs turns outputs into tables, as far as that needs no database.
func resolveOutputs(cfg Config, outputs []sinks.Output, progress name, p *problems) []*table {
	var tables []*table
	seen := map[name]string{progress: "the progress table"}
	ids := map[uint32]bool{}
	for _, o := range outputs {
		t := resolveOutput(o, p)
		if t == nil {
			continue
		}
		if other, ok := seen[t.name]; ok {
			p.addf("output %q writes the table of %s; give it a table of its own", o.Name, other)
		}
		if ids[o.ID] {
			p.addf("output %q has the number %d of another output", o.Name, o.ID)
		}
		seen[t.name], ids[o.ID] = fmt.Sprintf("output %q", o.Name), true
		t.create = cfg.CreateTables || t.opt.Create
		tables = append(tables, t)
	}
	return tables
}

func resolveOutput(o sinks.Output, p *problems) *table {
	t := &table{id: o.ID, output: o.Name, keyLen: o.KeyLen, events: o.Append, whole: o.Whole,
		reads: o.Reads, statements: map[chunkRow][]statement{}}
	switch opt := o.Options.(type) {
	case nil:
	case Output:
		t.opt = opt
	case *Output:
		if opt != nil {
			t.opt = *opt
		}
	default:
		p.addf("output %q: its options are a %T; a PostgreSQL target takes postgres.Output", o.Name,
			o.Options)
		return nil
	}
	var err error
	if t.opt.Table != "" {
		t.name, err = newName(t.opt.Schema, t.opt.Table, t.opt.Schema != "")
	} else {
		t.name, err = parseName(o.Name)
	}
	if err != nil {
		p.addf("output %q: %w", o.Name, err)
		return nil
	}
	columns := o.Columns
	if o.Append {
		columns, t.keyLen = eventColumns, 1
	}
	if t.keyLen < 1 || t.keyLen > len(columns) || t.keyLen > 31 {
		p.addf("output %q: %d key columns of %d; a table needs 1 to 31", o.Name, t.keyLen, len(columns))
		return nil
	}
	t.resolveColumns(columns, p)
	return t
}

func (t *table) resolveColumns(columns []sinks.Column, p *problems) {
	seen := map[string]bool{}
	for _, c := range columns {
		if err := checkIdentifier("column", c.Name); err != nil {
			p.addf("output %q: %w", t.output, err)
		}
		if seen[c.Name] {
			p.addf("output %q has two columns %q; rename one", t.output, c.Name)
		}
		seen[c.Name] = true
		want, given := t.opt.Types[c.Name]
		if !given {
			want = c.Type
		}
		t.columns = append(t.columns, column{name: c.Name, want: want, given: given, nullable: c.Nullable})
	}
	for _, name := range slices.Sorted(maps.Keys(t.opt.Types)) {
		if !seen[name] {
			p.addf("output %q: Types names column %q, which the result has not", t.output, name)
		}
	}
}

// keyNames returns the names of the key columns for a message.
func (t *table) keyNames() string {
	names := make([]string, t.keyLen)
	for i := range names {
		names[i] = t.columns[i].name
	}
	return strings.Join(names, ", ")
}

// createSQL returns the statement that makes the table. The types in it have been
// through the server's own type parser before it is run.
func (t *table) createSQL() string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (", t.name.sql())
	key := "PRIMARY KEY"
	for i, c := range t.columns {
		fmt.Fprintf(&b, "%s %s", quote(c.name), c.want)
		switch {
		case i < t.keyLen && c.nullable:
			key = "UNIQUE"
		case !c.nullable:
			b.WriteString(" NOT NULL")
		}
		b.WriteString(", ")
	}
	fmt.Fprintf(&b, "%s (%s))", key, t.list(0, t.keyLen, quote))
	return b.String()
}

// list joins what f makes of the column names from i to j.
func (t *table) list(i, j int, f func(string) string) string {
	parts := make([]string, 0, j-i)
	for _, c := range t.columns[i:j] {
		parts = append(parts, f(c.name))
	}
	return strings.Join(parts, ", ")
}
