package state

const (
	chunkShift = 8
	chunkSize  = 1 << chunkShift
)

// chunks is a list that grows without moving what is in it.
type chunks[E any] struct {
	list [][]E
	n    int
}

// at returns an element; the pointer stays valid until reset.
func (c *chunks[E]) at(i int) *E { return &c.list[i>>chunkShift][i&(chunkSize-1)] }

// take makes the list longer by one element, with whatever content, and returns its
// number.
func (c *chunks[E]) take() int {
	if c.n>>chunkShift == len(c.list) {
		c.list = append(c.list, make([]E, chunkSize))
	}
	c.n++
	return c.n - 1
}

func (c *chunks[E]) add(e E) { *c.at(c.take()) = e }

// keptChunks is how many chunks an emptied list keeps: a giant step must not stay for
// good.
const keptChunks = 128

// reset empties the list.
func (c *chunks[E]) reset() {
	for i := range c.list {
		if i<<chunkShift >= c.n {
			break
		}
		clear(c.list[i][:min(chunkSize, c.n-i<<chunkShift)])
	}
	if len(c.list) > keptChunks {
		c.list = append([][]E(nil), c.list[:keptChunks]...)
	}
	c.n = 0
}
