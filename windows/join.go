package windows

import (
	"errors"
	"fmt"
	"time"
)

// JoinWindow says how far apart in event time the records of two streams may lie to be
// joined: a left record joins the right ones from Before before its own time up to
// After after it, both ends included. Make it with Within.
type JoinWindow struct {
	before, after, grace int64
	spans
}

// Within joins records that are at most d apart, whichever comes first. Grace is 0.
func Within(d time.Duration) JoinWindow {
	var w JoinWindow
	w.before, w.after = w.of(d), w.of(d)
	return w
}

// Before says how much earlier than the left record the right one may be. Together
// with After it may be negative: Before(-time.Minute) asks for right records that are
// at least a minute later.
func (w JoinWindow) Before(d time.Duration) JoinWindow {
	w.before = w.of(d)
	return w
}

// After says how much later than the left record the right one may be.
func (w JoinWindow) After(d time.Duration) JoinWindow {
	w.after = w.of(d)
	return w
}

// Grace says how long after its end a record's window still takes records that come
// out of order, measured by stream time. It defaults to 0.
func (w JoinWindow) Grace(d time.Duration) JoinWindow {
	w.grace = w.of(d)
	return w
}

// Validate reports everything that is wrong with the window, nil if nothing is.
func (w JoinWindow) Validate() error {
	var errs []error
	if w.before+w.after < 0 {
		errs = append(errs, fmt.Errorf("windows: a join window from %v before to %v after a record holds nothing; "+
			"the sum of Before and After must not be negative", micros(w.before), micros(w.after)))
	}
	if w.grace < 0 {
		errs = append(errs, fmt.Errorf("windows: grace is %v; it must not be negative", micros(w.grace)))
	}
	return errors.Join(append(errs, w.spans.validate())...)
}

// String prints the window, as describe shows it.
func (w JoinWindow) String() string {
	s := "within " + micros(w.before).String()
	if w.before != w.after {
		s = fmt.Sprintf("from %v before to %v after", micros(w.before), micros(w.after))
	}
	if w.grace != 0 {
		s += " grace " + micros(w.grace).String()
	}
	return s
}

// Mirror is the window as the right records see it.
func (w JoinWindow) Mirror() JoinWindow {
	w.before, w.after = w.after, w.before
	return w
}

// Range returns the first and the last time of the records that a record of the given
// time joins, all in Unix microseconds.
func (w JoinWindow) Range(at int64) (first, last int64) {
	return addTime(at, -w.before), addTime(at, w.after)
}

// Closes returns the stream time from which on a record of the given time is known to
// have found all that is in time for it: the first one after at + After + Grace.
func (w JoinWindow) Closes(at int64) int64 {
	return addTime(addTime(at, w.after+w.grace), 1)
}

// Late reports whether a record of the given time comes too late to join anything: its
// window was closed at the given stream time. Of a window that lies before its record
// the record's own time counts, so that nothing in order is late.
func (w JoinWindow) Late(at, streamTime int64) bool {
	return addTime(at, max(w.after, 0)+w.grace) < streamTime
}

// Expires returns the stream time from which on no record that is in time joins one of
// the given time any more.
func (w JoinWindow) Expires(at int64) int64 {
	return addTime(addTime(at, w.after+max(w.before, 0)+w.grace), 1)
}
