package kafka

import (
	"sync"
	"time"

	"github.com/tailrace/tailrace/internal/engine"
)

// status is how the engine is doing, for health checks.
type status struct {
	mu sync.Mutex
	s  engine.Status
}

func (s *status) set(f func(*engine.Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.s)
}

// Status returns how the engine is doing. Sources holds the error of the group's session
// while there is none.
func (e *Engine) Status() engine.Status {
	e.status.mu.Lock()
	defer e.status.mu.Unlock()
	return e.status.s
}

// shown notes that views can be read.
func (s *status) shown() { s.set(func(s *engine.Status) { s.Ready, s.Sources = true, nil }) }

// committed notes progress.
func (s *status) committed() { s.set(func(s *engine.Status) { s.LastCommit = time.Now() }) }

// lost notes that there is no session.
func (s *status) lost(group string, err error) {
	s.set(func(s *engine.Status) { s.Sources = map[string]error{group: err} })
}

func (s *status) stopped(err error) {
	s.set(func(s *engine.Status) { s.Stopped, s.Err = true, err })
}
