package windows

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// TumblingWindow is a sequence of adjoining windows of one size. Make it with
// Tumbling.
type TumblingWindow struct {
	size, offset int64
	grace        grace
	spans
}

// Tumbling divides time into windows of the given size, aligned to the Unix epoch
// in UTC. Records later than their window's end plus grace are dropped and
// counted; grace defaults to 0.
func Tumbling(size time.Duration) TumblingWindow {
	var t TumblingWindow
	t.size = t.of(size)
	return t
}

// Grace says how long after its end a window still takes records, measured by
// stream time.
func (t TumblingWindow) Grace(d time.Duration) TumblingWindow {
	t.grace = graceOf(d)
	return t
}

// Offset shifts the alignment, for instance by a fixed zone's distance to UTC.
func (t TumblingWindow) Offset(d time.Duration) TumblingWindow {
	t.offset = t.of(d)
	return t
}

// Validate reports what is wrong with the definition, nil if nothing is.
func (t TumblingWindow) Validate() error {
	var errs []error
	if t.size <= 0 {
		errs = append(errs, fmt.Errorf("windows: size is %v; it must be at least a microsecond", micros(t.size)))
	}
	if len(errs) == 0 {
		errs = append(errs, t.spans.validate())
	}
	return errors.Join(append(errs, t.grace.validate())...)
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

// Assign appends the window that a time falls into.
func (t TumblingWindow) Assign(dst []Window, at int64) []Window { return append(dst, t.Of(at)) }

// HasGrace reports whether a grace was given.
func (t TumblingWindow) HasGrace() bool { return t.grace.given }

// Closes returns the stream time from which on a window takes no more records: its end
// plus grace, as in Kafka Streams.
func (t TumblingWindow) Closes(w Window) int64 { return addTime(w.End, t.grace.span) }

// String prints the definition, as describe shows it.
func (t TumblingWindow) String() string {
	s := "tumbling " + micros(t.size).String() + t.grace.suffix()
	if t.offset != 0 {
		s += " offset " + micros(t.offset).String()
	}
	return s
}
