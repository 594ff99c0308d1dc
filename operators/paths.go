package operators

import (
	"encoding/binary"
	"strings"
)

// paths makes the paths of records' tags, many in one piece of memory: a string for each
// would be an allocation a record.
type paths struct{ b strings.Builder }

// pathBlock is how many bytes one piece holds. It lives as long as any of its paths.
const pathBlock = 4 << 10

// room makes room for n bytes and returns where they begin.
func (p *paths) room(n int) (from int) {
	if p.b.Cap()-p.b.Len() < n {
		p.b = strings.Builder{}
		p.b.Grow(max(n, pathBlock))
	}
	return p.b.Len()
}

// join is the path made of the given parts. Parts that were made before stay as they
// are: a builder only adds.
func (p *paths) join(prefix string, rest ...[]byte) string {
	n := len(prefix)
	for _, r := range rest {
		n += len(r)
	}
	from := p.room(n)
	p.b.WriteString(prefix)
	for _, r := range rest {
		p.b.Write(r)
	}
	return p.b.String()[from:]
}

// smallPaths are the paths of the first outputs of a record that comes from a source.
var smallPaths = func() (paths [256]string) {
	for i := range paths {
		paths[i] = string([]byte{0, 0, 0, byte(i)})
	}
	return paths
}()

// index is the path of the i-th output of a record.
func (p *paths) index(path string, i uint32) string {
	if path == "" && i < uint32(len(smallPaths)) {
		return smallPaths[i]
	}
	var index [4]byte
	binary.BigEndian.PutUint32(index[:], i)
	return p.join(path, index[:])
}
