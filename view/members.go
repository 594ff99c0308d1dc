package view

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tailrace/tailrace/state"
)

// ErrElsewhere says that a row is not among the parts of the view that this member of the
// app has; another member may have it. Reads over HTTP ask all members.
var ErrElsewhere = errors.New("view: the row may be at another member of the app; read it over HTTP")

// Members is what a host asks where an app runs as several members, each of which has parts
// of the views. What it says may change at any time.
type Members interface {
	// Parts is how many parts a view is in, 0 while that is not known.
	Parts(view string) int32
	// PartOf returns the part that has a key, by the bytes that the key is divided by; ok is
	// false where the key does not tell.
	PartOf(view string, key []byte) (part int32, ok bool)
	// Where returns the address, host:port, of the member that has a part; "" if none is known
	// that answers.
	Where(view string, part int32) string
	// Self is this member's address, "" if it has none. Others are those of the others.
	Self() string
	Others() []string
}

// Part is a part of a view that a moment has the rows of.
type Part struct {
	Number int32
	// Inputs are the sources, as positions name them, that the part is made from alone.
	Inputs []string
	// Held reports whether nobody else can have gone on with the part. It may be called by
	// several goroutines, also when its session is long over.
	Held func() bool
}

// Divided is a snapshot of which parts of views can be read. Reads of the snapshot itself
// see all parts that it has.
type Divided interface {
	state.Snapshot
	// Only is the snapshot as far as it is about some of a view's parts, all of which it has.
	Only(view string, parts []int32) state.Reader
}

// Join makes the host one of several members. It comes before the first Publish.
func (h *Host) Join(m Members) { h.members = m }

// partOf returns the part that has an encoded key of a view.
func (h *Host) partOf(c *core, key []byte) (int32, bool) {
	return h.members.PartOf(c.name, c.divide(key))
}

// complete reports whether a moment has all rows of a view.
func (h *Host) complete(m *moment, view string) bool {
	if h.members == nil {
		return true
	}
	count := h.members.Parts(view)
	return count > 0 && int32(len(m.parts[view])) == count && m.holds(view, numbers(m.parts[view]))
}

func numbers(parts []Part) []int32 {
	out := make([]int32, len(parts))
	for i := range parts {
		out[i] = parts[i].Number
	}
	return out
}

// part returns a part that the moment has, nil if it has not, or no longer.
func (m *moment) part(view string, number int32) *Part {
	parts := m.parts[view]
	i := slices.IndexFunc(parts, func(p Part) bool { return p.Number == number })
	if i < 0 || !parts[i].Held() {
		return nil
	}
	return &parts[i]
}

// holds reports whether the moment has all of some parts, and nobody else can.
func (m *moment) holds(view string, numbers []int32) bool {
	return !slices.ContainsFunc(numbers, func(n int32) bool { return m.part(view, n) == nil })
}

// inputs are the names of all sources that some parts are made from.
func (m *moment) inputs(view string, numbers []int32) (names []string) {
	for i := range m.parts[view] {
		if p := &m.parts[view][i]; slices.Contains(numbers, p.Number) {
			names = append(names, p.Inputs...)
		}
	}
	return names
}

// only is the moment's state as far as it is about some parts of a view.
func (m *moment) only(view string, parts []int32) (state.Reader, error) {
	d, ok := m.snap.Snapshot.(Divided)
	if !ok {
		return nil, fmt.Errorf("view: a snapshot of type %T cannot be read by parts", m.snap.Snapshot)
	}
	return d.Only(view, parts), nil
}
