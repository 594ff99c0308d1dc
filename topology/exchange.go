package topology

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// Exchange is a place where a topology is cut: what a node puts out is divided over
// partitions anew for one input of another node.
type Exchange struct {
	// Name is stable: the reading node's name, and behind it the input's number where
	// several inputs of the node are exchanged. With Kafka it names the topic
	// <app>-<name>-repartition.
	Name string
	// From puts out what is exchanged, To reads it as its input Input.
	From, To *Node
	Input    int
	// Key and Value are the Go types of From's output.
	Key, Value reflect.Type
	// Table says that net changes are exchanged: old values go where they are known, new
	// ones where they belong. Otherwise records are, with their places in their
	// transactions.
	Table bool
	// ToOne says that all goes to the first partition.
	ToOne bool
	// FromSub and ToSub are the numbers of the sub-topologies that feed and read it.
	FromSub, ToSub int

	link func(e *Exchange, count int) (Link, error)
}

// Link is an exchange at work. Writers and readers of all partitions run one after
// another: in a step, each writer before any reader (invariant X2).
type Link interface {
	// Writer makes what takes the output of From in one partition.
	Writer(rt *Runtime, from Operator) LinkWriter
	// Reader makes what the reading node takes for its input in one partition.
	Reader(rt *Runtime) LinkReader
}

// LinkWriter divides the output of a partition. Step hands it to the readers in this
// process; Messages yields it encoded instead, for a log between processes.
type LinkWriter interface {
	Operator
	Messages(s *Step, yield func(m Message) error) error
}

// LinkReader is an input of a node, from all partitions.
type LinkReader interface {
	Operator
	// Receive takes a message that a writer has yielded, as part of a transaction of the
	// step at work, which is the epoch's seq-th.
	Receive(m Message, tx *record.Tx, seq uint32) error
}

// Message is what is exchanged, encoded. Key is the encoded key of the record or row,
// Value what is to be known besides; both are valid during the call.
type Message struct {
	Partition  int
	Key, Value []byte
	// Seq is the place in the writer's epoch of the transaction that it is part of: of a
	// net change, the last one of the step.
	Seq uint32
}

// NewLink makes the running form of the exchange for so many partitions.
func (e *Exchange) NewLink(count int) (Link, error) {
	l, err := e.link(e, count)
	if err != nil {
		return nil, fmt.Errorf("topology: %s %q: input %q: %w", e.To.Kind, e.To.Name, e.From.Name, err)
	}
	return l, nil
}

// typedNode is what a node with an output knows of the types of its keys and values.
type typedNode interface {
	// keyLink makes an exchange by the output's keys.
	keyLink(e *Exchange, count int) (Link, error)
	// kept makes a node that keeps a table of the output, behind an exchange.
	kept(of *Node) *Node
	// encodes says why the output cannot be encoded; nil if it can.
	encodes() error
	// oneLink makes an exchange to the first partition.
	oneLink(e *Exchange, count int) (Link, error)
	// gather shows what all partitions put out as one.
	gather(n *Node, parts []Operator) Operator
}

type typedStream[K comparable, V any] struct{}

func (typedStream[K, V]) keyLink(e *Exchange, count int) (Link, error) {
	d, err := DividerOf[K]()
	if err != nil {
		return nil, err
	}
	return newStreamLink(e, count, func(*Runtime) func([]byte, *record.Record[K, V]) []byte {
		return func(dst []byte, r *record.Record[K, V]) []byte { return d.Of(dst, r.Key) }
	})
}

func (typedStream[K, V]) encodes() error { return encodes[K, V]() }

func encodes[K comparable, V any]() error {
	_, errK := state.KeyCodecOf[K]()
	_, errV := state.CodecOf[V]()
	return errors.Join(errK, errV)
}

func (typedStream[K, V]) oneLink(e *Exchange, count int) (Link, error) {
	return newStreamLink(e, count, func(*Runtime) func([]byte, *record.Record[K, V]) []byte { return nil })
}

type typedTable[K comparable, V any] struct{}

func (typedTable[K, V]) keyLink(e *Exchange, count int) (Link, error) {
	d, err := DividerOf[K]()
	if err != nil {
		return nil, err
	}
	return newTableLink(e, count, func(*Runtime) func([]byte, K, *V) []byte {
		return func(dst []byte, k K, _ *V) []byte { return d.Of(dst, k) }
	})
}

func (typedTable[K, V]) encodes() error { return encodes[K, V]() }

func (typedTable[K, V]) oneLink(e *Exchange, _ int) (Link, error) {
	return nil, fmt.Errorf("a table cannot be brought into one partition")
}
