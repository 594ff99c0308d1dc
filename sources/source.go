// Package sources brings rows into a topology: the typed source nodes, and the
// contract that connectors to databases implement.
package sources

import (
	"context"
	"log/slog"

	"github.com/tailrace/tailrace/record"
)

// Database is a named source of tables. The name stands in state, hashes and
// metrics; the connector behind it may be replaced (Config.Bind), so the same
// topology runs in tests, against PostgreSQL and over Kafka.
type Database struct {
	name      string
	connector Connector
}

// NewDatabase names a database and gives it its default connector, which may be
// nil where every run binds one. The name follows topology.CheckName.
func NewDatabase(name string, c Connector) *Database {
	return &Database{name: name, connector: c}
}

// Name returns the database's name.
func (d *Database) Name() string { return d.name }

// Connector returns the default connector, nil if there is none.
func (d *Database) Connector() Connector { return d.connector }

// Connector opens a database's change stream. A connector is a value made from
// configuration: it contacts nothing before Open.
type Connector interface {
	// Open checks everything that can be checked before the first row is read:
	// rights, settings, tables, columns, slot and publication against req, and
	// creates what is missing. All problems are reported at once, each with its
	// remedy. The context bounds Open only; the session lives until Close.
	Open(ctx context.Context, req OpenRequest) (Session, error)
	// Drop removes what Open created in the source for this app (slot,
	// publications), and, without Joins, what sessions that join it have left.
	// Dropping what is not there is no error.
	Drop(ctx context.Context, req DropRequest) error
}

// Transport is a Connector that connects to other machines.
type Transport interface {
	// CheckTransport fails where a connection to another machine may be unencrypted, or
	// where its certificate is not verified with its host. It contacts nothing. An app with
	// Config.Production does not start then; connectors that are no Transport pass.
	CheckTransport() error
}

// Keeper is a Connector whose source remembers what an app has acknowledged, so that
// its events survive the loss of the app's state.
type Keeper interface {
	Connector
	// Kept returns the position that an app without state has acknowledged, everything
	// after which the source still holds for it. ok is false if it never acknowledged
	// anything: this is its first start. An ErrDataGap says that it did, and that the
	// source no longer holds what follows.
	Kept(ctx context.Context, req KeptRequest) (position uint64, ok bool, err error)
}

// Identifier is a Connector that tells where it leads to before a session is opened, which
// makes things there.
type Identifier interface {
	Connector
	// Identify returns what System of a session would, "" where the role may not know.
	Identify(ctx context.Context) (system string, err error)
}

// KeptRequest says whose acknowledgement is asked for.
type KeptRequest struct {
	App, Database string
	// Begun says that the app's state directory is that of a first start, which did not
	// get to its first commit.
	Begun  bool
	Logger *slog.Logger
}

// OpenRequest says what a session is to deliver.
type OpenRequest struct {
	// App and Database name the reader; slot and publications are named for them.
	App, Database string
	// Joins is set for a session of which only the snapshot is read: it names the app
	// whose session reads the same tables and is open. What was set up for that one
	// serves this session too, and stays as it is; only the slot is its own.
	Joins string
	// Tables are the tables to read, without duplicates.
	Tables []TableRequest
	// Messages are the prefixes of logical messages to deliver.
	Messages []string
	// Resume is the position to continue after. Zero means there is no state yet:
	// the session begins with a snapshot of all tables.
	Resume uint64
	// System is what Session.System returned when the state was made, "" at first.
	System string
	// Timeline is what Branching.Timeline last returned, 0 if that is not known.
	Timeline uint32
	// Check, if it is not nil, reports what of the tables' shapes does not fit the topologies'
	// types. It is called with what is known of the tables before anything is created, and
	// its error is reported together with what else is wrong.
	Check func(relations map[string]*record.Relation) error
	// EventTime says that a node of the topology depends on stream time, so an
	// idle database has to log heartbeats.
	EventTime bool
	// Partial says that other readers of this app, which stand still or may come back,
	// want further tables: what was set up for those stays.
	Partial bool
	Logger  *slog.Logger
	// Observe receives progress and measurements; nil drops them.
	Observe Observer
}

// DropRequest says whose objects to remove.
type DropRequest struct {
	App, Database string
	// Joins is that of the OpenRequest.
	Joins  string
	Logger *slog.Logger
}

