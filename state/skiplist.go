package state

import (
	"bytes"
	"unsafe"
)

// skiplist is an ordered set of byte keys with values, for uncommitted writes. Nodes
// and bytes lie in chunks without pointers, so a list costs the garbage collector
// next to nothing, grows without copies and is emptied at once.
type skiplist struct {
	nodes  chunks[skipNode] // number 0 is the head
	towers chunks[uint32]   // next nodes on the levels above 0
	bytes  byteArena
	level  int
	seed   uint64
	live   int
	// splice are the nodes ahead of the key written last, on each level: keys mostly
	// come near one another.
	splice [skipLevels]uint32
}

const skipLevels = 12

type skipNode struct {
	keyAt, keyLen uint32
	valAt, valLen uint32
	valCap        uint32
	prev, next    uint32 // next on level 0
	tower         uint32 // where in towers the next nodes of level 1 and above are
	deleted       bool
}

func (l *skiplist) reset() {
	l.nodes.reset()
	l.towers.reset()
	l.bytes.reset()
	// The head has a tower of all levels.
	l.nodes.take()
	*l.nodes.at(0) = skipNode{tower: l.newTower(skipLevels - 1)}
	l.level, l.live, l.splice = 1, 0, [skipLevels]uint32{}
}

// size is the memory in use, roughly.
func (l *skiplist) size() int64 {
	return l.bytes.size() + int64(l.nodes.n)*int64(unsafe.Sizeof(skipNode{})) + 4*int64(l.towers.n)
}

// newTower makes room for n next nodes, all 0, that lie in one chunk.
func (l *skiplist) newTower(n int) uint32 {
	if n == 0 {
		return 0
	}
	for chunkSize-l.towers.n&(chunkSize-1) < n {
		l.towers.take()
	}
	at := uint32(l.towers.n)
	for range n {
		*l.towers.at(l.towers.take()) = 0
	}
	return at
}

func (l *skiplist) next(i uint32, lv int) uint32 {
	n := l.nodes.at(int(i))
	if lv == 0 {
		return n.next
	}
	return *l.towers.at(int(n.tower) + lv - 1)
}

func (l *skiplist) setNext(i uint32, lv int, to uint32) {
	n := l.nodes.at(int(i))
	if lv == 0 {
		n.next = to
		return
	}
	*l.towers.at(int(n.tower) + lv - 1) = to
}

func (l *skiplist) first() uint32 {
	if l.nodes.n == 0 {
		return 0
	}
	return l.nodes.at(0).next
}

func (l *skiplist) key(i uint32) []byte {
	n := l.nodes.at(int(i))
	return l.bytes.at(n.keyAt, n.keyLen)
}

func (l *skiplist) value(i uint32) []byte {
	n := l.nodes.at(int(i))
	return l.bytes.at(n.valAt, n.valLen)
}

func (l *skiplist) deleted(i uint32) bool { return l.nodes.at(int(i)).deleted }

// advance returns the last node of a level ahead of key, beginning at one that is.
func (l *skiplist) advance(at uint32, lv int, key []byte) uint32 {
	for {
		next := l.next(at, lv)
		if next == 0 || bytes.Compare(l.key(next), key) >= 0 {
			return at
		}
		at = next
	}
}

// seek returns the first node at or after key, 0 at the end.
func (l *skiplist) seek(key []byte) uint32 {
	if l.nodes.n == 0 {
		return 0
	}
	return l.next(l.ahead(key), 0)
}

// last returns the last node before key (nil: of all), 0 if there is none.
func (l *skiplist) last(key []byte) uint32 {
	if l.nodes.n == 0 {
		return 0
	}
	if key != nil {
		return l.ahead(key)
	}
	at := uint32(0)
	for lv := l.level - 1; lv >= 0; lv-- {
		for next := l.next(at, lv); next != 0; next = l.next(at, lv) {
			at = next
		}
	}
	return at
}

func (l *skiplist) ahead(key []byte) uint32 {
	at := uint32(0)
	for lv := l.level - 1; lv >= 0; lv-- {
		at = l.advance(at, lv, key)
	}
	return at
}

// spliceLevels is up to which level the place of the last write is looked at.
const spliceLevels = 3

// seekWrite is seek that brings the splice to key.
func (l *skiplist) seekWrite(key []byte) uint32 {
	lv, at := l.level, uint32(0)
	for i := 0; i < min(spliceLevels, l.level); i++ {
		if l.brackets(i, key) {
			lv, at = i, l.splice[i]
			break
		}
	}
	// From a level on which the key lies between two neighbours the levels above are
	// right as they are: their neighbours lie further out.
	for lv = min(lv, l.level-1); lv >= 0; lv-- {
		at = l.advance(at, lv, key)
		l.splice[lv] = at
	}
	return l.next(at, 0)
}

// brackets reports whether key belongs behind the node of the splice on a level.
func (l *skiplist) brackets(lv int, key []byte) bool {
	at := l.splice[lv]
	if at != 0 && bytes.Compare(l.key(at), key) >= 0 {
		return false
	}
	next := l.next(at, lv)
	return next == 0 || bytes.Compare(l.key(next), key) >= 0
}

// find returns the node of a key, 0 if there is none.
func (l *skiplist) find(key []byte) uint32 {
	i := l.seek(key)
	if i != 0 && bytes.Equal(l.key(i), key) {
		return i
	}
	return 0
}

// set writes a value or, with deleted, a tombstone.
func (l *skiplist) set(key, value []byte, deleted bool) {
	if l.nodes.n == 0 {
		l.reset()
	}
	i := l.seekWrite(key)
	if i == 0 || !bytes.Equal(l.key(i), key) {
		i = l.insert(key)
	}
	n := l.nodes.at(int(i))
	n.deleted = deleted
	if uint32(len(value)) > n.valCap {
		n.valAt, n.valCap = l.bytes.add(value), uint32(len(value))
	} else {
		copy(l.bytes.at(n.valAt, n.valCap), value)
	}
	n.valLen = uint32(len(value))
}

// insert adds a node behind the splice, which then ends at the new node.
func (l *skiplist) insert(key []byte) uint32 {
	height := 1
	l.seed = l.seed*6364136223846793005 + 1442695040888963407
	for r := l.seed >> 33; r&3 == 0 && height < skipLevels; r >>= 2 {
		height++
	}
	for ; l.level < height; l.level++ {
		l.splice[l.level] = 0
	}
	i := uint32(l.nodes.take())
	*l.nodes.at(int(i)) = skipNode{
		keyAt: l.bytes.add(key), keyLen: uint32(len(key)), tower: l.newTower(height - 1), prev: l.splice[0],
	}
	for lv := range height {
		l.setNext(i, lv, l.next(l.splice[lv], lv))
		l.setNext(l.splice[lv], lv, i)
		l.splice[lv] = i
	}
	if next := l.next(i, 0); next != 0 {
		l.nodes.at(int(next)).prev = i
	}
	l.live++
	return i
}
