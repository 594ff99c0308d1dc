package engine

import (
	"slices"
	"testing"
)

// The branch of the log that the state lies on is noted with the state: at the start, and
// when a session finds itself on another one.
func TestTimelineIsKept(t *testing.T) {
	b := newBench(t, asTable)
	b.source.timeline.Store(3)
	b.source.tx(true, 1)
	err := b.run(func(*Engine) {
		wait(t, b.target.taken)
		b.source.timeline.Store(4)
		b.source.tx(false, 2)
		wait(t, b.target.taken)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.run(func(*Engine) {}); err != nil {
		t.Fatal(err)
	}
	var told []uint32
	for _, req := range b.source.opens {
		told = append(told, req.Timeline)
	}
	if want := []uint32{0, 4}; !slices.Equal(told, want) {
		t.Errorf("Open was told timelines %v, want %v", told, want)
	}
}
