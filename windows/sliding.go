package windows

import (
	"errors"
	"fmt"
	"time"
)

// SlidingWindow is the windows of one length that differ in what they hold. Make it
// with Sliding.
type SlidingWindow struct {
	difference int64
	grace      grace
	spans
}

// Sliding makes a window for each group of records of a key that lie at most
// difference apart: the window that ends with a record, [time-difference, time], and
// the one that begins right behind it, [time+1, time+1+difference], where records are
// in it. Both ends of a window belong to it. Records between the epoch and difference
// after it share the window [0, difference], as in Kafka Streams.
//
// A window takes records up to and including stream time end plus grace; grace
// defaults to 0.
func Sliding(difference time.Duration) SlidingWindow {
	var s SlidingWindow
	s.difference = s.of(difference)
	return s
}

// Grace says how long after its end a window still takes records, measured by
// stream time.
func (s SlidingWindow) Grace(d time.Duration) SlidingWindow {
	s.grace = graceOf(d)
	return s
}

// Validate reports what is wrong with the definition, nil if nothing is.
func (s SlidingWindow) Validate() error {
	var errs []error
	if s.difference < 0 {
		errs = append(errs, fmt.Errorf("windows: difference is %v; it must not be negative",
			micros(s.difference)))
	}
	if len(errs) == 0 {
		errs = append(errs, s.spans.validate())
	}
	return errors.Join(append(errs, s.grace.validate())...)
}

// Difference is the largest distance of two records of a window, in microseconds.
func (s SlidingWindow) Difference() int64 { return s.difference }

// EndingAt returns the window that ends with a record at the given time.
func (s SlidingWindow) EndingAt(at int64) Window {
	if at >= 0 && at < s.difference {
		return Window{Start: 0, End: s.difference}
	}
	return Window{Start: addTime(at, -s.difference), End: at}
}

// After returns the window that begins right behind a record at the given time.
func (s SlidingWindow) After(at int64) Window {
	start := addTime(at, 1)
	return Window{Start: start, End: addTime(start, s.difference)}
}

// Closes returns the stream time from which on a window takes no more records, the
// first one after its end plus grace, as in Kafka Streams.
func (s SlidingWindow) Closes(w Window) int64 { return addTime(addTime(w.End, s.grace.span), 1) }

// String prints the definition, as describe shows it.
func (s SlidingWindow) String() string {
	return "sliding " + micros(s.difference).String() + s.grace.suffix()
}
