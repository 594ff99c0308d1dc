package sinks

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/windows"
)

// windowTaker is a connector that takes windows as columns.
type windowTaker struct{ Connector }

func (windowTaker) TakesWindowColumns() {}

// TestFormsOfWindows decodes one row of the queue for both kinds of connectors.
func TestFormsOfWindows(t *testing.T) {
	type place struct {
		Room  string
		Floor int32
	}
	type value struct {
		Floor  int32 // the key's, where that has columns
		Window string
		N      int64
	}
	e, err := newRowEncoder[windows.Windowed[place], value]()
	if err != nil {
		t.Fatal(err)
	}
	s := e.spec(nil, "t", nil)
	c := record.Change[windows.Windowed[place], value]{Sides: record.HasNew, New: value{1, "w", 5}}
	c.Key = windows.Windowed[place]{Key: place{"attic", 3}, Window: windows.Window{Start: -1, End: 2_000_000}}
	row, err := e.append(nil, &c)
	if err != nil {
		t.Fatal(err)
	}
	c.Sides = record.HasOld
	gone, err := e.append(nil, &c)
	if err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]*Spec{
		`[key window floor n] 2 [{"room":"attic","floor":3} {"start":-1,"end":2000000} 1 5]`: s.For(nil),
		`[room floor window_start window_end window n] 4 [attic 3 1969-12-31 23:59:59.999999+00 ` +
			`1970-01-01 00:00:02+00 w 5]`: s.For(windowTaker{}),
	} {
		var names []string
		for _, c := range s.Output.Columns {
			names = append(names, c.Name)
		}
		columns, deleted, err := s.Row(row, nil)
		if got := fmt.Sprintf("%s %d %s", names, s.Output.KeyLen, columns); err != nil || deleted || got != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
		keys, deleted, err := s.Row(gone, nil)
		if err != nil || !deleted || !slices.EqualFunc(keys, columns[:s.Output.KeyLen], slices.Equal[[]byte]) {
			t.Errorf("deleted: %s, %v", keys, err)
		}
		for n := range row {
			if _, _, err := s.Row(row[:n], nil); err == nil && n > 0 {
				t.Errorf("a row that is cut after %d of %d bytes is taken", n, len(row))
			}
		}
	}
}
