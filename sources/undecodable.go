package sources

import "github.com/tailrace/tailrace/topology"

// Undecodable says what becomes of records of topics that cannot be decoded: their bytes
// are not what the connector reads, or a value does not fit the Go type of one of the
// topologies that read them. A record is set aside as a whole, for all topologies of the
// app; of a table, the key then keeps the row that it had until its next record. What
// is no fault of one record, such as columns of other types than the Go types, stops in
// any case.
type Undecodable struct {
	// Verdict is topology.Stop, the default, topology.Skip, which leaves such records out
	// and counts them, or topology.DeadLetter, which writes them to a topic, in the same
	// transaction as everything else: key, value, headers and timestamp byte for byte, with
	// headers that say what failed.
	Verdict topology.Verdict
	// Topic takes the dead letters. It is created if it is missing. Defaults to
	// <app>-dead-letters.
	Topic string
}

// UndecodableReader is a TopicReader with a policy for records that cannot be decoded.
type UndecodableReader interface {
	TopicReader
	Undecodable() Undecodable
}
