package windows_test

import (
	"math"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"

	"github.com/tailrace/tailrace/windows"
)

// places change their clocks at night, at midnight (no midnight, or two), over it, or never.
var places = []string{
	"UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Beirut", "America/Havana", "Pacific/Apia",
	"Asia/Amman", "Asia/Colombo",
}

func place(t interface{ Fatal(...any) }, name string) *time.Location {
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// TestCalendarWindowsAdjoin: each time is in one window, which is that of all times in
// it, begins on a first day, and ends where the next one begins.
func TestCalendarWindowsAdjoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		loc := place(t, rapid.SampledFrom(places).Draw(t, "place"))
		kind := rapid.SampledFrom([]func(*time.Location) windows.CalendarWindow{
			windows.Days, windows.Weeks, windows.Months,
		}).Draw(t, "kind")
		c := kind(loc)
		from, to := time.Date(1990, 1, 1, 0, 0, 0, 0, loc), time.Date(2030, 1, 1, 0, 0, 0, 0, loc)
		at := rapid.Int64Range(from.UnixMicro(), to.UnixMicro()).Draw(t, "at")
		for range 200 {
			w := c.Of(at)
			if at < w.Start || at >= w.End {
				t.Fatalf("%s: %s is not in its window %s", c, time.UnixMicro(at).In(loc), w)
			}
			if c.Of(w.Start) != w || c.Of(w.End-1) != w || c.Of(w.End).Start != w.End {
				t.Fatalf("%s: the ends of %s are in other windows: %s, %s; the next one is %s",
					c, w, c.Of(w.Start), c.Of(w.End-1), c.Of(w.End))
			}
			start := time.UnixMicro(w.Start).In(loc)
			before := time.UnixMicro(w.Start - 1).In(loc)
			if start.Hour() > 1 || start.Day() == before.Day() {
				t.Fatalf("%s: a window begins at %s, a moment after %s", c, start, before)
			}
			at = w.End
		}
	})
}

// TestCalendarChanges asks for times around each change of the clocks, where windows are
// easily got wrong.
func TestCalendarChanges(t *testing.T) {
	for _, name := range append([]string{"Antarctica/Casey", "Antarctica/Vostok"}, places...) { // by hours
		loc := place(t, name)
		change := time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC).In(loc)
		for change.Year() < 2030 {
			_, next := change.ZoneBounds()
			if !next.After(change) {
				break
			}
			change = next
			for m := -180; m <= 180; m += 15 {
				at := change.Add(time.Duration(m) * time.Minute).UnixMicro()
				for _, c := range []windows.CalendarWindow{windows.Days(loc), windows.Weeks(loc), windows.Months(loc)} {
					w := c.Of(at)
					if at < w.Start || at >= w.End || c.Of(w.Start) != w || c.Of(w.End-1) != w ||
						c.Of(w.End).Start != w.End {
						t.Errorf("%s: the window of %s is %s", c, time.UnixMicro(at).In(loc), w)
					}
				}
			}
		}
	}
}

func TestCalendarDays(t *testing.T) {
	for _, c := range []struct {
		place string
		day   string
		start string
		hours int
	}{
		{"UTC", "2026-03-29", "2026-03-29T00:00:00Z", 24},
		{"Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00Z", 23},
		{"Europe/Berlin", "2026-10-25", "2026-10-24T22:00:00Z", 25},
		// Clocks go from 00:00 to 01:00: there is no midnight.
		{"America/Sao_Paulo", "2017-10-15", "2017-10-15T03:00:00Z", 23},
		// Clocks go from 24:00 back to 23:00 of the day before.
		{"America/Sao_Paulo", "2018-02-17", "2018-02-17T02:00:00Z", 25},
		{"Asia/Beirut", "2022-03-27", "2022-03-26T22:00:00Z", 23},
	} {
		loc := place(t, c.place)
		noon, err := time.ParseInLocation("2006-01-02 15", c.day+" 12", loc)
		if err != nil {
			t.Fatal(err)
		}
		w := windows.Days(loc).Of(noon.UnixMicro())
		hours := int(w.EndTime().Sub(w.StartTime()) / time.Hour)
		if got := w.StartTime().Format(time.RFC3339); got != c.start || hours != c.hours {
			t.Errorf("%s in %s begins at %s and has %d hours, want %s and %d",
				c.day, c.place, got, hours, c.start, c.hours)
		}
	}
}

func TestCalendarWeeksAndMonths(t *testing.T) {
	berlin := place(t, "Europe/Berlin")
	at := time.Date(2026, 10, 25, 23, 30, 0, 0, berlin) // a Sunday, the last Sunday of summer time
	for _, c := range []struct {
		def      windows.CalendarWindow
		from, to string
		text     string
	}{
		{windows.Weeks(berlin), "2026-10-19", "2026-10-26", "weeks Europe/Berlin"},
		{windows.Weeks(berlin).From(time.Sunday), "2026-10-25", "2026-11-01", "weeks from Sunday Europe/Berlin"},
		{windows.Months(berlin).Grace(time.Hour), "2026-10-01", "2026-11-01", "months Europe/Berlin grace 1h0m0s"},
		{windows.Days(nil), "2026-10-25", "2026-10-26", "days UTC"},
	} {
		w := c.def.Of(at.UnixMicro())
		loc := berlin
		if c.def.String() == "days UTC" {
			loc = time.UTC
		}
		from, to := w.StartTime().In(loc).Format(time.DateTime), w.EndTime().In(loc).Format(time.DateTime)
		if from != c.from+" 00:00:00" || to != c.to+" 00:00:00" {
			t.Errorf("%s: the window is %s to %s, want %s to %s", c.def, from, to, c.from, c.to)
		}
		if c.def.String() != c.text {
			t.Errorf("String is %q, want %q", c.def, c.text)
		}
	}
	if err := (windows.CalendarWindow{}).Validate(); err == nil {
		t.Error("the zero value is valid")
	}
	if err := windows.Days(nil).Grace(-1e9).Validate(); err == nil {
		t.Error("a negative grace is valid")
	}
}

// TestCalendarEnds: time has ends, at which there are windows, too.
func TestCalendarEnds(t *testing.T) {
	for _, c := range []windows.CalendarWindow{windows.Days(nil), windows.Weeks(nil), windows.Months(nil)} {
		for _, at := range []int64{math.MinInt64 + 1, math.MaxInt64 - 1, math.MaxInt64} {
			if w := c.Of(at); w.Start > at || w.Start >= w.End || at >= w.End && w.End != math.MaxInt64 {
				t.Errorf("%s: %d is in window %d to %d", c, at, w.Start, w.End)
			}
		}
	}
}
