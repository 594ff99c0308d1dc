package topologytest

import (
	"math"

	"github.com/tailrace/tailrace/state"
)

// Option changes how a driver cuts its work, which must not change any result: give
// a test the choice of random options to see that.
type Option func(*options)

type options struct {
	chunk, steps, epochs int
	memory               int64
	db                   state.DB
	everything           bool
	partitions           int
	encoded              bool
	delayed              bool
	seed                 uint64
}

func defaults() options { return options{chunk: math.MaxInt, epochs: 1} }

// Chunks hands a transaction's rows over in pieces of n. By default all at once.
func Chunks(n int) Option { return func(o *options) { o.chunk = max(n, 1) } }

// Steps computes after every n transactions. By default once an epoch; topologies
// whose results depend on every version compute after each transaction anyway.
func Steps(n int) Option { return func(o *options) { o.steps = n } }

// Epochs commits after every n transactions, 0 only on Commit. Nothing is visible
// before its commit. By default each transaction is an epoch.
func Epochs(n int) Option { return func(o *options) { o.epochs = n } }

// Memory bounds the memory of the state in bytes; what goes beyond is evicted and
// spilled. By default there is no bound.
func Memory(bytes int64) Option { return func(o *options) { o.memory = bytes } }

// Partitions cuts the topology at its exchanges and runs it in n partitions, as an app
// with tailrace.Config.Partitions does; 1 cuts it, too. By default it runs whole. A
// topology that cannot be cut fails the test.
func Partitions(n int) Option { return func(o *options) { o.partitions = n } }

// Encoded passes what is exchanged between partitions through the encoding that it would
// have between processes. It needs Partitions.
func Encoded() Option { return func(o *options) { o.encoded = true } }

// Delayed lets net changes of tables that are exchanged between partitions arrive any
// number of steps later, by chance from seed, as they do in Kafka mode where partitions
// are on several members. Joins and aggregates then show values in between; Settle lets all
// arrive. It needs Partitions, whose number then stays.
func Delayed(seed uint64) Option {
	return func(o *options) { o.delayed, o.seed = true, seed }
}

// DB keeps the state in a database that is given, and closed in the end, instead of
// one in memory.
func DB(db state.DB) Option { return func(o *options) { o.db = db } }

// CheckEverything also checks, after every step, that each table node answers for
// every row it has, changed or not. It is slow with many rows.
func CheckEverything() Option { return func(o *options) { o.everything = true } }
