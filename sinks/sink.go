// Package sinks takes results out of a topology: the typed sink nodes, and the
// contract that connectors to targets implement.
package sinks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tailrace/tailrace/record"
)

// Target is a named destination that several sinks write together: a database or
// a file. The name stands in state and metrics; the connector may be replaced
// (Config.BindTarget).
type Target struct {
	name      string
	connector Connector
}

// NewTarget names a target and gives it its default connector.
func NewTarget(name string, c Connector) *Target { return &Target{name: name, connector: c} }

// Name returns the target's name.
func (t *Target) Name() string { return t.name }

// Connector returns the default connector, nil if there is none.
func (t *Target) Connector() Connector { return t.connector }

// Errors of targets; test with errors.Is. The messages name the place and the
// remedy.
var (
	// ErrFenced: another instance has taken over the target; this one must stop.
	ErrFenced = errors.New("sinks: fenced by another instance")
	// ErrHeld: another instance is alive and writes the target, so Open leaves it
	// alone.
	ErrHeld = errors.New("sinks: target is held by another instance")
	// ErrTargetSchema: a target table cannot hold the result.
	ErrTargetSchema = errors.New("sinks: target table does not fit the result")
	// ErrTableTaken: another app or target writes the table. It is an ErrTargetSchema.
	ErrTableTaken = fmt.Errorf("%w: it is written by another app or target", ErrTargetSchema)
	// ErrConfig: the target cannot be reached as it is configured: a wrong password, a
	// missing database, a certificate that does not fit. Trying again does not help.
	ErrConfig = errors.New("sinks: the target has to be set up for this first")
	// ErrRejected: the target refuses a row, and will again.
	ErrRejected = errors.New("sinks: target refuses a row")
	// ErrNoPolicy: the target takes no error policy.
	ErrNoPolicy = errors.New("sinks: target takes no error policy")
)

// Connector opens a target. It contacts nothing before Open.
type Connector interface {
	// Transactional says that Apply is atomic and remembers its progress in the
	// target, so that delivery is exactly once.
	Transactional() bool
	// Open checks the target against the outputs, reporting all problems at once, and
	// creates what may be created. It fences the instance that wrote the target before;
	// where that one belongs to another incarnation it waits for its lease to end, and
	// returns ErrHeld if it turns out to be alive. The context bounds Open only.
	Open(ctx context.Context, req OpenRequest) (Writer, error)
	// Drop removes the progress of this app (never its results). Dropping what is not
	// there is no error; ErrHeld says that the app is running.
	Drop(ctx context.Context, req DropRequest) error
}

// Checker is a Connector that finds what is wrong with its target before it is opened, so
// that a start which is refused has made no slot and dropped no state.
type Checker interface {
	Connector
	// Check returns the ErrConfig or ErrTargetSchema that Open would, as far as that can be
	// told without changing anything in the target, or keeping anybody from opening it. Any
	// other error says that the target cannot be asked now, which keeps nobody from starting.
	Check(ctx context.Context, req OpenRequest) error
}

// WindowColumns is a Connector of a target in which windows are columns: a table whose key is
// windows.Windowed has the key's columns, and then window_start and window_end. In those of
// others it has the columns key and window, of which the latter is JSON.
type WindowColumns interface {
	Connector
	// TakesWindowColumns does nothing: it tells such connectors from others.
	TakesWindowColumns()
}

// Transport is a Connector that connects to other machines.
type Transport interface {
	// CheckTransport fails where a connection to another machine may be unencrypted, or
	// where its certificate is not verified with its host. It contacts nothing. An app with
	// Config.Production does not start then; connectors that are no Transport pass.
	CheckTransport() error
}

// OpenRequest says who writes what.
type OpenRequest struct {
	App, Target string
	// Incarnation is random and made with the state directory: a target that holds
	// another one belongs to an older state, and has to be fenced and reconciled.
	Incarnation string
	// Outputs are all outputs that go to this target.
	Outputs []Output
	// AppTargets are the names of all targets of the app: what one of them has been writing
	// may be another's from now on.
	AppTargets []string
	// Claim is for checks alone: what they call it with is theirs to write, a table of a
	// database or a file, unless another target's check has claimed it.
	Claim  func(resource string) error
	Logger *slog.Logger
}

// DropRequest says whose progress to remove.
type DropRequest struct {
	App, Target string
	Logger      *slog.Logger
}

