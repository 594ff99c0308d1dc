package windows

import (
	"fmt"
	"math"
	"time"

	"github.com/tailrace/tailrace/record"
)

// Definition is what all kinds of windows have in common.
type Definition interface {
	// Validate reports everything that is wrong with the definition, nil if nothing is.
	Validate() error
	// Closes returns the stream time from which on a window takes no more records: its
	// end plus grace, in Unix microseconds; math.MaxInt64 if it never closes.
	Closes(w Window) int64
	// String prints the definition, as describe shows it.
	String() string
}

// Assigner is a Definition whose windows follow from the time of a record alone:
// Tumbling, Hopping and Calendar, and any of your own. (Which sliding and session
// windows there are depends on the records.)
type Assigner interface {
	Definition
	// Assign appends the windows that contain a time to dst, in ascending order.
	Assign(dst []Window, at int64) []Window
	// HasGrace reports whether a grace was given, even one of 0: windows over tables
	// close only then.
	HasGrace() bool
}

// Same reports whether two definitions make the same windows, whatever their graces.
// Definitions of other packages are told apart by what they print.
func Same(a, b Definition) bool { return withoutGrace(a) == withoutGrace(b) }

func withoutGrace(d Definition) string {
	switch w := d.(type) {
	case TumblingWindow:
		return w.Grace(0).String()
	case HoppingWindow:
		return w.Grace(0).String()
	case SlidingWindow:
		return w.Grace(0).String()
	case SessionWindow:
		return w.Grace(0).String()
	case CalendarWindow:
		return w.Grace(0).String()
	}
	return d.String()
}

// Closed reports whether a window takes no more records at the given stream time.
func Closed(d Definition, w Window, streamTime int64) bool {
	closes := d.Closes(w)
	return streamTime >= closes && closes != math.MaxInt64
}

// grace is how long after its end a window takes records, and whether it was said.
type grace struct {
	span  int64
	given bool
	spans
}

func graceOf(d time.Duration) grace {
	g := grace{given: true}
	g.span = g.of(d)
	return g
}

func (g grace) validate() error {
	if g.span < 0 {
		return fmt.Errorf("windows: grace is %v; it must not be negative", micros(g.span))
	}
	return g.spans.validate()
}

// spans remembers the first span of a definition that event times cannot tell.
type spans struct{ finer time.Duration }

// of returns a span in microseconds.
func (s *spans) of(d time.Duration) int64 {
	n, whole := record.SpanMicros(d)
	if !whole && s.finer == 0 {
		s.finer = d
	}
	return n
}

func (s spans) validate() error {
	if s.finer != 0 {
		return fmt.Errorf("windows: %v was given; times are whole microseconds, so give a multiple of one", s.finer)
	}
	return nil
}

// suffix prints the grace behind a definition.
func (g grace) suffix() string {
	if g.span == 0 {
		return ""
	}
	return " grace " + micros(g.span).String()
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// addTime adds a span, which may be negative, to a time, within the times that there are.
func addTime(at, span int64) int64 {
	switch {
	case span > 0 && at > math.MaxInt64-span:
		return math.MaxInt64
	case span < 0 && at < math.MinInt64-span:
		return math.MinInt64
	}
	return at + span
}
