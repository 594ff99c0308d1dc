// Package sinktest is the conformance suite for implementers of the sinks contract:
// ExerciseTables for targets of tables, ExerciseEvents for targets of events.
package sinktest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
)

// App and TargetName are the names under which the suite opens a target.
const (
	App        = "sinktest"
	TargetName = "target"
)

// Null is how a NULL stands in rows of text.
const Null = "NULL"

// Model is the plain-map oracle of a target of tables: output to encoded key to row.
type Model map[uint32]map[string][]string

// NewModel returns the oracle of empty tables.
func NewModel(outputs []sinks.Output) Model {
	m := Model{}
	for _, o := range outputs {
		m[o.ID] = map[string][]string{}
	}
	return m
}

// Apply does to the oracle what an epoch should do to the target.
func (m Model) Apply(e sinks.Epoch) {
	for id := range m {
		if e.Whole(id) {
			m[id] = map[string][]string{}
		}
	}
	_ = e.Items(func(it sinks.Item) bool {
		if it.Deleted {
			delete(m[it.Output], string(it.Key))
		} else {
			m[it.Output][string(it.Key)] = Text(it.Columns)
		}
		return true
	})
}

// Rows returns the rows of an output, sorted.
func (m Model) Rows(output uint32) []string {
	rows := make([]string, 0, len(m[output]))
	for _, row := range m[output] {
		rows = append(rows, strings.Join(row, "|"))
	}
	slices.Sort(rows)
	return rows
}

// Text is the readable form of a row.
func Text(columns [][]byte) []string {
	row := make([]string, len(columns))
	for i, c := range columns {
		if c == nil {
			row[i] = Null
		} else {
			row[i] = string(c)
		}
	}
	return row
}

// Put is an upserted row. The key is made of the key columns; nil is NULL.
func Put(o sinks.Output, columns ...any) sinks.Item {
	it := sinks.Item{Output: o.ID}
	for _, c := range columns {
		if c == nil {
			it.Columns = append(it.Columns, nil)
		} else {
			it.Columns = append(it.Columns, []byte(fmt.Sprint(c)))
		}
	}
	for _, c := range it.Columns[:o.KeyLen] {
		if c == nil {
			it.Key = append(it.Key, 0)
		} else {
			it.Key = append(append(it.Key, 1), strconv.Quote(string(c))...)
		}
	}
	return it
}

// Del is a deleted row.
func Del(o sinks.Output, key ...any) sinks.Item {
	it := Put(o, key...)
	it.Deleted = true
	return it
}

// Epoch is an epoch of items. Its positions and commit time follow from seq.
func Epoch(seq uint64, items ...sinks.Item) sinks.Epoch {
	return sinks.Epoch{
		Seq:        seq,
		Positions:  record.Positions{"shop": seq << 8},
		CommitTime: time.UnixMicro(int64(seq) * 1_000_001).UTC(),
		Items: func(yield func(sinks.Item) bool) error {
			for _, it := range items {
				if !yield(it) {
					return nil
				}
			}
			return nil
		},
	}
}

// Whole is the epoch as one that reconciles.
func Whole(e sinks.Epoch) sinks.Epoch {
	e.Reconcile = true
	return e
}

// Accounts and Places are the outputs that ExerciseTables writes: one with a simple key
// and values that can be NULL, one with a composite key of which a part can be NULL.
var (
	Accounts = sinks.Output{
		ID: 1, Name: "accounts", KeyLen: 1,
		Columns: []sinks.Column{
			{Name: "id", Type: "bigint"},
			{Name: "name", Type: "text", Nullable: true},
			{Name: "amount", Type: "numeric"},
		},
	}
	Places = sinks.Output{
		ID: 7, Name: "places", KeyLen: 2,
		Columns: []sinks.Column{
			{Name: "region", Type: "text", Nullable: true},
			{Name: "city", Type: "text"},
			{Name: "n", Type: "bigint"},
		},
	}
)

// RandomEpoch makes an epoch with at most n rows over a small key space, so that keys
// meet again; at most one row a key, as the contract has it.
func RandomEpoch(rng *rand.Rand, seq uint64, n int) sinks.Epoch {
	var items []sinks.Item
	seen := map[string]bool{}
	for range rng.IntN(n + 1) {
		it := randomItem(rng)
		if id := fmt.Sprint(it.Output, it.Key); !seen[id] {
			seen[id] = true
			items = append(items, it)
		}
	}
	return Epoch(seq, items...)
}

func randomItem(rng *rand.Rand) sinks.Item {
	deleted := rng.IntN(3) == 0
	if rng.IntN(2) == 0 {
		id := rng.IntN(40)
		if deleted {
			return Del(Accounts, id)
		}
		var name any
		if rng.IntN(4) > 0 {
			name = awkward[rng.IntN(len(awkward))]
		}
		return Put(Accounts, id, name, fmt.Sprintf("%d.%0*d", rng.IntN(9), 1+rng.IntN(2), 0))
	}
	var region any
	if rng.IntN(3) > 0 {
		region = awkward[rng.IntN(len(awkward))]
	}
	city := awkward[rng.IntN(len(awkward))]
	if deleted {
		return Del(Places, region, city)
	}
	return Put(Places, region, city, rng.IntN(3))
}

// awkward are texts that quoting, escaping and joining get wrong.
var awkward = []string{
	"", "a", "null", `\N`, `\.`, "tab\there", "line\nbreak", "cr\rlf\n", `back\slash`, `{"a",b}`, "it's", `"q"`,
	"żółć 漢字 🦀", "'; DROP TABLE accounts; --", "a|b",
}

// WholeOf is an epoch that reconciles to what a model holds.
func WholeOf(seq uint64, m Model, outputs ...sinks.Output) sinks.Epoch {
	var items []sinks.Item
	for _, o := range outputs {
		for _, row := range m[o.ID] {
			columns := make([]any, len(row))
			for i, c := range row {
				if c != Null || !o.Columns[i].Nullable {
					columns[i] = c
				}
			}
			items = append(items, Put(o, columns...))
		}
	}
	return Whole(Epoch(seq, items...))
}
