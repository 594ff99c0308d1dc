package topology

import (
	"errors"
	"fmt"

	"github.com/tailrace/tailrace/record"
)

// Verdict is what an error policy decides.
type Verdict uint8

// The verdicts of an error policy.
const (
	// Stop stops the topology before the transaction that failed: the default.
	Stop Verdict = iota
	// Skip leaves the input out and counts it (metric reason "skipped"). Results are
	// then no longer those of the source's transactions. On a table the key keeps the
	// output that it had, until a later change of it succeeds.
	Skip
	// DeadLetter leaves the input out and keeps it, with its position and the error,
	// among the topology's dead letters, which commit with the state. On a table it parks
	// the key: see Parking.
	DeadLetter
)

// ErrorPolicy decides what becomes of an input that cannot be decoded or that a user
// function fails on, by an error or a panic. It must be pure: a step that is repeated
// asks again, and the answer is part of the result. What is no fault of the input,
// such as a table whose shape has changed or a disk that cannot be read, always stops.
type ErrorPolicy func(ctx record.Context, f *Failure) Verdict

// ErrInput marks errors that are the fault of one input, so that the policy of its
// node is asked. Errors that ErrUserFunction marks are, too.
var ErrInput = errors.New("topology: input cannot be processed")

// OnError sets the error policy of the node behind the handle and returns the handle.
// sources.Stream and Outbox, Map and its kin, Filter and Enrich take one; Build refuses
// it on others, whose results would be wrong without the input.
func (s Stream[K, V]) OnError(p ErrorPolicy) Stream[K, V] {
	setPolicy(s.Builder(), s.node, p)
	return s
}

// OnError sets the error policy of the node behind the handle and returns the handle.
// What an input fails on is a key: with Skip and DeadLetter it keeps the output that it
// had before, and takes part again with its next change that succeeds, or when it is
// replayed; see Parking. Each transaction becomes a step of its own.
//
// sources.Table, Filter, MapValues, the joins of tables but for OuterJoinForeignKey, and
// Aggregate over a table without windows or KeepEmpty take one: there the policy is asked about rows
// whose group function fails, or which a fresh aggregate cannot take, and about groups
// whose result fails. Build refuses it on others.
func (t Table[K, V]) OnError(p ErrorPolicy) Table[K, V] {
	setPolicy(t.Builder(), t.node, p)
	return t
}

// OnError is Table.OnError of the source of a global table.
func (g GlobalTable[K, V]) OnError(p ErrorPolicy) GlobalTable[K, V] {
	g.table.OnError(p)
	return g
}

func setPolicy(b *Builder, n *Node, p ErrorPolicy) {
	switch {
	case n == nil:
		return
	case !n.TakesPolicy && n.Shape == ShapeTable:
		b.Errorf("topology %q: %s %q has no error policy: a key cannot be set aside in it without making what "+
			"follows from it wrong; let a MapValues or Filter with a policy before it compute what may fail",
			n.Topology, n.Kind, n.Name)
	case !n.TakesPolicy:
		b.Errorf("topology %q: %s %q has no error policy: an input cannot be left out of it without making what "+
			"follows from it wrong; set one on the stream before it", n.Topology, n.Kind, n.Name)
	case p == nil:
		b.Errorf("topology %q: %s %q: the error policy is nil", n.Topology, n.Kind, n.Name)
	default:
		n.OnError = p
		n.PerTransaction = n.PerTransaction || n.Shape == ShapeTable
	}
}

// Letter is an input that was set aside.
type Letter struct {
	Tag record.Tag
	// Key and Value are the input: JSON.
	Key, Value []byte
	// Time is its event time in Unix microseconds. Relation describes the row that a
	// source has set aside.
	Time     int64
	Relation *record.Relation
	Err      error
}

// LetterReplayer is the running form of a stream node that can take an input again which
// its error policy has set aside.
type LetterReplayer interface {
	Operator
	// ReplayLetter takes it for the next step, in which nothing else comes. An error says
	// that the letter cannot be read.
	ReplayLetter(l *Letter) error
	// DivideLetter returns what the input is divided by where the topology is cut.
	DivideLetter(l *Letter) ([]byte, error)
}

// Letters keeps inputs that were set aside.
type Letters interface {
	DeadLetter(n *Node, l *Letter) error
}

// Guard follows the error policy of one node; its running form asks it about each
// input that fails.
type Guard struct {
	node    *Node
	letters Letters
	drop    func(n *Node, reason string, count int)
}

// NewGuard makes the guard of the node whose running form is being made.
func NewGuard(rt *Runtime) Guard { return Guard{node: rt.current, letters: rt.Letters, drop: rt.Drop} }

// On reports whether the node has a policy. Without one nothing is to be guarded.
func (g *Guard) On() bool { return g.node.OnError != nil }

// Call calls a user function and makes an error of its panic.
func (g *Guard) Call(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %w", ErrUserFunction, NewPanicError(p))
		}
	}()
	return f()
}

// Failed decides about an input that failed: nil says to go on without it. The
// input's JSON is only asked for where it is kept.
func (g *Guard) Failed(
	f *Failure,
	tag record.Tag,
	ctx record.Context,
	input func(l *Letter),
) error {
	if !g.On() || !errors.Is(f.Err, ErrInput) && !errors.Is(f.Err, ErrUserFunction) {
		return f
	}
	switch g.node.OnError(ctx, f) {
	case Skip:
		g.drop(g.node, DropSkipped, 1)
		return nil
	case DeadLetter:
		g.drop(g.node, DropDeadLetter, 1)
		l := &Letter{Tag: tag, Err: f.Err}
		input(l)
		return g.letters.DeadLetter(g.node, l)
	}
	return f
}
