package engine

import "github.com/tailrace/tailrace/sources"

// sourceHealth notes in the status whether a session has its connection.
type sourceHealth struct {
	next     sources.Observer // may be nil
	engine   *Engine
	database string
	lag      *lagMeter
	snapshot *snapshotLog
}

// SnapshotProgress implements sources.Observer.
func (s sourceHealth) SnapshotProgress(table string, rows, estimate int64) {
	s.snapshot.progress(table, rows, estimate)
	if s.next != nil {
		s.next.SnapshotProgress(table, rows, estimate)
	}
}

// Lag implements sources.Observer.
func (s sourceHealth) Lag(head uint64, retained int64) {
	s.lag.reported(head)
	if s.next != nil {
		s.next.Lag(head, retained)
	}
}

// Disconnected implements sources.Observer.
func (s sourceHealth) Disconnected(cause error) {
	s.lag.unheard()
	s.engine.status.sourceError(s.database, cause)
	if s.next != nil {
		s.next.Disconnected(cause)
	}
}

// Waiting implements sources.WaitObserver.
func (s sourceHealth) Waiting(cause error) { s.engine.status.sourceError(s.database, cause) }

// Reconnected implements sources.Observer.
func (s sourceHealth) Reconnected(cause error) {
	s.engine.status.sourceError(s.database, nil)
	if s.next != nil {
		s.next.Reconnected(cause)
	}
}
