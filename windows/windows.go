// Package windows holds the windows of the DSL as values and their arithmetic.
// It knows no clock: time is the event time of records, and stream time the
// largest event time seen.
//
// All times are Unix microseconds, the resolution of PostgreSQL's timestamps.
package windows

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Window is a stretch of time, Start included and End not, in Unix microseconds.
type Window struct{ Start, End int64 }

// StartTime returns the window's start in UTC.
func (w Window) StartTime() time.Time { return time.UnixMicro(w.Start).UTC() }

// EndTime returns the window's end in UTC.
func (w Window) EndTime() time.Time { return time.UnixMicro(w.End).UTC() }

// String prints the window as [start,end) in RFC 3339.
func (w Window) String() string {
	return fmt.Sprintf("[%s,%s)", w.StartTime().Format(time.RFC3339Nano), w.EndTime().Format(time.RFC3339Nano))
}

// Windowed is a key in a window: the key type of windowed tables. Keys order by
// key first and then by window.
type Windowed[K comparable] struct {
	Key    K
	Window Window
}

// TumblingWindow is a sequence of adjoining windows of one size. Make it with
// Tumbling.
type TumblingWindow struct {
	size, offset, grace int64
}

// Tumbling divides time into windows of the given size, aligned to the Unix epoch
// in UTC. Records later than their window's end plus grace are dropped and
// counted; grace defaults to 0.
func Tumbling(size time.Duration) TumblingWindow {
	return TumblingWindow{size: size.Microseconds()}
}

// Grace says how long after its end a window still takes records, measured by
// stream time.
func (t TumblingWindow) Grace(d time.Duration) TumblingWindow {
	t.grace = d.Microseconds()
	return t
}

// Offset shifts the alignment, for instance by a fixed zone's distance to UTC.
func (t TumblingWindow) Offset(d time.Duration) TumblingWindow {
	t.offset = d.Microseconds()
	return t
}

// Validate reports what is wrong with the definition, nil if nothing is.
func (t TumblingWindow) Validate() error {
	var errs []error
	if t.size <= 0 {
		errs = append(errs, fmt.Errorf("windows: size is %v; it must be at least a microsecond",
			time.Duration(t.size)*time.Microsecond))
	}
	if t.grace < 0 {
		errs = append(errs, fmt.Errorf("windows: grace is %v; it must not be negative",
			time.Duration(t.grace)*time.Microsecond))
	}
	return errors.Join(errs...)
}

// Of returns the window that a time falls into. The first and the last window that
// there are may be shorter than the others.
func (t TumblingWindow) Of(at int64) Window {
	rest := at%t.size - t.offset%t.size
	switch {
	case rest < 0:
		rest += t.size
	case rest >= t.size:
		rest -= t.size
	}
	if rest < 0 {
		rest += t.size
	}
	w := Window{Start: at - rest, End: at - rest + t.size}
	if w.Start > at {
		w = Window{Start: math.MinInt64, End: w.End}
	}
	if w.End <= at {
		w.End = math.MaxInt64
	}
	return w
}

// Closes returns the stream time from which on a window takes no more records: its end
// plus grace, as in Kafka Streams.
func (t TumblingWindow) Closes(w Window) int64 { return addTime(w.End, t.grace) }

// Closed reports whether a window takes no more records at the given stream time.
func (t TumblingWindow) Closed(w Window, streamTime int64) bool {
	return Closed(t, w, streamTime)
}

// addTime adds a span that is not negative to a time, up to the largest time there is.
func addTime(at, span int64) int64 {
	if at > math.MaxInt64-span {
		return math.MaxInt64
	}
	return at + span
}

// String prints the definition, as describe shows it.
func (t TumblingWindow) String() string {
	s := "tumbling " + (time.Duration(t.size) * time.Microsecond).String()
	if t.grace != 0 {
		s += " grace " + (time.Duration(t.grace) * time.Microsecond).String()
	}
	if t.offset != 0 {
		s += " offset " + (time.Duration(t.offset) * time.Microsecond).String()
	}
	return s
}
