package operators

import (
	"bytes"
	"slices"
)

// keySorter finds the order of encoded keys without a slice a key.
type keySorter struct {
	arena []byte
	ends  []int
	perm  []int
}

func (s *keySorter) reset() { s.arena, s.ends, s.perm = s.arena[:0], s.ends[:0], s.perm[:0] }

// add appends a key.
func (s *keySorter) add(encode func(dst []byte) []byte) {
	s.arena = encode(s.arena)
	s.perm = append(s.perm, len(s.ends))
	s.ends = append(s.ends, len(s.arena))
}

func (s *keySorter) at(i int) []byte {
	if i == 0 {
		return s.arena[:s.ends[0]]
	}
	return s.arena[s.ends[i-1]:s.ends[i]]
}

// order returns the indexes of the keys in ascending order.
func (s *keySorter) order() []int {
	slices.SortFunc(s.perm, func(a, b int) int { return bytes.Compare(s.at(a), s.at(b)) })
	return s.perm
}
