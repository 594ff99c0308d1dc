package view

import "errors"

// Errors of reads; test with errors.Is.
var (
	// ErrNotReady says that nothing has been committed yet: the initial snapshot
	// of the sources is still being read. WaitFor with nil positions waits for it.
	ErrNotReady = errors.New("view: nothing has been committed yet; " +
		"wait for the initial snapshot (WaitFor, or GET /readyz)")
	// ErrNotBound says that no running app keeps the view: the handle was used
	// before Run.
	ErrNotBound = errors.New("view: no app keeps this view yet; start its app with Run first")
	// ErrClosed says that the app that kept the view has stopped.
	ErrClosed = errors.New("view: the app that keeps this view has stopped")
	// ErrBound says that a view cannot be bound: its name is taken, or another app
	// keeps the same handle.
	ErrBound = errors.New("view: cannot be bound")
	// ErrNoView says that the app keeps no view of a name.
	ErrNoView = errors.New("view: there is no view")
	// ErrUnknownSource says that positions to wait for name a source that the app
	// does not read.
	ErrUnknownSource = errors.New("view: unknown source")
	// ErrPositions says that views cannot be read at one position: one belongs to a
	// topology that stands still at an earlier one, or to another app.
	ErrPositions = errors.New("view: views stand at different positions")
	// ErrNoIndex says that a lookup names an index that the view does not declare,
	// or uses another type than its values have.
	ErrNoIndex = errors.New("view: no such index")
	// ErrCursor says that a cursor has expired, was never given or belongs to
	// another query; start again without it.
	ErrCursor = errors.New("view: cursor is not valid any more")
	// ErrTooManyCursors says that the bound on pinned snapshots is reached.
	ErrTooManyCursors = errors.New("view: too many open cursors; try again in a moment")
)
