// Package compare tells whether two sets of rows are equal, and where they are not:
// the rows of a view and those of a SQL query, both as JSON.
package compare

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/record"
)

// ErrColumns says that the query's columns are not those of the view.
var ErrColumns = errors.New("compare: columns")

// Difference is a row that is not the same on both sides.
type Difference struct {
	// Key is the row's key, as a JSON object of the key's columns.
	Key string `json:"key"`
	// View and SQL are the row on the two sides, "" where there is none.
	View string `json:"view,omitempty"`
	SQL  string `json:"sql,omitempty"`
	// Columns are those that differ, where both sides have the row.
	Columns []string `json:"columns,omitempty"`
}

// row is a row by its columns.
type row map[string]any

// Rows compares rows. First all rows of the view are added, then those of the
// query; Differences tells the result. It holds the view in memory.
type Rows struct {
	// KeyScalar and ValueScalar say that key and value are no objects of columns: they
	// are the columns "key" and "value".
	KeyScalar, ValueScalar bool

	columns  []record.Column
	types    map[string]string
	keys     []string // the key's columns, known with the first row
	names    []string
	view     map[string]row
	seen     map[string]bool
	rows     int
	differ   []Difference
	prepared bool
}

// AddView adds a row of the view.
func (r *Rows) AddView(key, value []byte) error {
	if r.view == nil {
		r.view = map[string]row{}
	}
	all, err := flatten(value, "value", r.ValueScalar)
	if err != nil {
		return err
	}
	keys, err := flatten(key, "key", r.KeyScalar)
	if err != nil {
		return err
	}
	maps.Copy(all, keys)
	if r.keys == nil {
		r.keys = slices.Sorted(maps.Keys(keys))
		r.names = slices.Sorted(maps.Keys(all))
	}
	// The types of the columns, which the form of a key depends on, come with the query.
	r.view[string(key)] = all
	return nil
}

// flatten makes columns of a JSON value.
func flatten(text []byte, name string, scalar bool) (row, error) {
	v, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("compare: a row of the view: %w", err)
	}
	if object, ok := v.(map[string]any); ok && !scalar {
		return object, nil
	}
	return row{name: v}, nil
}

func decode(text []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

// Prepare takes the query's columns. It is called after the view's rows and before
// those of the query.
func (r *Rows) Prepare(columns []record.Column) error {
	r.columns, r.types = columns, map[string]string{}
	var names []string
	for _, c := range columns {
		if r.types[c.Name] != "" {
			return fmt.Errorf("%w: the query has two columns %q; give one another name with AS", ErrColumns, c.Name)
		}
		r.types[c.Name] = c.Type
		names = append(names, c.Name)
	}
	r.seen = map[string]bool{}
	if len(r.view) == 0 {
		// Nothing tells which columns are the key: every row is missing anyway.
		r.keys, r.names = names, slices.Sorted(slices.Values(names))
	}
	if slices.Sort(names); !slices.Equal(names, r.names) {
		return fmt.Errorf("%w: the view has the columns %s, the query %s; name them alike with AS (a key or value "+
			"that is no struct is the column key or value)",
			ErrColumns, strings.Join(r.names, ", "), strings.Join(names, ", "))
	}
	byKey := make(map[string]row, len(r.view))
	for _, v := range r.view {
		byKey[r.keyOf(v)] = v
	}
	if len(byKey) != len(r.view) {
		return fmt.Errorf("%w: rows of the view have keys that the query cannot tell apart", ErrColumns)
	}
	r.view, r.prepared = byKey, true
	return nil
}

// keyOf is the canonical form of a row's key.
func (r *Rows) keyOf(v row) string {
	var b strings.Builder
	for _, name := range r.keys {
		canonical(&b, v[name], r.types[name])
		b.WriteByte(0)
	}
	return b.String()
}

// AddSQL adds a row of the query, as a JSON object.
func (r *Rows) AddSQL(object []byte) error {
	v, err := decode(object)
	if err != nil {
		return fmt.Errorf("compare: a row of the query: %w", err)
	}
	fields, ok := v.(map[string]any)
	if !ok || !r.prepared {
		return fmt.Errorf("%w: a row of the query is no object of columns", ErrColumns)
	}
	r.rows++
	want := row(fields)
	key := r.keyOf(want)
	have, ok := r.view[key]
	if !ok || r.seen[key] {
		r.differ = append(r.differ, Difference{Key: r.text(want, r.keys), SQL: r.text(want, r.names)})
		return nil
	}
	r.seen[key] = true
	var columns []string
	for _, name := range r.names {
		if !equal(have[name], want[name], r.types[name]) {
			columns = append(columns, name)
		}
	}
	if columns != nil {
		r.differ = append(r.differ, Difference{Key: r.text(want, r.keys), View: r.text(have, r.names),
			SQL: r.text(want, r.names), Columns: columns})
	}
	return nil
}

// text writes columns of a row as a JSON object.
func (r *Rows) text(v row, names []string) string {
	var b strings.Builder
	for i, name := range names {
		if i == 0 {
			b.WriteByte('{')
		} else {
			b.WriteByte(',')
		}
		key, _ := json.Marshal(name)
		value, _ := json.Marshal(v[name])
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.String()
}

// Result returns how many rows the two sides have, and all rows that differ, in
// the order of their keys.
func (r *Rows) Result() (viewRows, sqlRows int, differ []Difference) {
	for key, v := range r.view {
		if !r.seen[key] {
			r.differ = append(r.differ, Difference{Key: r.text(v, r.keys), View: r.text(v, r.names)})
		}
	}
	slices.SortStableFunc(r.differ, func(a, b Difference) int {
		return strings.Compare(a.Key+"\x00"+a.SQL, b.Key+"\x00"+b.SQL)
	})
	return len(r.view), r.rows, r.differ
}
