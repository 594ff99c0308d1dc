package engine

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// Status is how an engine is doing, for health checks.
type Status struct {
	// Ready says that the initial snapshots are done and views can be read.
	Ready bool
	// Stopped says that Run has ended; Err is why, nil if it was asked to.
	Stopped bool
	Err     error
	// LastCommit is when the last epoch was committed.
	LastCommit time.Time
	// Joining are the new and rebuilt topologies that are on their way to where the others
	// are. Their views cannot be read yet.
	Joining []string
	// Held are the topologies that stand still, and why.
	Held map[string]error
	// Targets are the targets that do not take what is queued, and why.
	Targets map[string]error
	// Sources are the sources that could not be reached at the last attempt, and why: those
	// also that have not been open since the start.
	Sources map[string]error
	// Stalled are the sources of which rows wait while none has been processed for half a
	// minute.
	Stalled map[string]error
	// Degraded is how many keys of tables are parked by error policies, by topology and
	// node: topology/node. Their output, and what follows from it, is as of before.
	Degraded map[string]int
	// WaitingFor is the target whose full queue stops the sources, "" if none does.
	WaitingFor string
}

type status struct {
	mu sync.Mutex
	s  Status
	// unopened are the databases that have not been open since the start.
	unopened map[string]bool
	// refused is how many keys targets have refused, by topology and sink.
	refused map[string]int
}

// errOpeningSource says that a database has not been open since the start.
var errOpeningSource = errors.New("engine: the database is being opened; where another instance of the app" +
	" reads it, that one has to end before")

// Status returns how the engine is doing.
func (e *Engine) Status() Status {
	e.status.mu.Lock()
	defer e.status.mu.Unlock()
	s := e.status.s
	s.Joining = slices.Clone(s.Joining)
	s.Held, s.Targets, s.Sources = clone(s.Held), clone(s.Targets), clone(s.Sources)
	s.Degraded = maps.Clone(s.Degraded)
	for node, keys := range e.status.refused {
		if keys > 0 {
			s.Degraded = withCount(s.Degraded, node, keys)
		}
	}
	if s.Ready && s.WaitingFor == "" && !s.Stopped {
		for _, d := range e.databases {
			if err := d.lag.stalled(e.limits.Stalled); err != nil {
				s.Stalled = with(s.Stalled, d.name, err)
			}
		}
	}
	return s
}

func withCount(m map[string]int, key string, n int) map[string]int {
	if m == nil {
		m = map[string]int{}
	}
	m[key] = n
	return m
}

// refusedKeys notes how many keys a target has refused.
func (s *status) refusedKeys(counts map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused == nil {
		s.refused = map[string]int{}
	}
	maps.Copy(s.refused, counts)
}

func clone(m map[string]error) map[string]error {
	out := make(map[string]error, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

func (s *status) set(f func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.s)
}

func (s *status) ready() { s.set(func(s *Status) { s.Ready = true }) }

func (s *status) progress() {
	s.set(func(s *Status) { s.LastCommit, s.WaitingFor = time.Now(), "" })
}

func (s *status) waiting(target string) { s.set(func(s *Status) { s.WaitingFor = target }) }

func (s *status) stopped(err error) { s.set(func(s *Status) { s.Stopped, s.Err = true, err }) }

func (s *status) held(topology string, err error) {
	s.set(func(s *Status) { s.Held = with(s.Held, topology, err) })
}

func (s *status) joining(topologies []string) {
	s.set(func(s *Status) { s.Joining = topologies })
}

func (s *status) targetError(target string, err error) {
	s.set(func(s *Status) { s.Targets = with(s.Targets, target, err) })
}

// opening notes that a target is being opened, unless it is known why it is not open.
func (s *status) opening(target string) {
	s.set(func(s *Status) {
		if s.Targets[target] == nil {
			s.Targets = with(s.Targets, target, errOpening)
		}
	})
}

// opened takes that back; what else was wrong stays until the target takes something.
func (s *status) opened(target string) {
	s.set(func(s *Status) {
		if errors.Is(s.Targets[target], errOpening) {
			s.Targets = with(s.Targets, target, nil)
		}
	})
}

// openingSource notes that a database is being opened for the first time.
func (s *status) openingSource(database string) {
	s.mu.Lock()
	if s.unopened == nil {
		s.unopened = map[string]bool{}
	}
	s.unopened[database] = true
	s.mu.Unlock()
	s.sourceError(database, nil)
}

// neverOpen reports whether a database has not been open since the start.
func (s *status) neverOpen(database string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unopened[database]
}

// openedSource notes that it is open, or that nobody waits for it.
func (s *status) openedSource(database string) {
	s.mu.Lock()
	delete(s.unopened, database)
	s.mu.Unlock()
	s.sourceError(database, nil)
}

// sourceError notes why a database cannot be reached, nil where it could be.
func (s *status) sourceError(database string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.unopened[database] {
		err = errOpeningSource
	}
	s.s.Sources = with(s.s.Sources, database, err)
}

func with(m map[string]error, key string, err error) map[string]error {
	out := clone(m)
	if err == nil {
		delete(out, key)
	} else {
		out[key] = err
	}
	return out
}
