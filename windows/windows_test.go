package windows_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tailrace/tailrace/windows"
)

// TestOf: the window of a time contains it, is aligned, and is that of all times in
// it.
func TestOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 1e12).Draw(t, "size")
		offset := rapid.Int64Range(-1e13, 1e13).Draw(t, "offset")
		// Beyond this range, 146,000 years, the ends of windows do not fit an int64.
		at := rapid.Int64Range(-1<<62, 1<<62).Draw(t, "at")
		w := windows.Tumbling(time.Duration(size) * time.Microsecond).
			Offset(time.Duration(offset) * time.Microsecond / 1000)
		offset /= 1000
		got := w.Of(at)
		if at < got.Start || at >= got.End {
			t.Fatalf("%d is not in its window [%d,%d)", at, got.Start, got.End)
		}
		if w.Of(got.Start) != got || w.Of(got.End-1) != got {
			t.Fatalf("the ends of [%d,%d) are in other windows", got.Start, got.End)
		}
		if far := int64(1 << 62); at > -far && at < far {
			if got.End-got.Start != size || (got.Start-offset)%size != 0 {
				t.Fatalf("[%d,%d) is not aligned to %d with offset %d", got.Start, got.End, size, offset)
			}
		}
	})
}

func TestClosed(t *testing.T) {
	w := windows.Tumbling(10 * time.Microsecond).Grace(5 * time.Microsecond)
	for _, c := range []struct {
		window     windows.Window
		streamTime int64
		closed     bool
	}{
		{w.Of(0), math.MinInt64, false},
		{w.Of(0), 14, false},
		{w.Of(0), 15, true},
		{w.Of(-1), 4, false},
		{w.Of(-1), 5, true},
		{w.Of(math.MaxInt64), math.MaxInt64, false},
		{w.Of(math.MinInt64), math.MaxInt64, true},
	} {
		if got := windows.Closed(w, c.window, c.streamTime); got != c.closed {
			t.Errorf("window [%d,%d) is closed at %d: %v, want %v",
				c.window.Start, c.window.End, c.streamTime, got, c.closed)
		}
	}
}

func TestText(t *testing.T) {
	w := windows.Tumbling(time.Hour).Grace(time.Minute).Offset(-time.Hour)
	if got, want := w.String(), "tumbling 1h0m0s grace 1m0s offset -1h0m0s"; got != want {
		t.Errorf("String is %q, want %q", got, want)
	}
	if got, want := w.Of(0).String(), "[1970-01-01T00:00:00Z,1970-01-01T01:00:00Z)"; got != want {
		t.Errorf("String is %q, want %q", got, want)
	}
}

func TestValidateReportsAll(t *testing.T) {
	err := windows.Tumbling(0).Grace(-time.Second).Validate()
	if err == nil || !strings.Contains(err.Error(), "size") || !strings.Contains(err.Error(), "grace") {
		t.Errorf("the error is %v, want one that names size and grace", err)
	}
	if err := windows.Tumbling(time.Microsecond).Validate(); err != nil {
		t.Error(err)
	}
}