// TableRequest asks for one table.
type TableRequest struct {
	// Name is schema.table.
	Name string
	// Columns are the columns that the topology's types map, in any order. Others
	// need not be delivered with values.
	Columns []string
	// KeyColumns are the columns that form the key type; with Changes they must be the
	// table's identity. Nil where the key type is a single value, which stands for the
	// table's only key column whatever its name, or where there is no key.
	KeyColumns []string
	// Changes says that updates and deletes matter; otherwise only inserts do.
	Changes bool
	// Snapshot says that existing rows are delivered first.
	Snapshot bool
	// Added says that no state continues the table from Resume, so that it may have to be
	// set up first. For any other the source has to have published all changes since Resume:
	// that it did not, or may not have, is an ErrDataGap.
	Added bool
	// Published is what Publishing.Published said of a table that is not Added when its
	// state was made, "" if that is not known.
	Published string
}

// Session is an open change stream. System and Relations are called before the first
// Next, and Next from one goroutine; Ack may be called from any, also while Next runs
// and after Close, and then does nothing. Close is called once Next has returned.
type Session interface {
	// System identifies the source installation: for PostgreSQL its system
	// identifier and database. State never moves to another system.
	System() string
	// Relations returns the tables' shapes at the session's start, by name, so that
	// types are checked before the first row.
	Relations() map[string]*record.Relation
	// Next blocks until there are rows, and returns what has arrived, up to the
	// session's bounds. It returns the context's error when that is done, and a
	// permanent error when the stream cannot go on, or ErrReopen; what a reconnect mends is
	// mended inside (whole transactions are resent, already delivered ones are
	// dropped). The batch and all its bytes are valid until its Release.
	Next(ctx context.Context) (*Batch, error)
	// Ack says that everything up to and including this position is durable here
	// and in every target that asked for it, so the source may forget it. Positions
	// never go back.
	Ack(position uint64)
	// Close ends the stream and lets go of the connection; what Open created in the
	// source stays.
	Close() error
}

// Branching is a Session of a source whose log may branch, as when a standby takes over
// from its primary.
type Branching interface {
	Session
	// Timeline names the branch that the source is on, 0 if unknown. It may change with
	// a reconnect; what Next has returned, and OpenRequest.Resume, then lie on the new
	// one's history. It may be called from any goroutine.
	Timeline() uint32
}

// Publishing is a Session of a source that publishes tables by choice, so that changes
// are lost where somebody takes a table out.
type Publishing interface {
	Session
	// Published tells by table what identifies its publication as of the session's start:
	// where it is another one later, changes may have been lost in between.
	Published() map[string]string
}

// Batch is a contiguous piece of a source's log in commit order.
type Batch struct {
	// Txs are the transactions that have rows in this batch.
	Txs []TxRows
	// Idle is set where the source proved that nothing is to come up to this
	// position: the frontier, which an idle database moves too. 0 where unknown.
	Idle uint64
	// CaughtUp is set where the source had nothing more when it last said something: no
	// transaction of another database need wait for one of this.
	CaughtUp bool
	// Release gives the memory back; nil where there is nothing to give.
	Release func()
}

// TxRows is a piece of one transaction.
type TxRows struct {
	// Tx describes the transaction. The same pointer is used for all pieces; CommitTime
	// is set from the first one on, Position at the latest in the last one.
	Tx   *record.Tx
	Rows []record.Row
	// Messages are logical messages, ordered with the rows by their ordinals.
	Messages []record.Message
	// Last says that the transaction ends here. Without it the next batch begins
	// with its continuation.
	Last bool
}

// Observer receives what a session measures. All methods must be cheap and may be
// called from any goroutine.
type Observer interface {
	// SnapshotProgress reports rows copied of an estimated total, per table.
	SnapshotProgress(table string, rows, estimate int64)
	// Lag reports the source's newest position, and bytes the source retains for us.
	Lag(head uint64, retained int64)
	// Disconnected reports a connection that was lost, and each attempt to get another one
	// that failed.
	Disconnected(cause error)
	// Reconnected counts a lost connection that was mended; cause is what was last reported
	// to Disconnected.
	Reconnected(cause error)
}

// WaitObserver is an Observer that is told what an Open waits for before it goes on by itself.
type WaitObserver interface {
	Observer
	Waiting(cause error)
}
