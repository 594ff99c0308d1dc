package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tailrace/tailrace/internal/failpoint"
)

// harm is a kind of what goes wrong. Leaders do not move: a partition of kfake whose leader has
// moved forgets where older epochs ended, so that readers are told of records that were lost.
type harm string

const (
	crashAt     harm = "crash at"      // a member, at a crash point
	crashOn     harm = "crash before"  // a member, before its request goes out
	crashBehind harm = "crash after"   // a member, when its request has gone out
	crashDisk   harm = "crash writing" // a member, at an operation of its disk
	pauseAt     harm = "pause at"      // a member, at a crash point
	cutOn       harm = "cut before"    // a connection, before a request goes out
	cutBehind   harm = "cut after"     // a connection, before a request's answer
	spoil       harm = "spoil"         // the answer to a request that was carried out is an error
	refuse      harm = "refuse"        // a request, with an error
	leave       harm = "leave"         // a member, in good order
	wipe        harm = "lose the disk" // a member, which ends for it
	rehash      harm = "move coordinators"
	compact     harm = "compact" // which moves the beginnings of logs, as that of Kafka does not
)

// fault is one thing that goes wrong.
type fault struct {
	// after is how many events are written before it may happen, nth at which occasion
	// from there on it does.
	after, nth int
	harm       harm
	point      string      // crash point
	key        kmsg.Key    // of requests
	err        *kerr.Error // the answer
	count      int         // of requests that are refused
	member     int         // who leaves
	// percent of what is not synced outlives a crash, nothing at all if it is negative; lasts is
	// how long a member is gone.
	percent int
	lasts   time.Duration
	seed    uint64

	handle *kfake.FaultHandle
	armed  bool
	done   bool
}

// kind is what is counted.
func (f *fault) kind() string {
	s := string(f.harm)
	switch f.harm {
	case crashAt, pauseAt:
		s += " " + f.point
	case crashOn, crashBehind, cutOn, cutBehind, spoil, refuse:
		s += " " + f.key.Name()
	case leave, wipe:
		s += fmt.Sprintf(" member %d", f.member)
	}
	if f.err != nil {
		s += " " + f.err.Message
	}
	return s
}

func (f *fault) String() string {
	s := fmt.Sprintf("after %d events %s", f.after, f.kind())
	if f.err != nil {
		s += fmt.Sprintf(", %d times", f.count)
	}
	if f.nth > 1 {
		s += fmt.Sprintf(", occasion %d", f.nth)
	}
	switch f.harm {
	case crashAt, crashOn, crashBehind, crashDisk:
		s += fmt.Sprintf(", %d%% kept, back after %v", f.percent, f.lasts)
		if f.percent < 0 {
			s += " without a disk"
		}
	case pauseAt, leave, wipe:
		s += fmt.Sprintf(", for %v", f.lasts)
	}
	if f.done {
		s += " (happened)"
	}
	return s
}

// cuttable are the requests at which connections are cut, those of transactions more often.
var cuttable = []kmsg.Key{
	kmsg.EndTxn, kmsg.EndTxn, kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.TxnOffsetCommit, kmsg.Produce,
	kmsg.Produce, kmsg.InitProducerID, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.OffsetFetch,
	kmsg.Fetch, kmsg.ListOffsets, kmsg.FindCoordinator, kmsg.OffsetForLeaderEpoch,
}

// answers are the errors that brokers answer requests with.
var answers = []struct {
	key  kmsg.Key
	errs []*kerr.Error
}{
	{kmsg.Produce, []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend,
		kerr.NotEnoughReplicas, kerr.InvalidProducerEpoch, kerr.OutOfOrderSequenceNumber,
		kerr.KafkaStorageError, kerr.MessageTooLarge,
	}},
	{kmsg.TxnOffsetCommit, []*kerr.Error{
		kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.RequestTimedOut,
		kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.InvalidProducerEpoch, kerr.RebalanceInProgress,
	}},
	{kmsg.EndTxn, []*kerr.Error{
		kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.ConcurrentTransactions, kerr.InvalidProducerEpoch,
		kerr.UnknownServerError,
	}},
	{kmsg.InitProducerID, []*kerr.Error{
		kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.ConcurrentTransactions,
	}},
	{kmsg.Heartbeat, []*kerr.Error{
		kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.NotCoordinator, kerr.RebalanceInProgress,
	}},
	{kmsg.JoinGroup, []*kerr.Error{kerr.NotCoordinator, kerr.CoordinatorNotAvailable}},
	{kmsg.SyncGroup, []*kerr.Error{kerr.RebalanceInProgress, kerr.NotCoordinator}},
	{kmsg.OffsetFetch, []*kerr.Error{
		kerr.UnstableOffsetCommit, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator,
	}},
	{kmsg.Fetch, []*kerr.Error{kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.OffsetNotAvailable}},
	{kmsg.ListOffsets, []*kerr.Error{kerr.NotLeaderForPartition, kerr.OffsetNotAvailable}},
	{kmsg.FindCoordinator, []*kerr.Error{kerr.CoordinatorNotAvailable}},
}