// Output is one sink node of a target.
type Output struct {
	// ID numbers the output within the target's queue.
	ID uint32
	// Name is what the user called it: a table, a topic.
	Name string
	// Columns are the columns of a table output, key columns first, with KeyLen of
	// them; nil for an event output.
	Columns []Column
	KeyLen  int
	// Append says that the output is a stream of events; otherwise a table.
	Append bool
	// Whole says that an epoch with the whole content of a table output has not been taken
	// yet: it does not matter what the table holds.
	Whole bool
	// Options is what the user gave for this output, for its connector; nil for nothing.
	Options Option
	// Reads are the source tables of the output's topology: an output that wrote one of
	// them would feed the topology its own results. A target refuses it where it can tell.
	// Nil where the tables are not known.
	Reads []SourceTable
}

// SourceTable is a table that a topology reads.
type SourceTable struct {
	// System identifies the source installation as sources.Session.System does.
	System string
	// Name is schema.table.
	Name string
}

// Column is a column of a table output.
type Column struct {
	Name string
	// Type is the PostgreSQL type that holds every value of the Go type.
	Type string
	// Nullable says that the Go type can be NULL.
	Nullable bool
}

// Writer is an open target. It is used by one goroutine.
type Writer interface {
	// Progress returns the last epoch that the target holds of this incarnation;
	// ok is false where it holds none: everything has to be delivered again and the
	// tables reconciled (see Epoch.Reconcile). A target that remembers nothing (stdout)
	// always says so, and the caller continues from its own queue. A target that holds
	// less than it took, as after a restore from a backup, stops the caller.
	Progress(ctx context.Context) (seq uint64, ok bool, err error)
	// Apply delivers whole epochs in order, for a transactional target in one
	// transaction together with its progress. Epochs that the target already holds are
	// skipped, so repeating one is harmless. After an error whose outcome is
	// unknown the caller asks Progress again before it repeats. Temporary errors
	// are returned as they are, and retried with backoff; ErrFenced, ErrTargetSchema
	// and ErrRejected are not. Nor is ErrConfig, until the target was open once.
	Apply(ctx context.Context, epochs []Epoch) error
	Close() error
}

// Epoch is what one commit of the engine put out for one target.
type Epoch struct {
	// Seq numbers the epochs of an incarnation, rising; a number may be left out.
	Seq       uint64
	Positions record.Positions
	// CommitTime is the source's commit time of the last transaction in it.
	CommitTime time.Time
	// Reconcile says that Items is the whole content of every table output: rows
	// that are not in it have to go; events are delivered as ever. It is set on the
	// first epoch a target gets from a new incarnation.
	Reconcile bool
	// Fresh limits Reconcile to these outputs, where the others of the target go on
	// from what it holds (a topology that joined later). Nil means all.
	Fresh []uint32
	// Items yields the epoch's items: table rows at most once a key, events in
	// order. It may be walked again after an error. The slices are valid until the
	// next one.
	Items func(yield func(Item) bool) error
	// SetAside decides about items that the target refuses; nil where none of its
	// outputs has an error policy. Then Apply returns the error.
	SetAside SetAside
}

// Whole reports whether Items is the whole content of an output.
func (e *Epoch) Whole(output uint32) bool {
	return e.Reconcile && (e.Fresh == nil || slices.Contains(e.Fresh, output))
}

// Item is a row or an event.
type Item struct {
	// Output is the Output.ID.
	Output uint32
	// Key is the encoded key of a row: equal bytes, equal row.
	Key []byte
	// Columns are the row's values in PostgreSQL's text form, in the order of
	// Output.Columns; of a deleted row only the key columns. nil data is NULL.
	Columns [][]byte
	Deleted bool
	// Event is set for an append output.
	Event *Event
}

// Event is one fact that leaves through an append output.
type Event struct {
	// ID is the stable event id: the same after every crash and replay.
	ID string
	// Key and Value are JSON.
	Key, Value []byte
	// Time is the event time in Unix microseconds.
	Time int64
	// Source, Position and XID name the transaction.
	Source   string
	Position uint64
	XID      uint32
	// Last marks the last event of its transaction in this output's target, among those
	// that are delivered together: what a replay of dead letters delivers of the same
	// transaction later, marked as replayed, has a last one of its own.
	Last bool
	// Replayed marks an event delivered again after the state was lost.
	Replayed bool
}
