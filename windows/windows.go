// Package windows holds the windows of the DSL as values and their arithmetic.
// It knows no clock: time is the event time of records, and stream time the
// largest event time seen.
//
// All times are Unix microseconds, the resolution of PostgreSQL's timestamps.
package windows

import (
	"fmt"
	"time"
)

// Window is a stretch of time in Unix microseconds. Start belongs to it; End does not,
// but for sliding and session windows, whose End is the last microsecond in them.
type Window struct{ Start, End int64 }

// StartTime returns the window's start in UTC.
func (w Window) StartTime() time.Time { return time.UnixMicro(w.Start).UTC() }

// EndTime returns the window's end in UTC.
func (w Window) EndTime() time.Time { return time.UnixMicro(w.End).UTC() }

// String prints the window as [start,end) in RFC 3339, whatever its kind.
func (w Window) String() string {
	return fmt.Sprintf("[%s,%s)", w.StartTime().Format(time.RFC3339Nano), w.EndTime().Format(time.RFC3339Nano))
}

// Windowed is a key in a window: the key type of windowed tables. Keys order by
// key first and then by window.
type Windowed[K comparable] struct {
	Key    K
	Window Window
}

// PartitionKey says that a key in a window is divided by the key alone, so that all
// windows of a key are in one partition. What is encoded last is the window, two times.
func (Windowed[K]) PartitionKey(encoded []byte) []byte { return encoded[:len(encoded)-16] }
