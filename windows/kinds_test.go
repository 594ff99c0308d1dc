package windows_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tailrace/tailrace/windows"
)

func us(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// TestHoppingAssign: the windows of a time are all that begin at a multiple of advance
// and hold it, but for those that begin before the epoch and it does not.
func TestHoppingAssign(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 40).Draw(t, "size")
		advance := rapid.Int64Range(1, size).Draw(t, "advance")
		offset := rapid.Int64Range(-50, 50).Draw(t, "offset")
		at := rapid.Int64Range(-100, 100).Draw(t, "at")
		h := windows.Hopping(us(size), us(advance)).Offset(us(offset))
		if err := h.Validate(); err != nil {
			t.Fatal(err)
		}
		var want []windows.Window
		for start := int64(-300); start <= at; start++ {
			aligned := (start-offset)%advance == 0
			if aligned && at < start+size && (start >= offset || at < offset) {
				want = append(want, windows.Window{Start: start, End: start + size})
			}
		}
		if got := h.Assign(nil, at); !slices.Equal(got, want) {
			t.Fatalf("windows of %d are %v, want %v", at, got, want)
		}
	})
}

// TestHoppingIsTumbling: with advance = size they are the same.
func TestHoppingIsTumbling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 1e12).Draw(t, "size")
		at := rapid.Int64Range(-1<<62, 1<<62).Draw(t, "at")
		hop := windows.Hopping(us(size), us(size)).Assign(nil, at)
		if want := windows.Tumbling(us(size)).Assign(nil, at); !slices.Equal(hop, want) {
			t.Fatalf("windows of %d are %v, want %v", at, hop, want)
		}
	})
}

// TestHoppingEnds: at the ends of time nothing overflows.
func TestHoppingEnds(t *testing.T) {
	h := windows.Hopping(us(10), us(3))
	for _, at := range []int64{math.MinInt64, math.MinInt64 + 5, math.MaxInt64 - 5, math.MaxInt64} {
		in := h.Assign(nil, at)
		if len(in) == 0 {
			t.Errorf("%d is in no window", at)
		}
		for _, w := range in {
			if w.Start > at || w.End < at {
				t.Errorf("%d is not in its window [%d,%d)", at, w.Start, w.End)
			}
		}
	}
}

// TestClosing: hopping closes at end plus grace; sliding and session are strict.
func TestClosing(t *testing.T) {
	w := windows.Window{Start: 10, End: 20}
	for _, c := range []struct {
		def  windows.Definition
		want int64
	}{
		{windows.Hopping(us(10), us(5)).Grace(us(3)), 23},
		{windows.Tumbling(us(10)).Grace(us(3)), 23},
		{windows.Sliding(us(10)).Grace(us(3)), 24},
		{windows.Session(us(4)).Grace(us(3)), 28},
	} {
		if got := c.def.Closes(w); got != c.want {
			t.Errorf("%s: closes at %d, want %d", c.def, got, c.want)
		}
		if windows.Closed(c.def, w, c.want-1) || !windows.Closed(c.def, w, c.want) {
			t.Errorf("%s: Closed does not agree with Closes", c.def)
		}
		if c.def.Closes(windows.Window{End: math.MaxInt64}) != math.MaxInt64 {
			t.Errorf("%s: the last window closes", c.def)
		}
	}
}

func TestSlidingWindows(t *testing.T) {
	s := windows.Sliding(us(10))
	for at, want := range map[int64]windows.Window{
		0: {Start: 0, End: 10}, 9: {Start: 0, End: 10}, 10: {Start: 0, End: 10}, 11: {Start: 1, End: 11},
		-1: {Start: -11, End: -1}, math.MinInt64: {Start: math.MinInt64, End: math.MinInt64},
	} {
		if got := s.EndingAt(at); got != want {
			t.Errorf("the window ending at %d is %v, want %v", at, got, want)
		}
	}
	if got, want := s.After(5), (windows.Window{Start: 6, End: 16}); got != want {
		t.Errorf("the window after 5 is %v, want %v", got, want)
	}
}

func TestKindsValidate(t *testing.T) {
	for _, c := range []struct {
		def  windows.Definition
		want []string // nil: valid
	}{
		{windows.Hopping(us(10), us(10)), nil},
		{windows.Hopping(us(0), us(-1)).Grace(us(-1)), []string{"size is 0s", "advance is -1", "grace is -1"}},
		{windows.Hopping(us(5), us(6)), []string{"advance 6µs is larger than size 5µs"}},
		{windows.Hopping(24*time.Hour, us(1)), []string{"in 86400000000 windows"}},
		{windows.Sliding(0), nil},
		{windows.Sliding(us(-1)).Grace(us(-2)), []string{"difference is -1", "grace is -2"}},
		{windows.Session(us(1)), nil},
		{windows.Session(0).Grace(us(-2)), []string{"gap is 0s", "grace is -2"}},
	} {
		err := c.def.Validate()
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: the error is %v", c.def, err)
		}
		for _, want := range c.want {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error %q does not say %q", c.def, err, want)
			}
		}
	}
}

func TestKindsText(t *testing.T) {
	for want, def := range map[string]windows.Definition{
		"hopping 10µs advance 5µs grace 1µs offset 2µs": windows.Hopping(us(10), us(5)).Grace(us(1)).Offset(us(2)),
		"sliding 10µs grace 1µs":                        windows.Sliding(us(10)).Grace(us(1)),
		"session 10µs":                                  windows.Session(us(10)),
	} {
		if got := def.String(); got != want {
			t.Errorf("String is %q, want %q", got, want)
		}
	}
}
