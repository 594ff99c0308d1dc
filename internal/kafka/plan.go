package kafka

import (
	"cmp"
	"maps"
	"slices"

	"github.com/tailrace/tailrace/changelog"
)

// plan decides who runs which tasks. What is assigned together is a unit's task: one of
// each sub-topology that shares topics with the others, under one number.
type plan struct {
	subs    []SubTopology
	counts  map[string]int32
	units   []unit
	members []planMember
	tasks   []planTask // by unit and number
	// assigned are the tasks that each member is given now; what has to be given up by
	// somebody else first is left for the next round.
	assigned [][]int
	// standbys are the tasks that each member follows.
	standbys [][]Task
}

// unit is a set of sub-topologies that share topics.
type unit struct {
	subs   []int // indexes of sub-topologies
	topics []string
	tasks  int32
	whole  bool // its one task reads everything
	first  int  // of its tasks
}

// planMember is what is known of a member.
type planMember struct {
	process, rack string
	generation    int32
	claims        map[changelog.Partition]bool
	// lags are the buckets of the tasks that it has state of.
	lags map[Task]int
}

type planTask struct {
	unit       int
	number     int32
	partitions []changelog.Partition
	rack       string
	// owner has it, -1 if nobody; others claim a part of it as well.
	owner  int
	claims []int
	// planned is who is to have it.
	planned int
}

// makeUnits joins sub-topologies that share topics. counts are the partitions of topics.
func makeUnits(subs []SubTopology, counts map[string]int32) []unit {
	of := make([]int, len(subs)) // the lowest sub-topology of its unit
	byTopic := map[string]int{}
	for i := range subs {
		of[i] = i
		for _, topic := range subs[i].Topics {
			other, shared := byTopic[topic]
			if !shared {
				byTopic[topic] = of[i]
				continue
			}
			low, high := min(of[i], of[other]), max(of[i], of[other])
			for j := range of[:i+1] {
				if of[j] == high {
					of[j] = low
				}
			}
		}
	}
	var units []unit
	place := map[int]int{}
	first := 0
	for i := range subs {
		at, ok := place[of[i]]
		if !ok {
			at = len(units)
			place[of[i]] = at
			units = append(units, unit{})
		}
		units[at].subs = append(units[at].subs, i)
		units[at].topics = append(units[at].topics, subs[i].Topics...)
		units[at].whole = units[at].whole || subs[i].Whole
	}
	for i := range units {
		u := &units[i]
		slices.Sort(u.topics)
		u.topics = slices.Compact(u.topics)
		for _, topic := range u.topics {
			u.tasks = max(u.tasks, counts[topic])
		}
		if u.whole {
			u.tasks = min(u.tasks, 1)
		}
		u.first = first
		first += int(u.tasks)
	}
	return units
}

// newPlan takes stock: the tasks, and who has them.
func newPlan(
	subs []SubTopology, counts map[string]int32, racks map[string][]string, members []planMember,
) *plan {
	p := &plan{subs: subs, counts: counts, units: makeUnits(subs, counts), members: members}
	claimants := map[changelog.Partition][]int{}
	for i := range members {
		for claim := range members[i].claims {
			claimants[claim] = append(claimants[claim], i)
		}
	}
	for i := range p.units {
		u := &p.units[i]
		for number := range u.tasks {
			t := planTask{unit: i, number: number, owner: -1, planned: -1}
			for _, topic := range u.topics {
				if u.whole {
					for n := range counts[topic] {
						t.partitions = append(t.partitions, changelog.Partition{Topic: topic, Number: n})
					}
					continue
				}
				if number >= counts[topic] {
					continue
				}
				t.partitions = append(t.partitions, changelog.Partition{Topic: topic, Number: number})
				if int(number) < len(racks[topic]) {
					t.rack = cmp.Or(t.rack, racks[topic][number])
				}
			}
			p.findOwner(&t, claimants)
			p.tasks = append(p.tasks, t)
		}
	}
	return p
}

