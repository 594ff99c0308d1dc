package state

const (
	arenaShift = 15
	arenaBlock = 1 << arenaShift
)

// byteArena holds strings of bytes under 32-bit places.
type byteArena struct {
	// blocks are of arenaBlock bytes; what is longer has a block of its own, which
	// stands under as many numbers as it is blocks long.
	blocks [][]byte
	n      int // blocks in use
	used   int // of the last one
}

func (a *byteArena) at(place, n uint32) []byte {
	if n == 0 {
		return []byte{}
	}
	from := place & (arenaBlock - 1)
	return a.blocks[place>>arenaShift][from : from+n : from+n]
}

// add keeps a copy of b and returns its place.
func (a *byteArena) add(b []byte) uint32 {
	if len(b) > arenaBlock {
		return a.addLong(b)
	}
	if a.n == 0 || a.used+len(b) > arenaBlock {
		if a.n == len(a.blocks) {
			a.blocks = append(a.blocks, make([]byte, arenaBlock))
		}
		a.n, a.used = a.n+1, 0
	}
	at := (a.n-1)<<arenaShift + a.used
	copy(a.blocks[a.n-1][a.used:], b)
	a.used += len(b)
	return uint32(at)
}

func (a *byteArena) addLong(b []byte) uint32 {
	at, own := a.n, append([]byte(nil), b...)
	a.blocks = a.blocks[:a.n] // those kept for later must not stand between
	for from := 0; from < len(b); from += arenaBlock {
		a.blocks = append(a.blocks, own)
	}
	a.n, a.used = len(a.blocks), arenaBlock
	return uint32(at) << arenaShift
}

// size is the number of bytes in use.
func (a *byteArena) size() int64 {
	if a.n == 0 {
		return 0
	}
	return int64(a.n-1)<<arenaShift + int64(a.used)
}

// keptBlocks is how many blocks an emptied arena keeps.
const keptBlocks = 32

// reset empties the arena; what was read from it must not be used any more.
func (a *byteArena) reset() {
	kept := a.blocks[:0]
	for _, b := range a.blocks {
		if len(b) == arenaBlock && len(kept) < keptBlocks {
			kept = append(kept, b)
		}
	}
	clear(a.blocks[len(kept):])
	a.blocks, a.n, a.used = kept, 0, 0
	if cap(kept) > 4*keptBlocks {
		a.blocks = append([][]byte(nil), kept...)
	}
}
