package state

import (
	"bytes"
	"unsafe"
)

// skiplist is an ordered set of byte keys with values, for uncommitted writes. Nodes
// and bytes lie in slices, so a list costs the garbage collector nothing and is
// emptied at once.
type skiplist struct {
	nodes []skipNode // nodes[0] is the head
	bytes []byte
	level int
	seed  uint64
	live  int
}

const skipLevels = 12

type skipNode struct {
	keyFrom, keyLen uint32
	valFrom, valLen uint32
	deleted         bool
	prev            uint32
	next            [skipLevels]uint32
}

func (l *skiplist) reset() {
	if cap(l.bytes) > 1<<20 {
		*l = skiplist{seed: l.seed}
	}
	l.nodes = append(l.nodes[:0], skipNode{})
	l.bytes = l.bytes[:0]
	l.level, l.live = 1, 0
}

// size is the memory in use, roughly.
func (l *skiplist) size() int64 {
	return int64(len(l.bytes)) + int64(len(l.nodes))*int64(unsafe.Sizeof(skipNode{}))
}

func (l *skiplist) first() uint32 {
	if len(l.nodes) == 0 {
		return 0
	}
	return l.nodes[0].next[0]
}

func (l *skiplist) key(i uint32) []byte {
	n := &l.nodes[i]
	return l.bytes[n.keyFrom : n.keyFrom+n.keyLen]
}

func (l *skiplist) value(i uint32) []byte {
	n := &l.nodes[i]
	return l.bytes[n.valFrom : n.valFrom+n.valLen]
}

// seek returns the first node at or after key, 0 at the end; before takes the last
// node ahead of key on each level.
func (l *skiplist) seek(key []byte, before *[skipLevels]uint32) uint32 {
	if len(l.nodes) == 0 {
		return 0
	}
	at := uint32(0)
	for lv := l.level - 1; lv >= 0; lv-- {
		for {
			next := l.nodes[at].next[lv]
			if next == 0 || bytes.Compare(l.key(next), key) >= 0 {
				break
			}
			at = next
		}
		if before != nil {
			before[lv] = at
		}
	}
	return l.nodes[at].next[0]
}

// last returns the last node before key (nil: of all), 0 if there is none.
func (l *skiplist) last(key []byte) uint32 {
	if len(l.nodes) == 0 {
		return 0
	}
	at := uint32(0)
	for lv := l.level - 1; lv >= 0; lv-- {
		for {
			next := l.nodes[at].next[lv]
			if next == 0 || key != nil && bytes.Compare(l.key(next), key) >= 0 {
				break
			}
			at = next
		}
	}
	return at
}

// find returns the node of a key, 0 if there is none.
func (l *skiplist) find(key []byte) uint32 {
	i := l.seek(key, nil)
	if i != 0 && bytes.Equal(l.key(i), key) {
		return i
	}
	return 0
}

// set writes a value or, with deleted, a tombstone.
func (l *skiplist) set(key, value []byte, deleted bool) {
	if len(l.nodes) == 0 {
		l.reset()
	}
	var before [skipLevels]uint32
	i := l.seek(key, &before)
	if i == 0 || !bytes.Equal(l.key(i), key) {
		i = l.insert(key, &before)
	}
	n := &l.nodes[i]
	n.deleted = deleted
	if uint32(len(value)) > n.valLen {
		n.valFrom = uint32(len(l.bytes))
		l.bytes = append(l.bytes, value...)
	} else {
		copy(l.bytes[n.valFrom:], value)
	}
	n.valLen = uint32(len(value))
}

func (l *skiplist) insert(key []byte, before *[skipLevels]uint32) uint32 {
	height := 1
	l.seed = l.seed*6364136223846793005 + 1442695040888963407
	for r := l.seed >> 33; r&3 == 0 && height < skipLevels; r >>= 2 {
		height++
	}
	for ; l.level < height; l.level++ {
		before[l.level] = 0
	}
	i := uint32(len(l.nodes))
	l.nodes = append(l.nodes, skipNode{keyFrom: uint32(len(l.bytes)), keyLen: uint32(len(key))})
	l.bytes = append(l.bytes, key...)
	for lv := range height {
		l.nodes[i].next[lv] = l.nodes[before[lv]].next[lv]
		l.nodes[before[lv]].next[lv] = i
	}
	l.nodes[i].prev = before[0]
	if next := l.nodes[i].next[0]; next != 0 {
		l.nodes[next].prev = i
	}
	l.live++
	return i
}
