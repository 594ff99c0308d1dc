package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/failpoint"
)

// directPlan is what a seed chooses for direct mode.
type directPlan struct {
	seed uint64
	// streaming has large transactions come before they commit, else there are messages.
	streaming, full, single bool
	epochRows               int
	queue, memory           int64
	transactions            int
	// before is how many of them there are when the app starts for the first time.
	before int
	pace   time.Duration
	// lanes are how many large transactions may be open at once, each with rows of its own.
	lanes  int
	faults []*directFault
}

// directHarm is a kind of what goes wrong.
type directHarm string

const (
	dCrashAt   directHarm = "crash at"         // a crash point
	dCrashDisk directHarm = "crash writing"    // at an operation of the disk
	dLeave     directHarm = "end the app"      // in good order
	dCut       directHarm = "cut the stream"   // within any message
	dCutAny    directHarm = "cut a connection" // within any message
	dSever     directHarm = "cut all connections"
	dMute      directHarm = "lose the network"
	dLinger    directHarm = "notice late"
	dStop      directHarm = "stop the server"
	dAgain     directHarm = "resend"
	dSlow      directHarm = "send slowly"
	dRefuse    directHarm = "refuse to write"     // a target
	dDoubt     directHarm = "write with an error" // a target
	dHang      directHarm = "write slowly"        // a target
	dLose      directHarm = "lose the slot"
)

// directFault is one thing that goes wrong.
type directFault struct {
	// after is how many transactions are written before it may happen, nth at which occasion
	// from there on it does.
	after, nth int
	harm       directHarm
	point      string
	bytes      int
	// percent of what is not synced outlives a crash; lasts is how long something lasts.
	percent int
	lasts   time.Duration
	seed    uint64
	// late has others go on for a while before a crash at a crash point: who was told too early
	// tells.
	late bool

	armed, done bool
}

func (f *directFault) kind() string { return strings.TrimSpace(string(f.harm) + " " + f.point) }

func (f *directFault) String() string {
	s := fmt.Sprintf("after %d transactions %s", f.after, f.kind())
	switch f.harm {
	case dCrashAt, dCrashDisk:
		s += fmt.Sprintf(", occasion %d, late %v, %d%% kept, back after %v", f.nth, f.late, f.percent, f.lasts)
	case dCut, dCutAny, dSlow:
		s += fmt.Sprintf(", %d bytes", f.bytes)
	case dRefuse, dDoubt:
		s += fmt.Sprintf(", %d times", f.nth)
	default:
		s += fmt.Sprintf(", for %v", f.lasts)
	}
	if f.done {
		s += " (happened)"
	}
	return s
}

// directPoints are the crash points that these topologies pass.
var directPoints = []string{
	failpoint.Received, failpoint.MidTransaction, failpoint.BatchSync, failpoint.BatchApplied,
	failpoint.BeforeAck, failpoint.AfterAck, failpoint.SinkApplied, failpoint.SnapshotTable,
	failpoint.SnapshotRows, failpoint.SnapshotSwitch, failpoint.SnapshotDone, failpoint.SlotCreated,
	failpoint.Reconnect, failpoint.StateSpill,
}

func newDirectPlan(seed uint64) *directPlan {
	r := rand.New(rand.NewPCG(seed, 11))
	p := &directPlan{
		seed: seed, streaming: r.IntN(2) == 0, full: r.IntN(3) == 0, single: r.IntN(4) == 0,
		epochRows: 1 + r.IntN(50), queue: 1 << (10 + r.IntN(20)), transactions: 30 + r.IntN(150),
		pace: time.Duration(r.IntN(300)) * time.Millisecond, lanes: r.IntN(4),
	}
	p.before, p.memory = r.IntN(p.transactions/3), 16<<20
	if r.IntN(4) == 0 {
		p.memory = 1 << 10 // nothing stays in memory
	}
	for range 1 + r.IntN(9) {
		p.faults = append(p.faults, p.newFault(r))
	}
	slices.SortStableFunc(p.faults, func(a, b *directFault) int { return cmp.Compare(a.after, b.after) })
	return p
}

func (p *directPlan) newFault(r *rand.Rand) *directFault {
	f := &directFault{
		after: p.before + r.IntN(p.transactions-p.before), nth: 1 + r.IntN(4),
		percent: []int{0, 0, 0, 10, 50, 90, 100}[r.IntN(7)], seed: r.Uint64(), bytes: 1 + r.IntN(3000),
		lasts: time.Duration(r.IntN(4000)) * time.Millisecond,
	}
	point := directPoints[r.IntN(len(directPoints))]
	switch n := r.IntN(100); {
	case n < 30:
		f.harm, f.point, f.late = dCrashAt, point, f.seed%2 == 0
		if strings.HasPrefix(point, "dp9") || strings.HasPrefix(point, "dp10") {
			f.after, f.nth = p.before, 1+r.IntN(2) // while the app starts for the first time
		}
	case n < 36:
		f.harm, f.nth = dCrashDisk, 1+r.IntN(100)
	case n < 41:
		f.harm = dLeave
	case n < 55:
		f.harm = dCut
	case n < 60:
		f.harm = dCutAny
	case n < 65:
		f.harm = dSever
	case n < 68:
		f.harm = dMute
	case n < 73:
		f.harm = dLinger
	case n < 80:
		f.harm = dStop
	case n < 84:
		f.harm = dAgain
	case n < 88:
		f.harm, f.bytes = dSlow, 1+r.IntN(200)
	case n < 92:
		f.harm = dRefuse
	case n < 96:
		f.harm = dDoubt
	case n < 99:
		f.harm = dHang
	default:
		f.harm = dLose
	}
	return f
}

func (p *directPlan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "direct mode, seed %d: %d transactions %v apart, %d before the start, %d large at once, "+
		"streamed %v, FULL %v, %d rows an epoch, one transaction an epoch %v, %d bytes in the queue, "+
		"%d of memory",
		p.seed, p.transactions, p.pace, p.before, p.lanes, p.streaming, p.full, p.epochRows, p.single, p.queue,
		p.memory)
	for _, f := range p.faults {
		fmt.Fprintf(&b, "\n  %s", f)
	}
	return b.String()
}
