package kafka

// flow is a network through which as much as possible is sent at the least cost: by
// shortest paths, one after another. No cost is negative.
type flow struct {
	edges []flowEdge
	first []int // by node, -1 without
	dist  []int64
	via   []int // the edge by which a node was reached
	queue []int
	in    []bool // queued
}

// flowEdge is followed in the list by its reverse.
type flowEdge struct {
	to, next int
	room     int
	cost     int64
}

func newFlow(nodes int) *flow {
	f := &flow{
		first: make([]int, nodes), dist: make([]int64, nodes), via: make([]int, nodes), in: make([]bool, nodes),
	}
	for i := range f.first {
		f.first[i] = -1
	}
	return f
}

// edge adds an edge and returns its number.
func (f *flow) edge(from, to, room int, cost int64) int {
	n := len(f.edges)
	f.edges = append(f.edges, flowEdge{to, f.first[from], room, cost}, flowEdge{from, f.first[to], 0, -cost})
	f.first[from], f.first[to] = n, n+1
	return n
}

// sent is what goes through an edge.
func (f *flow) sent(edge int) int { return f.edges[edge^1].room }

// push sends one along edges that have room.
func (f *flow) push(edges ...int) {
	for _, e := range edges {
		f.edges[e].room--
		f.edges[e^1].room++
	}
}

// run sends on until nothing more can be sent.
func (f *flow) run(source, sink int) {
	for f.shortest(source, sink) {
		for n := sink; n != source; {
			e := f.via[n]
			f.push(e)
			n = f.edges[e^1].to
		}
	}
}

const unreached = int64(1) << 62

// shortest finds the cheapest way that has room.
func (f *flow) shortest(source, sink int) bool {
	for i := range f.dist {
		f.dist[i] = unreached
	}
	f.dist[source] = 0
	f.queue = append(f.queue[:0], source)
	for at := 0; at < len(f.queue); at++ {
		n := f.queue[at]
		f.in[n] = false
		for e := f.first[n]; e >= 0; e = f.edges[e].next {
			edge := &f.edges[e]
			if d := f.dist[n] + edge.cost; edge.room > 0 && d < f.dist[edge.to] {
				f.dist[edge.to], f.via[edge.to] = d, e
				if !f.in[edge.to] {
					f.in[edge.to] = true
					f.queue = append(f.queue, edge.to)
				}
			}
		}
	}
	return f.dist[sink] < unreached
}
