package windows

import "math"

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

// Closed reports whether a window takes no more records at the given stream time.
func Closed(d Definition, w Window, streamTime int64) bool {
	closes := d.Closes(w)
	return streamTime >= closes && closes != math.MaxInt64
}
