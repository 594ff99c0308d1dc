package postgres

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/pgoutput"
	"github.com/tailrace/tailrace/record"
)

// TestNumbers tells which columns a description of transaction 100 is of. Number n is
// called by the letter n now.
func TestNumbers(t *testing.T) {
	live := func(number int16, stamp uint32) attribute {
		return attribute{number: number, name: string(rune('a' + number - 1)), stamp: stamp}
	}
	gone := func(number int16, stamp uint32) attribute {
		return attribute{number: number, stamp: stamp, dropped: true}
	}
	const before, same, after, unknown = 50, 100, 150, unknownNumber
	for _, c := range []struct {
		name, columns string
		now           []attribute
		want          []int16
	}{
		{"as they are", "a b c", []attribute{live(1, before), live(2, before), live(3, before)},
			[]int16{1, 2, 3}},
		{"renamed since, or then", "a x y", []attribute{live(1, before), live(2, same), live(3, after)},
			[]int16{1, 2, 3}},
		{"one added since", "a b", []attribute{live(1, before), live(2, before), live(3, after)}, []int16{1, 2}},
		{"one dropped before", "a c", []attribute{live(1, before), gone(2, before), live(3, before)},
			[]int16{1, 3}},
		{"one dropped since", "a x c", []attribute{live(1, before), gone(2, after), live(3, before)},
			[]int16{1, 2, 3}},
		{"dropped before and since", "a c x",
			[]attribute{live(1, before), gone(2, before), live(3, before), gone(4, after)}, []int16{1, 3, 4}},
		{"dropped and another added, since or by who came first or by a part of it", "a c",
			[]attribute{live(1, before), gone(2, after), live(3, after)}, []int16{1, unknown}},
		{"the same of the third of four", "a x c d e",
			[]attribute{live(1, before), gone(2, after), live(3, before), live(4, before), live(5, after),
				live(6, after)},
			[]int16{1, 2, 3, 4, 5}},
		{"one dropped that never was in the log", "a c",
			[]attribute{live(1, before), gone(2, after), live(3, before)}, []int16{1, 3}},
		{"one of two dropped since", "a x d",
			[]attribute{live(1, before), gone(2, after), gone(3, after), live(4, before)}, []int16{1, unknown, 4}},
		{"dropped before, and another added in it", "a c",
			[]attribute{live(1, before), gone(2, before), live(3, same)}, []int16{1, 3}},
		{"dropped then, and another added then", "a c",
			[]attribute{live(1, before), gone(2, same), live(3, same)}, []int16{1, unknown}},
		{"dropped then, and another was there", "a c",
			[]attribute{live(1, before), gone(2, same), live(3, before)}, []int16{1, 3}},
		{"dropped by a transaction that began before", "a x c",
			[]attribute{live(1, before), gone(2, 99), live(3, before)}, []int16{1, 2, 3}},
		{"renamed by a transaction that began before", "a b",
			[]attribute{{number: 1, name: "b", stamp: 99}, {number: 2, name: "a", stamp: 99}}, []int16{1, 2}},
		{"more than there were", "a b c", []attribute{live(1, before), live(2, before)},
			[]int16{unknown, unknown, unknown}},
		{"fewer than there were", "a", []attribute{live(1, before), live(2, before)}, []int16{1}},
		{"a table that is gone", "a", nil, []int16{unknown}},
		{"frozen", "a c", []attribute{live(1, frozen), gone(2, frozen), live(3, frozen)}, []int16{1, 3}},
	} {
		var columns []pgoutput.Column
		for _, name := range strings.Fields(c.columns) {
			columns = append(columns, pgoutput.Column{Name: name})
		}
		if got := numbers(columns, same, c.now); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestStampOf compares stamps of all ages with a transaction of now.
func TestStampOf(t *testing.T) {
	for _, next := range []uint32{1000, 1 << 31, math.MaxUint32 - 5} {
		for _, ago := range []uint32{0, 1, 500, 1 << 29, 1<<30 + 1, 1<<31 - 1, 1 << 31, 3 << 30,
			math.MaxUint32 - 3} {
			stamp := stampOf(next-ago, int32(ago))
			if got := older(stamp, next); got != (ago > 0) {
				t.Errorf("at %d a stamp of %d transactions ago is older: %v", next, ago, got)
			}
		}
	}
}

// Rows of before generated columns were published, and of after they were, are told by the names
// that are there.
func TestNumbersOfGenerated(t *testing.T) {
	stored := func(number int16, name string) column {
		return column{Column: record.Column{Number: number, Name: name}, generated: 's', altered: 5}
	}
	plain := func(number int16, name string) column {
		return column{Column: record.Column{Number: number, Name: name}, altered: 5}
	}
	middle := []column{plain(1, "a"), stored(2, "g"), plain(3, "b")}
	two := []column{plain(1, "a"), stored(2, "g"), stored(3, "h")}
	last := []column{plain(1, "a"), stored(3, "g")}
	gone := attribute{number: 2, stamp: 20, dropped: true}
	for name, c := range map[string]struct {
		generated bool
		columns   []column
		dropped   []attribute
		described string
		want      []int16
	}{
		"as now":                {true, middle, nil, "a g b", []int16{1, 2, 3}},
		"of before":             {true, middle, nil, "a b", []int16{1, 3}},
		"of after":              {false, middle, nil, "a g b", []int16{1, 2, 3}},
		"one of two":            {true, two, nil, "a g", []int16{1, 2}},
		"renamed":               {true, middle, nil, "a f b", []int16{1, 2, 3}},
		"another was there":     {true, last, []attribute{gone}, "a b g", []int16{1, 2, 3}},
		"another, and g hidden": {false, last, []attribute{gone}, "a b", []int16{1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			d := &catalogDescriber{generated: map[uint32]bool{7: c.generated}, listed: map[uint32]bool{}}
			m := pgoutput.RelationMessage{OID: 7}
			for _, n := range strings.Fields(c.described) {
				m.Columns = append(m.Columns, pgoutput.Column{Name: n})
			}
			now := &table{oid: 7, columns: c.columns}
			if got := d.numbers(m, 10, now, c.dropped); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
