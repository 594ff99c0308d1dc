package state

// slab hands out numbered slots. Slots lie in chunks, so that a pointer to one
// stays valid while the slab grows.
type slab[E any] struct {
	chunks [][]E
	next   uint32
	free   []uint32
}

const (
	slabShift = 7
	slabChunk = 1 << slabShift
)

// at returns the slot with a number.
func (s *slab[E]) at(i uint32) *E { return &s.chunks[i>>slabShift][i&(slabChunk-1)] }

// take returns the number of a free slot; its content is whatever it was left with.
func (s *slab[E]) take() uint32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	i := s.next
	if int(i>>slabShift) == len(s.chunks) {
		s.chunks = append(s.chunks, make([]E, slabChunk))
	}
	s.next++
	return i
}

// give returns a slot.
func (s *slab[E]) give(i uint32) { s.free = append(s.free, i) }

// sparse reports that most of many slots are not in use.
func sparse(slots uint32, live int) bool {
	return slots > 8*slabChunk && int(slots) > 4*live
}
