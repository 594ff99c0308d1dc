package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// plan is what a seed chooses.
type plan struct {
	seed       uint64
	shape      *shape
	debezium   bool
	partitions int32
	brokers    int
	members    int
	standbys   int
	static     bool // members keep their place in the group for the length of a session
	interval   time.Duration
	// session and timeout are those of the members and of transactions, short so that a run is.
	session, timeout time.Duration
	events           int
	// pace is how long there is nothing to read between two batches.
	pace time.Duration
	// noticed says that brokers learn at once that connections are gone.
	noticed bool
	// faults are what goes wrong, in the order of when it may.
	faults []*fault
}

func shapeOf(name string) *shape {
	return &shapes[slices.IndexFunc(shapes, func(s shape) bool { return s.name == name })]
}

func newPlan(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := &plan{
		seed: seed, shape: &shapes[r.IntN(len(shapes))], debezium: r.IntN(3) == 0,
		partitions: 1 + r.Int32N(4), brokers: 1 + r.IntN(2), members: 1 + r.IntN(3),
		interval: time.Duration(5+r.IntN(200)) * time.Millisecond,
		session:  time.Duration(2+r.IntN(5)) * time.Second,
		timeout:  time.Duration(2+r.IntN(12)) * time.Second,
		events:   100 + r.IntN(250), pace: time.Duration(r.IntN(400)) * time.Millisecond,
	}
	if r.IntN(20) == 0 {
		p.events += r.IntN(1600)
	}
	if p.members > 1 {
		p.standbys = r.IntN(2)
	}
	if p.static = r.IntN(4) == 0; r.IntN(4) == 0 {
		p.pace *= 5
	}
	p.noticed = rand.New(rand.NewPCG(seed, 5)).IntN(2) == 0
	for range 1 + r.IntN(9) {
		p.faults = append(p.faults, p.newFault(r))
	}
	slices.SortStableFunc(p.faults, func(a, b *fault) int { return cmp.Compare(a.after, b.after) })
	return p
}

func (p *plan) String() string {
	form := "plain"
	if p.debezium {
		form = "debezium"
	}
	members := "members"
	if p.static {
		members = "static members"
	}
	return fmt.Sprintf("seed %d: %s of %s records, %d partitions, %d brokers, %d %s, %d standbys, "+
		"%d events %v apart, commits every %v, "+
		"sessions end after %v, transactions after %v, broken connections are noticed: %v%s",
		p.seed, p.shape.name, form, p.partitions, p.brokers, p.members, members,
		p.standbys, p.events, p.pace, p.interval, p.session, p.timeout, p.noticed,
		schedule(p.faults))
}
