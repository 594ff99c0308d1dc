package sources

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/record"
)

// Shape is what a table was when the state of a reader began: which table, which key,
// which columns. The log tells of rows only. It has no message for a table that was
// dropped and made again under its name, for rows under another key, or for values
// that ALTER TABLE has written anew; with state from before and rows from after such a
// change a reader would have what the table never was.
//
// What a source does not tell is zero, and is not compared.
type Shape struct {
	// Table is schema.name, OID the table's id and File that of the file of its rows.
	Table string `json:"table"`
	OID   uint32 `json:"oid,omitempty"`
	File  uint32 `json:"file,omitempty"`
	// Key names the key's columns, sorted. Key and columns are of tables whose rows are
	// kept; who reads inserts only takes each as it is.
	Key []string `json:"key,omitempty"`
	// Columns are those that are used, by name.
	Columns map[string]ColumnShape `json:"columns,omitempty"`
}

// ColumnShape is a column of a Shape, as record.Column describes it.
type ColumnShape struct {
	Number int16  `json:"number,omitempty"`
	Type   string `json:"type,omitempty"`
	Stamp  uint32 `json:"stamp,omitempty"`
	Labels string `json:"labels,omitempty"`
}

// ShapeOf returns the shape of a relation for a reader of what req asks for.
func ShapeOf(rel *record.Relation, req TableRequest) Shape {
	s := Shape{Table: rel.String(), OID: rel.OID}
	if !req.Changes {
		return s
	}
	s.File, s.Columns = rel.File, map[string]ColumnShape{}
	for _, c := range rel.Columns {
		if c.Key {
			s.Key = append(s.Key, c.Name)
		}
		if c.Key || slices.Contains(req.Columns, c.Name) {
			s.Columns[c.Name] = ColumnShape{Number: c.Number, Type: c.Type, Stamp: c.Stamp, Labels: c.Labels}
		}
	}
	slices.Sort(s.Key)
	return s
}

// Equal reports whether two shapes are the same in all that is known.
func (s Shape) Equal(t Shape) bool {
	return s.Table == t.Table && s.OID == t.OID && s.File == t.File && slices.Equal(s.Key, t.Key) &&
		maps.Equal(s.Columns, t.Columns)
}

const untold = "the log does not tell which rows that changed, so raise the topology's Version: " +
	"its state is then rebuilt from a new snapshot"

// stillAs reports whether rows of a relation go with those that were kept when the
// session was opened.
func stillAs(rel *record.Relation, req TableRequest) error {
	if rel.Opened == nil {
		return nil
	}
	if was := rel.Opened.String(); was != req.Name {
		return fmt.Errorf("%w: table %s is not what the state was made of: what was called %s has its name now; %s",
			ErrSchema, req.Name, was, untold)
	}
	if rel.Misfit != "" && req.Changes {
		return fmt.Errorf("%w: table %s: %s then raise the topology's Version: its state is then rebuilt from a "+
			"new snapshot", ErrSchema, req.Name, rel.Misfit)
	}
	return ShapeOf(rel.Opened, req).Became(ShapeOf(rel, req))
}

// Became reports why rows of the table as it is now do not go with what was kept of it
// as s: an ErrSchema that names every reason, nil if they do.
func (s Shape) Became(now Shape) error {
	var why []string
	add := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	switch {
	case s.Table != now.Table:
		add("it is called %s now", now.Table)
	case differ(s.OID, now.OID):
		add("another table has its name: it was dropped and made again, or tables were renamed")
	}
	if !slices.Equal(s.Key, now.Key) {
		add("its key was (%s) and is (%s)", strings.Join(s.Key, ", "), strings.Join(now.Key, ", "))
	}
	if len(why) == 0 {
		rewritten := differ(s.File, now.File)
		for _, name := range slices.Sorted(maps.Keys(s.Columns)) {
			if is, ok := now.Columns[name]; ok {
				if reason := s.Columns[name].became(is, rewritten, s.File == 0); reason != "" {
					add("column %q %s", name, reason)
				}
			}
		}
	}
	if len(why) == 0 {
		return nil
	}
	return fmt.Errorf("%w: table %s is not what the state was made of: %s; %s",
		ErrSchema, s.Table, strings.Join(why, "; "), untold)
}

// became tells what has happened to a column's values, "" for nothing. A definition that
// changed while the rows were written anew may have changed the values; a type without
// a file to look at (a partitioned table's) as well. And some types show the same bytes
// otherwise, so that none of them is written anew.
func (c ColumnShape) became(now ColumnShape, rewritten, noFile bool) string {
	switch {
	case differ(c.Number, now.Number):
		return "is another one: it was dropped and added again, or columns were renamed"
	case c.Type != "" && now.Type != "" && c.Type != now.Type && (rewritten || noFile):
		return fmt.Sprintf("was of type %s and is of type %s, and its values were written anew", c.Type, now.Type)
	case c.Type != "" && now.Type != "" && !showsAlike(c.Type, now.Type):
		return fmt.Sprintf("was of type %s and is of type %s, which may show the same value otherwise",
			c.Type, now.Type)
	case rewritten && differ(c.Stamp, now.Stamp):
		return "was altered, and its values were written anew"
	}
	labels := labelsOf(now.Labels)
	was := labelsOf(c.Labels)
	for _, id := range slices.Sorted(maps.Keys(was)) {
		if is, ok := labels[id]; ok && is != was[id] {
			return fmt.Sprintf("has a value that was renamed from %q to %q", was[id], is)
		}
	}
	return ""
}

// showsAlike reports whether a value has one text as both types, which are not told apart
// by more than a length or a precision, or are texts that keep their blanks.
func showsAlike(a, b string) bool { return family(a) == family(b) }

// family is a type's name without its modifiers, and one name for those that show alike.
func family(name string) string {
	array := ""
	for strings.HasSuffix(name, "[]") {
		name, array = strings.TrimSuffix(name, "[]"), array+"[]"
	}
	if from := strings.IndexByte(name, '('); from >= 0 {
		if to := strings.IndexByte(name[from:], ')'); to >= 0 {
			name = name[:from] + name[from+to+1:]
		}
	}
	if name == "character varying" {
		name = "text"
	}
	return name + array
}

// labelsOf takes record.Column.Labels apart.
func labelsOf(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if id, label, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			out[id] = label
		}
	}
	return out
}

// differ reports whether both are known and not the same.
func differ[T comparable](a, b T) bool {
	var unknown T
	return a != unknown && b != unknown && a != b
}
