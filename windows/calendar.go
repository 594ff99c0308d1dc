package windows

import (
	"fmt"
	"math"
	"time"

	"github.com/tailrace/tailrace/record"
)

// CalendarWindow is a sequence of adjoining days, weeks or months of a calendar, which
// are not all of one length. Make it with Days, Weeks or Months.
type CalendarWindow struct {
	unit  calendarUnit
	loc   *time.Location
	first time.Weekday
	grace grace
}

type calendarUnit uint8

const (
	calendarNone calendarUnit = iota
	calendarDay
	calendarWeek
	calendarMonth
)

// Days are the days of a place, midnight to midnight by its clocks: 23 or 25 hours long
// where clocks are changed. Where there is no midnight on such a day, it begins when the
// clocks are changed. A nil location is UTC.
//
// Results depend on the time zone database that the program finds: keep it the same on
// all hosts, for instance by importing time/tzdata.
func Days(loc *time.Location) CalendarWindow { return CalendarWindow{unit: calendarDay, loc: loc} }

// Weeks are the weeks of a place, from Monday on; see Days.
func Weeks(loc *time.Location) CalendarWindow {
	return CalendarWindow{unit: calendarWeek, loc: loc, first: time.Monday}
}

// Months are the months of a place; see Days.
func Months(loc *time.Location) CalendarWindow { return CalendarWindow{unit: calendarMonth, loc: loc} }

// From makes weeks begin on another day than Monday.
func (c CalendarWindow) From(first time.Weekday) CalendarWindow {
	c.first = first
	return c
}

// Grace says how long after its end a window still takes records, measured by
// stream time.
func (c CalendarWindow) Grace(d time.Duration) CalendarWindow {
	c.grace = graceOf(d)
	return c
}

// Validate reports what is wrong with the definition, nil if nothing is.
func (c CalendarWindow) Validate() error {
	if c.unit == calendarNone {
		return fmt.Errorf("windows: the zero CalendarWindow was given; use Days, Weeks or Months")
	}
	return c.grace.validate()
}

// Of returns the window that a time falls into.
func (c CalendarWindow) Of(at int64) Window {
	y, m, d := time.UnixMicro(at).In(c.location()).Date()
	switch c.unit {
	case calendarWeek:
		weekday := time.Date(y, m, d, 12, 0, 0, 0, time.UTC).Weekday()
		d -= int(weekday-c.first+7) % 7
	case calendarMonth:
		d = 1
	}
	// Clocks that are put back over midnight show a date again: that belongs to the next
	// window, which has begun.
	for {
		y2, m2, d2 := c.next(y, m, d)
		w := Window{Start: c.begin(y, m, d), End: c.begin(y2, m2, d2)}
		if at < w.End || w.End == math.MaxInt64 { // beyond which there are no days
			return w
		}
		y, m, d = y2, m2, d2
	}
}

func (c CalendarWindow) location() *time.Location {
	if c.loc == nil {
		return time.UTC
	}
	return c.loc
}

// next is the first day of the window after the one that begins on a day.
func (c CalendarWindow) next(y int, m time.Month, d int) (int, time.Month, int) {
	switch c.unit {
	case calendarWeek:
		return y, m, d + 7
	case calendarMonth:
		return y, m + 1, d
	}
	return y, m, d + 1
}

// begin is when a day begins: the first moment at which the clocks show its midnight or
// later. Where they are put forward over midnight that is the change, and where they are
// put back to it, or over it, the first time that they show it.
func (c CalendarWindow) begin(y int, m time.Month, d int) int64 {
	midnight := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	t := midnight.Add(-26 * time.Hour).In(c.location()) // before midnight, wherever that is
	for {
		_, offset := t.Zone()
		_, changed := t.ZoneBounds()
		at := midnight.Add(-time.Duration(offset) * time.Second)
		if at.Before(t) {
			at = t
		}
		// A bound that is not behind t is none: so it is at the ends of some years beyond the
		// changes that a zone lists.
		if !changed.After(t) || at.Before(changed) {
			return record.Micros(at)
		}
		t = changed
	}
}

// Assign appends the window that a time falls into.
func (c CalendarWindow) Assign(dst []Window, at int64) []Window { return append(dst, c.Of(at)) }

// HasGrace reports whether a grace was given.
func (c CalendarWindow) HasGrace() bool { return c.grace.given }

// Closes returns the stream time from which on a window takes no more records: its end
// plus grace.
func (c CalendarWindow) Closes(w Window) int64 { return addTime(w.End, c.grace.span) }

// String prints the definition, as describe shows it.
func (c CalendarWindow) String() string {
	s := [...]string{"no calendar", "days", "weeks", "months"}[c.unit]
	if c.unit == calendarWeek && c.first != time.Monday {
		s += " from " + c.first.String()
	}
	return s + " " + c.location().String() + c.grace.suffix()
}
