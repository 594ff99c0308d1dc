package postgres

import (
	"slices"
	"testing"

	"github.com/tailrace/tailrace/internal/pgoutput"
)

// TestNumbers tells which columns a description of transaction 100 is of.
func TestNumbers(t *testing.T) {
	live := func(number int16, stamp uint32) attribute { return attribute{number: number, stamp: stamp} }
	gone := func(number int16, stamp uint32) attribute { return attribute{number, stamp, true} }
	const before, same, after = 50, 100, 150
	for _, c := range []struct {
		name    string
		columns int
		now     []attribute
		want    []int16
	}{
		{"as they are", 3, []attribute{live(1, before), live(2, before), live(3, before)}, []int16{1, 2, 3}},
		{"renamed since, or then", 3, []attribute{live(1, after), live(2, same), live(3, after)}, []int16{1, 2, 3}},
		{"one added since", 2, []attribute{live(1, before), live(2, before), live(3, after)}, []int16{1, 2}},
		{"one dropped before", 2, []attribute{live(1, before), gone(2, before), live(3, before)}, []int16{1, 3}},
		{"one dropped since", 3, []attribute{live(1, before), gone(2, after), live(3, before)}, []int16{1, 2, 3}},
		{"dropped before and since", 3,
			[]attribute{live(1, before), gone(2, before), live(3, before), gone(4, after)}, []int16{1, 3, 4}},
		{"dropped since, and another added since", 2, []attribute{live(1, before), gone(2, after), live(3, after)},
			[]int16{1, 2}},
		{"dropped before, and another added in it", 2, []attribute{live(1, before), gone(2, before), live(3, same)},
			[]int16{1, 3}},
		{"dropped then, and another added then", 2, []attribute{live(1, before), gone(2, same), live(3, same)},
			[]int16{1, unknownNumber}},
		{"dropped then, and another was there", 2, []attribute{live(1, before), gone(2, same), live(3, before)},
			[]int16{1, 3}},
		{"dropped by a transaction that began before", 3,
			[]attribute{live(1, before), gone(2, 99), live(3, before)}, []int16{1, 2, 3}},
		{"more than there were", 3, []attribute{live(1, before), live(2, before)},
			[]int16{unknownNumber, unknownNumber, unknownNumber}},
		{"fewer than there were", 1, []attribute{live(1, before), live(2, before)}, []int16{1}},
		{"a table that is gone", 1, nil, []int16{unknownNumber}},
		{"frozen", 2, []attribute{live(1, 2), gone(2, 2), live(3, 2)}, []int16{1, 3}},
	} {
		if got := numbers(make([]pgoutput.Column, c.columns), same, c.now); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
