package tailrace

import "time"

// Status is how an app is doing, for health checks.
type Status struct {
	// Ready says that the first snapshots are done and views can be read.
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
	// Targets are the targets that do not take what is queued, and why: those also that are
	// being opened, which waits for the lease of another instance.
	Targets map[string]error
	// Sources are the databases that cannot be reached, and why: those also that have not been
	// open since the start; in Kafka mode the group, while it has no session.
	Sources map[string]error
	// Stalled are the databases of which rows wait while none has been processed for half a
	// minute, as when a function of a topology does not return; in direct mode.
	Stalled map[string]error
	// Degraded is how many keys of tables are parked by error policies, by topology and
	// node: topology/node. Their output, and what follows from it, is as of before.
	Degraded map[string]int
	// WaitingFor is the target whose full queue stops the sources, "" if none does.
	WaitingFor string
}

// Status returns how the app is doing.
func (a *App) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	var s Status
	if a.runner != nil {
		s = Status(a.runner.Status())
	}
	select {
	case <-a.ended:
		s.Ready, s.Stopped, s.Err = false, true, a.err
	default:
	}
	return s
}

// starting says what an app does that has nothing to show yet, "" for any other.
func (s Status) starting() string {
	switch {
	case s.Ready || s.Stopped:
		return ""
	case len(s.Sources) > 0:
		return "sources are being opened: see sources"
	}
	return "the state directory is being opened, or the first snapshots are read: see the log"
}

// ready reports whether views can be read and everything makes progress: what /readyz answers by.
func (s Status) ready() bool {
	return s.Ready && !s.Stopped && s.WaitingFor == "" &&
		len(s.Held)+len(s.Targets)+len(s.Sources)+len(s.Stalled) == 0
}
