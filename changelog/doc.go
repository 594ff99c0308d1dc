// Package changelog keeps what tasks remember in topics of a cluster: the names and
// settings of the topics, the format of their records, the checkpoint that ties local
// state to them, and how state is restored from them, followed and verified. It knows no
// client library: it reads through Log, which internal/kafka implements.
//
// # The records
//
// Every store of a task has a changelog topic, and every task of the sub-topology a
// partition of it: the one with the task's number. A record is one change of one key:
//
//   - its key is the store's key in the encoding that the state database has, without the
//     four bytes of the store's id before it;
//   - its value is the stored value, byte for byte;
//   - without a value it is a tombstone: the key has been deleted.
//
// There are no headers, and the timestamp, which is the producer's, means nothing. Records
// of one Kafka transaction hold each key of a store once at most. Control records (commit
// and abort markers) take an offset each. The topic is compacted, so its records, folded
// in their order, are the store: state == fold(changelog).
//
// # The checkpoint
//
// Local state is a cache of the committed changelog (K1). The Checkpoint says up to which
// offset of each changelog the state holds everything and nothing more; it is written in
// the same batch as the data (K2), so that a crash leaves the state behind its changelog
// and never ahead of it.
package changelog
