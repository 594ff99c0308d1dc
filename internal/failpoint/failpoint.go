// Package failpoint names the moments at which a crash or an error is interesting,
// so that tests can make one happen there. A process without failpoints pays one
// atomic load at each.
//
// Failpoints are switched on from outside by the environment:
//
//	TAILRACE_FAILPOINTS=dp4-before-ack=exit@3;dp8-sink-commit=count
//	TAILRACE_FAILPOINTS_LOG=/tmp/hits
//
// or inside a test by Set. The actions are exit (ends the process at once with
// status 137, as a kill -9 would look), late (the same after 200 ms, in which whatever
// other goroutines were told too early goes out), error (Hit returns ErrInjected) and count
// (nothing but counting). With @n the action happens at the nth hit only, without it
// at every hit. Each action appends a line with the point's name to the log before it
// happens, so that a suite can tell which points it really reached.
package failpoint

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Environment variables that switch failpoints on when the process starts.
const (
	EnvSpec = "TAILRACE_FAILPOINTS"
	EnvLog  = "TAILRACE_FAILPOINTS_LOG"
)

// ErrInjected is what Hit returns at a failpoint with the action error.
var ErrInjected = errors.New("failpoint: injected error")

// ExitStatus is the status a process ends with at a failpoint with the action exit.
const ExitStatus = 137

var (
	on  atomic.Bool
	mu  sync.Mutex
	set = map[string]*point{}
)

type point struct {
	action func(hit int) error
	hits   int
}

// Hit is called where the named point is. It returns nil unless the point is on and
// its action says otherwise.
func Hit(name string) error {
	if !on.Load() {
		return nil
	}
	return hit(name)
}

func hit(name string) error {
	mu.Lock()
	p := set[name]
	if p == nil {
		mu.Unlock()
		return nil
	}
	p.hits++
	n, action := p.hits, p.action
	mu.Unlock()
	// Outside of the lock, because a test's action may block or hit other points.
	return action(n)
}

// Set switches a point on with an action of the test's own, which is told how many
// times the point has been hit, this time included. The function returned switches it
// off again.
func Set(name string, action func(hit int) error) (off func()) {
	p := &point{action: action}
	mu.Lock()
	defer mu.Unlock()
	set[name] = p
	on.Store(true)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		if set[name] == p {
			delete(set, name)
		}
		on.Store(len(set) > 0)
	}
}

// Hits returns how often a point that is on has been hit since it was switched on.
func Hits(name string) int {
	mu.Lock()
	defer mu.Unlock()
	if p := set[name]; p != nil {
		return p.hits
	}
	return 0
}

// Enable switches on what a specification asks for, in the form described for the
// package. log is the file that actions are recorded in, "" for none. All errors of
// the specification are reported at once, and nothing is switched on then.
func Enable(spec, log string) error {
	actions := map[string]func(int) error{}
	var errs []error
	for term := range strings.SplitSeq(spec, ";") {
		if term = strings.TrimSpace(term); term == "" {
			continue
		}
		name, action, err := parse(term, log)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		actions[name] = action
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for name, action := range actions {
		Set(name, action)
	}
	return nil
}

func parse(term, log string) (string, func(int) error, error) {
	name, what, _ := strings.Cut(term, "=")
	if !known(name) {
		return "", nil, fmt.Errorf("failpoint: %q is no failpoint; there are %s", name,
			strings.Join(points, ", "))
	}
	what, nth, counted := strings.Cut(what, "@")
	at := 0
	if counted {
		n, err := strconv.Atoi(nth)
		if err != nil || n < 1 {
			return "", nil, fmt.Errorf("failpoint: %q: after @ comes the number of the hit, from 1", term)
		}
		at = n
	}
	var act func() error
	switch what {
	case "exit":
		act = func() error { os.Exit(ExitStatus); return nil }
	case "late":
		act = func() error { time.Sleep(200 * time.Millisecond); os.Exit(ExitStatus); return nil }
	case "error":
		act = func() error { return fmt.Errorf("%w at %s", ErrInjected, name) }
	case "count":
		act = func() error { return nil }
	default:
		return "", nil, fmt.Errorf("failpoint: %q: the action is exit, late, error or count, with @n for the "+
			"nth hit only", term)
	}
	return name, func(hit int) error {
		if at != 0 && hit != at {
			return nil
		}
		if err := record(log, name); err != nil {
			return err
		}
		return act()
	}, nil
}

// record appends one line in one write, so that the lines of several processes that
// share the file never mix.
func record(log, name string) error {
	if log == "" {
		return nil
	}
	f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("failpoint: %w", err)
	}
	_, err = f.WriteString(name + "\n")
	return errors.Join(err, f.Close())
}

// A specification that cannot be read ends the process: a crash test that silently
// tests nothing is worse than none.
func init() {
	if err := Enable(os.Getenv(EnvSpec), os.Getenv(EnvLog)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}
