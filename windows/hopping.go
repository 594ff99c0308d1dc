package windows

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// HoppingWindow is a sequence of windows of one size that begin one advance after the
// other, so that they overlap. Make it with Hopping.
type HoppingWindow struct {
	size, advance, offset int64
	grace                 grace
	spans
}

// Hopping makes windows of the given size, one beginning at every multiple of advance,
// aligned to the Unix epoch in UTC; a record is in each window that its time falls
// into. A record at or after the epoch is in no window that begins before it, as in
// Kafka Streams. Records later than a window's end plus grace are dropped from it and
// counted; grace defaults to 0.
func Hopping(size, advance time.Duration) HoppingWindow {
	var h HoppingWindow
	h.size, h.advance = h.of(size), h.of(advance)
	return h
}

// Grace says how long after its end a window still takes records, measured by
// stream time.
func (h HoppingWindow) Grace(d time.Duration) HoppingWindow {
	h.grace = graceOf(d)
	return h
}

// Offset shifts the alignment, and the epoch with it.
func (h HoppingWindow) Offset(d time.Duration) HoppingWindow {
	h.offset = h.of(d)
	return h
}

// maxOverlap bounds in how many windows a record may be: each costs a row.
const maxOverlap = 100_000

// Validate reports what is wrong with the definition, nil if nothing is.
func (h HoppingWindow) Validate() error {
	var errs []error
	if h.size <= 0 {
		errs = append(errs, fmt.Errorf("windows: size is %v; it must be at least a microsecond", micros(h.size)))
	}
	switch {
	case h.advance <= 0:
		errs = append(errs, fmt.Errorf("windows: advance is %v; it must be at least a microsecond",
			micros(h.advance)))
	case h.size > 0 && h.advance > h.size:
		errs = append(
			errs,
			fmt.Errorf("windows: advance %v is larger than size %v, so records between the windows "+
				"would be lost; make it at most the size", micros(h.advance), micros(h.size)),
		)
	case h.size/h.advance > maxOverlap:
		errs = append(errs, fmt.Errorf("windows: each record would be in %d windows, more than %d; enlarge the "+
			"advance, or use Sliding", h.size/h.advance, maxOverlap))
	}
	if len(errs) == 0 {
		errs = append(errs, h.spans.validate())
	}
	return errors.Join(append(errs, h.grace.validate())...)
}

// Assign appends the windows that contain a time, in ascending order.
func (h HoppingWindow) Assign(dst []Window, at int64) []Window {
	last := Tumbling(micros(h.advance)).Offset(micros(h.offset)).Of(at).Start
	first := last - (h.size-1-(at-last))/h.advance*h.advance
	if at-last >= h.size {
		return dst
	}
	if at >= h.offset {
		first = max(first, h.offset)
	}
	if last == math.MinInt64 || first > last {
		first = last // at the very beginning of time
	}
	for start := first; start <= last; start += h.advance {
		dst = append(dst, Window{Start: start, End: addTime(start, h.size)})
		if start > math.MaxInt64-h.advance {
			break
		}
	}
	return dst
}

// HasGrace reports whether a grace was given.
func (h HoppingWindow) HasGrace() bool { return h.grace.given }

// Closes returns the stream time from which on a window takes no more records: its end
// plus grace, as in Kafka Streams.
func (h HoppingWindow) Closes(w Window) int64 { return addTime(w.End, h.grace.span) }

// String prints the definition, as describe shows it.
func (h HoppingWindow) String() string {
	s := fmt.Sprintf("hopping %v advance %v%s", micros(h.size), micros(h.advance), h.grace.suffix())
	if h.offset != 0 {
		s += " offset " + micros(h.offset).String()
	}
	return s
}
