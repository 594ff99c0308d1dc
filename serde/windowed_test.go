package serde_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/tailrace/tailrace/serde"
	"github.com/tailrace/tailrace/windows"
)

// TestOutWindowedPlan writes keys in windows: moments before what a timestamptz holds are
// infinite, and a key may not have a column of the window's names.
func TestOutWindowedPlan(t *testing.T) {
	type place struct {
		Room  string
		Floor *int32
	}
	p, err := serde.OutWindowedPlanOf[windows.Windowed[place]]()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(p.OutColumns()); got !=
		"[{room text false} {floor integer true} {window_start timestamptz false} {window_end timestamptz false}]" {
		t.Error(got)
	}
	for want, w := range map[string]windows.Window{
		"[1970-01-01 00:00:00+00 1970-01-01 00:15:00.000001+00]": {Start: 0, End: 900_000_001},
		"[-infinity 294247-01-10 04:00:54.775807+00]":            {Start: math.MinInt64, End: math.MaxInt64},
		"[-infinity 1969-12-31 23:59:59.999999+00]":              {Start: -250_000_000_000_000_000, End: -1},
	} {
		key := windows.Windowed[place]{Key: place{Room: "attic"}, Window: w}
		var got []string
		for column := 2; column < 4; column++ {
			text, _ := p.AppendText(nil, column, &key)
			got = append(got, string(text))
		}
		if fmt.Sprint(got) != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	type taken struct {
		End string `db:"window_end"`
	}
	if _, err := serde.OutWindowedPlanOf[windows.Windowed[taken]](); err == nil {
		t.Error("two columns of one name")
	}
}
