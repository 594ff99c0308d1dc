package topology

import "github.com/tailrace/tailrace/record"

// Need says how an input of a node has to be divided over partitions where the topology
// is cut. A node has one for each input; where the input is divided otherwise there is an
// exchange between them. The zero value says that the author has not thought of it:
// topologies with such a node run whole only.
type Need struct {
	kind needKind
	// link makes the exchange where it is not by the input's own key.
	link func(e *Exchange, count int) (Link, error)
}

type needKind uint8

const (
	needUnknown needKind = iota
	needNothing
	needKey
	needExchange
	needOther
	needOne
)

// Any says that the node can do with the input as it is divided: it looks at one record
// or row at a time.
func Any() Need { return Need{kind: needNothing} }

// ByKey says that everything under one key has to be in one partition. Tables always are
// divided so.
func ByKey() Need { return Need{kind: needKey} }

// Anew is ByKey by way of an exchange, also where the input is divided by its keys.
func Anew() Need { return Need{kind: needExchange} }

// One says that all records have to be in one partition, in commit order. It is for
// streams.
func One() Need { return Need{kind: needOne} }

// StreamBy says that the records of a stream are divided by something else than their
// keys. open is called for each partition; what it returns appends to dst what a record
// is divided by, and may keep nothing of either.
func StreamBy[K comparable, V any](
	open func(rt *Runtime) func(dst []byte, r *record.Record[K, V]) []byte,
) Need {
	return Need{kind: needOther, link: func(e *Exchange, count int) (Link, error) {
		return newStreamLink(e, count, open)
	}}
}

// TableBy is StreamBy for the rows of a table, key and value: a row that moves leaves one
// partition and comes to another in the same step. What is exchanged so can be walked but
// not looked up.
func TableBy[K comparable, V any](
	open func(rt *Runtime) func(dst []byte, k K, v *V) []byte,
) Need {
	return Need{kind: needOther, link: func(e *Exchange, count int) (Link, error) {
		return newTableLink(e, count, open)
	}}
}

// Division says how the output of a node is divided over partitions.
type Division uint8

// The divisions of an output.
const (
	// DividedAsInputs is that of nodes that keep the keys: by key if all inputs are.
	DividedAsInputs Division = iota
	// DividedByKey is that of tables and sources.
	DividedByKey
	// DividedOtherwise is that of nodes that give new keys.
	DividedOtherwise
)

// Needs returns n times the same need.
func Needs(n int, need Need) []Need {
	out := make([]Need, n)
	for i := range out {
		out[i] = need
	}
	return out
}
