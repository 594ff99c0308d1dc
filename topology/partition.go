package topology

import (
	"encoding/binary"
	"fmt"

	"github.com/tailrace/tailrace/state"
)

// Partition says which of the tasks of a topology that is cut a running form belongs
// to. The zero value is that of a topology that runs whole.
type Partition struct {
	Index, Count int
	// One says that the node's input is brought together in the first partition.
	One bool
	// Apart says that the partition is a task of its own: all keys in its stores are its
	// own, and what is exchanged leaves it encoded.
	Apart bool
}

// Cut reports whether the topology is cut, be it into one partition.
func (p Partition) Cut() bool { return p.Count > 0 }

// Owns reports whether what is divided by key belongs to the partition.
func (p Partition) Owns(key []byte) bool {
	if p.One {
		return p.Index == 0
	}
	return p.Count < 2 || PartitionOf(key, p.Count) == p.Index
}

// PartitionOf is the partition, of count, of what is divided by key: murmur2 of the
// key's bytes, as Kafka's clients divide. It must stay as it is: state is found by it
// where partitions are the topics' (invariant X1).
func PartitionOf(key []byte, count int) int { return int(murmur2(key)&0x7fffffff) % count }

func murmur2(data []byte) uint32 {
	const m, r = 0x5bd1e995, 24
	h := uint32(0x9747b28c) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data) * m
		k = (k ^ k>>r) * m
		h = h*m ^ k
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(data[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}

// PartDivided is implemented by key types of which a part decides the partition: a key
// in a window goes where the key alone would.
type PartDivided interface {
	// PartitionKey returns the part of the key's encoding that it is divided by.
	PartitionKey(encoded []byte) []byte
}

// Divider says by what keys of one type are divided.
type Divider[K comparable] struct {
	// Append appends the encoded key.
	Append func(dst []byte, k K) []byte
	// Part returns the part of an encoded key that it is divided by.
	Part func(encoded []byte) []byte
}

// DividerOf returns the divider of a key type; keys without an order-preserving
// encoding have none.
func DividerOf[K comparable]() (Divider[K], error) {
	codec, err := state.KeyCodecOf[K]()
	if err != nil {
		return Divider[K]{}, fmt.Errorf("topology: cannot be partitioned: %w", err)
	}
	d := Divider[K]{Append: codec.Append, Part: func(encoded []byte) []byte { return encoded }}
	var k K
	if p, ok := any(k).(PartDivided); ok {
		d.Part = p.PartitionKey
	}
	return d, nil
}

// Of returns the bytes that a key is divided by, appended to dst, which has to be empty.
func (d *Divider[K]) Of(dst []byte, k K) []byte { return d.Part(d.Append(dst, k)) }

// Partition returns which partition the running form that is being made belongs to.
func (rt *Runtime) Partition() Partition {
	if rt.current.Global {
		return Partition{Count: min(rt.partition.Count, 1)} // every partition has all of it
	}
	if rt.partition.Apart {
		return Partition{Count: 1, Apart: true}
	}
	p := rt.partition
	for _, need := range rt.current.Needs {
		p.One = p.One || need.kind == needOne
	}
	return p
}

// OwnerOf returns what tells, by their encodings, keys of the partition from those of
// others; nil where the node that is being made has all keys. A running form needs it
// where it walks over the keys of a store, which all partitions share: a partition finds
// there what belongs to others, too (invariant X3).
func OwnerOf[K comparable](rt *Runtime) func(encoded []byte) bool {
	p := rt.Partition()
	if p.Count < 2 {
		return nil
	}
	d, err := DividerOf[K]()
	if err != nil {
		return nil // the node is refused for it
	}
	return func(encoded []byte) bool { return p.Owns(d.Part(encoded)) }
}
