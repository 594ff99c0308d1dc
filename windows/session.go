package windows

import (
	"errors"
	"fmt"
	"time"
)

// SessionWindow is windows of activity, which end after a gap without any. Make it
// with Session.
type SessionWindow struct {
	gap   int64
	grace grace
	spans
}

// Session makes a window of all records of a key that follow one another at most gap
// apart. It reaches from the first record to the last one, both included; a record
// that lies between two sessions, or close to one, makes them one session.
//
// A session takes records up to and including stream time last record plus gap plus
// grace; grace defaults to 0.
func Session(gap time.Duration) SessionWindow {
	var s SessionWindow
	s.gap = s.of(gap)
	return s
}

// Grace says how long after its end and the gap a session still takes records,
// measured by stream time.
func (s SessionWindow) Grace(d time.Duration) SessionWindow {
	s.grace = graceOf(d)
	return s
}

// Validate reports what is wrong with the definition, nil if nothing is.
func (s SessionWindow) Validate() error {
	var errs []error
	if s.gap <= 0 {
		errs = append(errs, fmt.Errorf("windows: gap is %v; it must be at least a microsecond", micros(s.gap)))
	}
	if len(errs) == 0 {
		errs = append(errs, s.spans.validate())
	}
	return errors.Join(append(errs, s.grace.validate())...)
}

// Around returns from and to when a session's records may be for a record at the given
// time to belong to it.
func (s SessionWindow) Around(at int64) Window {
	return Window{Start: addTime(at, -s.gap), End: addTime(at, s.gap)}
}

// Closes returns the stream time from which on a session takes no more records, the
// first one after its end plus gap plus grace, as in Kafka Streams.
func (s SessionWindow) Closes(w Window) int64 {
	return addTime(addTime(addTime(w.End, s.gap), s.grace.span), 1)
}

// String prints the definition, as describe shows it.
func (s SessionWindow) String() string { return "session " + micros(s.gap).String() + s.grace.suffix() }