// findOwner finds who has a task: of those who claim a part of it who was in the group
// last, then who claims most.
func (p *plan) findOwner(t *planTask, claimants map[changelog.Partition][]int) {
	parts := map[int]int{}
	for _, partition := range t.partitions {
		for _, m := range claimants[partition] {
			parts[m]++
		}
	}
	t.claims = slices.Sorted(maps.Keys(parts))
	for _, m := range t.claims {
		if t.owner < 0 || cmp.Or(
			cmp.Compare(p.members[m].generation, p.members[t.owner].generation),
			cmp.Compare(parts[m], parts[t.owner])) > 0 {
			t.owner = m
		}
	}
}

// The costs of giving a task to a member, each more than all of the next together can be:
// taking it from its owner, the state that is lacking, another rack.
const (
	costMove = int64(1) << 40
	costLag  = int64(1) << 12
	costRack = int64(1)
	// maxLag is the bucket of no state at all.
	maxLag = 31
)

// network numbers the nodes of the flow that distributes the tasks: source, sink, pool,
// members, tasks, cells (a unit and a member), hubs (a unit and a rack).
type network struct {
	*flow
	p           *plan
	racks       []string
	base, extra []int // edges, by cell: to the sink, to the member
	share       []int // edges, by member: to the sink
	rest        []int // edges, by member: to the pool
	pool        int   // the edge from the pool to the sink
}

const (
	nodeSource = iota
	nodeSink
	nodePool
	fixedNodes
)

func (n *network) member(m int) int  { return fixedNodes + m }
func (n *network) task(t int) int    { return n.member(len(n.p.members)) + t }
func (n *network) cell(u, m int) int { return n.task(len(n.p.tasks)) + u*len(n.p.members) + m }
func (n *network) hub(u, rack int) int {
	return n.cell(len(n.p.units), 0) + u*len(n.racks) + rack
}

// distribute plans every task: of each unit every member gets an equal share, or one more,
// and of those more also an equal share or one more, so that no member has over one task
// more than another, neither of a unit nor in all. Of what fulfils that the cheapest is
// taken, which moves as few tasks as can be.
func (p *plan) distribute() {
	if len(p.members) == 0 {
		return
	}
	n := p.network()
	ways := make([][]way, len(p.tasks))
	for i := range p.tasks {
		ways[i] = n.addTask(i)
	}
	for i := range p.tasks {
		n.stay(i, ways[i])
	}
	n.run(nodeSource, nodeSink)
	n.read(ways)
}

// way is an edge from a task to a cell, or to a hub (member -1).
type way struct{ member, edge int }

func (p *plan) network() *network {
	n := &network{p: p}
	seen := map[string]bool{"": true}
	for i := range p.tasks {
		seen[p.tasks[i].rack] = true
	}
	n.racks = slices.Sorted(maps.Keys(seen))
	n.flow = newFlow(n.hub(len(p.units), 0))
	count := len(p.members)
	extras := 0
	for i := range p.units {
		tasks := int(p.units[i].tasks)
		extras += tasks % count
		for m := range count {
			n.base = append(n.base, n.edge(n.cell(i, m), nodeSink, tasks/count, 0))
			n.extra = append(n.extra, n.edge(n.cell(i, m), n.member(m), 1, 0))
			for r, rack := range n.racks {
				n.edge(n.hub(i, r), n.cell(i, m), tasks, costMove+maxLag*costLag+n.rackCost(rack, m))
			}
		}
	}
	for m := range count {
		n.share = append(n.share, n.edge(n.member(m), nodeSink, extras/count, 0))
		n.rest = append(n.rest, n.edge(n.member(m), nodePool, 1, 0))
	}
	n.pool = n.edge(nodePool, nodeSink, extras%count, 0)
	return n
}

func (n *network) rackCost(rack string, m int) int64 {
	if is := n.p.members[m].rack; rack == "" || is == "" || rack == is {
		return 0
	}
	return costRack
}

