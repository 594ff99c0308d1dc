package sources

import (
	"context"
	"log/slog"

	"github.com/tailrace/tailrace/record"
)

// Verifier is implemented by connectors that can show their database as of a
// position of its log, so that views can be compared with it.
type Verifier interface {
	// SnapshotAt pins the database as it is now and says at which position that is.
	// The context bounds the call, which may have to wait for transactions that are
	// open; the snapshot lives until its Close.
	SnapshotAt(ctx context.Context, req SnapshotRequest) (Snapshot, error)
}

// SnapshotRequest says who wants a snapshot.
type SnapshotRequest struct {
	App, Database string
	Logger        *slog.Logger
}

// Snapshot is a database as of a position: it holds every transaction whose commit
// record begins before the position and no other. It is used by one goroutine.
type Snapshot interface {
	Position() uint64
	// Columns returns the names and types of a query's columns. What is wrong with the
	// query is an ErrQuery, in the words that the database has for the query as it was
	// given. After any error the snapshot is of no use.
	Columns(ctx context.Context, query string) ([]record.Column, error)
	// Query runs a query that only reads, and calls row with each row of its result as
	// a JSON object of the columns. The bytes are valid during the call. Errors are as
	// those of Columns, and those of row as they are.
	Query(ctx context.Context, query string, row func(object []byte) error) error
	Close() error
}