// newFault chooses a fault.
func (p *plan) newFault(r *rand.Rand) *fault {
	f := &fault{
		after: r.IntN(p.events), nth: 1 + r.IntN(4), percent: []int{0, 0, 10, 50, 90, 100, 100, -1}[r.IntN(8)],
		lasts: time.Duration(r.IntN(4000)) * time.Millisecond, seed: r.Uint64(), member: r.IntN(p.members),
		count: 1,
	}
	points := failpoint.KafkaPoints()
	f.point, f.key = points[r.IntN(len(points))], cuttable[r.IntN(len(cuttable))]
	if f.point == failpoint.KafkaAssigned || f.point == failpoint.KafkaClosing {
		f.nth = 1 + r.IntN(2)
	}
	switch n := r.IntN(100); {
	case n < 20:
		f.harm = crashAt
	case n < 26:
		f.harm = crashOn
	case n < 32:
		f.harm = crashBehind
	case n < 36:
		f.harm, f.nth = crashDisk, 1+r.IntN(200)
	case n < 44:
		f.harm = pauseAt
		if r.IntN(2) == 0 {
			f.lasts += p.session // others have its tasks when it goes on
		}
	case n < 52:
		f.harm = cutOn
	case n < 62:
		f.harm = cutBehind
	case n < 67:
		f.harm, f.key = spoil, kmsg.EndTxn
	case n < 87:
		answer := answers[r.IntN(len(answers))]
		f.harm, f.key, f.err = refuse, answer.key, answer.errs[r.IntN(len(answer.errs))]
		f.count += r.IntN(3)
	case n < 91:
		f.harm = leave
	case n < 93:
		f.harm = wipe
	case n < 97:
		f.harm = rehash
	default:
		f.harm = compact
	}
	return f
}

// faults is what goes wrong in a run. It is asked from many goroutines.
type faults struct {
	world *world
	mu    sync.Mutex
	list  []*fault
	calm  bool // nothing goes wrong any more
	hits  map[string]int
}

func newFaults(w *world) *faults {
	return &faults{world: w, list: w.plan.faults, hits: map[string]int{}}
}

// reached arms what may happen from so many events on, and does what happens at once.
func (f *faults) reached(events int) error {
	for _, x := range f.list {
		if x.armed || x.after > events {
			continue
		}
		f.mu.Lock()
		x.armed = true
		f.mu.Unlock()
		if err := f.atOnce(x); err != nil {
			return err
		}
	}
	return nil
}

func (f *faults) atOnce(x *fault) error {
	w := f.world
	m := w.members[x.member]
	switch x.harm {
	case leave:
		m.leave()
		f.happens(x)
		w.beginLater(m, x.lasts)
	case wipe:
		m.leave()
		m.lose()
		f.happens(x)
		w.beginLater(m, x.lasts)
	case rehash:
		w.cluster.RehashCoordinators()
		f.happens(x)
	case compact:
		w.cluster.Compact()
		f.happens(x)
	case refuse:
		x.handle = w.cluster.Fault(kfake.Fault{
			Keys: []kmsg.Key{x.key}, Err: x.err, Count: x.count, When: x.ofMember(),
		})
	}
	return nil
}

// ofMember leaves requests of producers alone, which have no transactions, and lets some
// requests pass.
func (x *fault) ofMember() func(kmsg.Request) bool {
	passed := 0
	return func(r kmsg.Request) bool {
		if p, ok := r.(*kmsg.ProduceRequest); ok && p.TransactionID == nil {
			return false
		}
		passed++
		return passed >= x.nth
	}
}

// happens notes that a fault has happened.
func (f *faults) happens(x *fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x.done = true
}

// compacted says that the logs were compacted.
func (f *faults) compacted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.list, func(x *fault) bool { return x.harm == compact && x.done })
}

// find returns the fault that happens at an occasion.
func (f *faults) find(is func(x *fault) bool) *fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calm {
		return nil
	}
	for _, x := range f.list {
		if !x.armed || x.done || !is(x) {
			continue
		}
		if x.nth--; x.nth <= 0 {
			x.done = true
			return x
		}
	}
	return nil
}

// request is told the kind of each request of a member; done is to be called when it has gone
// out.
func (f *faults) request(l *life, key int16) (what fate, done func()) {
	x := f.find(func(x *fault) bool {
		return int16(x.key) == key && slices.Contains([]harm{crashOn, crashBehind, cutOn, cutBehind, spoil}, x.harm)
	})
	if x == nil {
		return passes, nil
	}
	switch x.harm {
	case crashOn:
		f.crash(l, x)
		return cutBefore, nil
	case crashBehind:
		return cutAfter, func() { f.crash(l, x) }
	case cutOn:
		return cutBefore, nil
	case spoil:
		return spoilt, nil
	}
	return cutAfter, nil
}

// hit is called at the crash points.
func (f *faults) hit(l *life, point string) error {
	f.mu.Lock()
	f.hits[point]++
	f.mu.Unlock()
	x := f.find(func(x *fault) bool { return x.point == point && (x.harm == crashAt || x.harm == pauseAt) })
	switch {
	case x == nil:
		return nil
	case x.harm == pauseAt:
		l.net.pause(x.lasts)
		return nil
	}
	f.crash(l, x)
	return errCrash
}

// writes is called at each operation of a disk that changes it.
func (f *faults) writes(l *life) {
	if x := f.find(func(x *fault) bool { return x.harm == crashDisk }); x != nil {
		f.crash(l, x)
	}
}

func (f *faults) crash(l *life, x *fault) {
	if l.crash(x) {
		f.world.beginLater(l.member, x.lasts)
	}
}

// end lets nothing go wrong any more.
func (f *faults) end() {
	f.mu.Lock()
	f.calm = true
	f.mu.Unlock()
	for _, x := range f.list {
		if x.handle != nil {
			if x.handle.Hits() > 0 {
				f.happens(x)
			}
			x.handle.Remove()
		}
	}
}

// schedule says what went wrong.
func schedule(list []*fault) string {
	var b strings.Builder
	for _, x := range list {
		fmt.Fprintf(&b, "\n  %s", x)
	}
	return b.String()
}