// addTask adds a task's ways: to its owner, to those who have state of it, to all others.
func (n *network) addTask(i int) []way {
	t := &n.p.tasks[i]
	n.edge(nodeSource, n.task(i), 1, 0)
	var ways []way
	for m := range n.p.members {
		cost := int64(-1)
		if m == t.owner {
			cost = 0
		} else if lag, has := n.p.lag(t, m); has {
			cost = costMove + int64(lag)*costLag + n.rackCost(t.rack, m)
		}
		if cost >= 0 {
			ways = append(ways, way{m, n.edge(n.task(i), n.cell(t.unit, m), 1, cost)})
		}
	}
	rack, _ := slices.BinarySearch(n.racks, t.rack)
	return append(ways, way{-1, n.edge(n.task(i), n.hub(t.unit, rack), 1, 0)})
}

// stay leaves a task with its owner where nothing else has to give way for that. It costs
// nothing, so it is as good a beginning as any; what is better in all is found afterwards.
func (n *network) stay(i int, ways []way) {
	t := &n.p.tasks[i]
	if t.owner < 0 {
		return
	}
	at := slices.IndexFunc(ways, func(w way) bool { return w.member == t.owner })
	// The edge from the source was added right before the task's ways.
	path := []int{ways[0].edge - 2, ways[at].edge}
	cell := t.unit*len(n.p.members) + t.owner
	switch {
	case n.edges[n.base[cell]].room > 0:
		path = append(path, n.base[cell])
	case n.edges[n.extra[cell]].room == 0:
		return
	case n.edges[n.share[t.owner]].room > 0:
		path = append(path, n.extra[cell], n.share[t.owner])
	case n.edges[n.rest[t.owner]].room > 0 && n.edges[n.pool].room > 0:
		path = append(path, n.extra[cell], n.rest[t.owner], n.pool)
	default:
		return
	}
	n.push(path...)
}

// read notes where the tasks went. Those that went through a hub are told apart by what
// the hub sent to each cell: they are alike but for their numbers.
func (n *network) read(ways [][]way) {
	left := map[int]int{} // by edge from a hub
	for i := range n.p.tasks {
		t := &n.p.tasks[i]
		for _, w := range ways[i] {
			if n.sent(w.edge) == 0 {
				continue
			}
			t.planned = w.member
			if w.member < 0 {
				t.planned = n.fromHub(n.edges[w.edge].to, left)
			}
		}
	}
}

func (n *network) fromHub(hub int, left map[int]int) int {
	best, edge := -1, 0
	for e := n.first[hub]; e >= 0; e = n.edges[e].next {
		if e%2 != 0 {
			continue // the reverse of a task's way
		}
		sent, seen := left[e]
		if !seen {
			sent = n.sent(e)
		}
		m := (n.edges[e].to - n.cell(0, 0)) % len(n.p.members)
		if sent > 0 && (best < 0 || m < best) {
			best, edge = m, e
			left[e] = sent
		}
	}
	left[edge]--
	return best
}

// lag is how much of a task's state a member lacks: the worst of its sub-topologies' of
// which it has any.
func (p *plan) lag(t *planTask, m int) (bucket int, has bool) {
	lags := p.members[m].lags
	if len(lags) == 0 {
		return 0, false
	}
	for _, name := range p.names(t) {
		if lag, ok := lags[name]; ok {
			bucket, has = max(bucket, min(lag, maxLag-1)), true
		}
	}
	return bucket, has
}

// settle gives out what can be given at once: a task goes to its planned member unless
// somebody else still has a part of it, who is given nothing of it and comes back when it
// is given up (G7: whole tasks or nothing).
func (p *plan) settle() {
	p.assigned = make([][]int, len(p.members))
	for i := range p.tasks {
		t := &p.tasks[i]
		if t.planned < 0 || slices.ContainsFunc(t.claims, func(m int) bool { return m != t.planned }) {
			continue
		}
		p.assigned[t.planned] = append(p.assigned[t.planned], i)
	}
}
