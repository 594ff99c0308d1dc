package view

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// Position says which moment an answer is of.
type Position struct {
	// Seq numbers the commits of the app's state directory.
	Seq uint64
	// Sources is the position in each source. It is shared by all readers of the
	// moment and must not be changed.
	Sources record.Positions
	// AsOf is the source's commit time of the last transaction in the moment, in
	// UTC; the zero time where there was none.
	AsOf time.Time
}

// String prints the sources' positions, such as shop:0/16B3748.
func (p Position) String() string { return p.Sources.String() }

// mark names the committed state: a commit may leave the sources' positions where they
// were and change rows, as a replay of dead letters does.
func (p Position) mark() string { return p.String() + "#" + strconv.FormatUint(p.Seq, 10) }

// moment is a committed state and its position. It is immutable.
type moment struct {
	seq       uint64
	positions record.Positions
	// held is where topologies stand that are behind, by name.
	held map[string]Standing
	asOf int64
	// parts are those that the snapshot has of views, by name.
	parts map[string][]Part
	snap  *snapshot
}

// position returns the moment's position as the views of a topology have it.
func (m *moment) position(topology string) Position {
	p, asOf := Position{Seq: m.seq, Sources: m.positions}, m.asOf
	if held, ok := m.held[topology]; ok {
		p.Sources, asOf = held.Positions, held.AsOf
	}
	if asOf != 0 {
		p.AsOf = time.UnixMicro(asOf).UTC()
	}
	return p
}

// shows fails where the views of a topology cannot be read at the moment.
func (m *moment) shows(topology string) error {
	if held, ok := m.held[topology]; ok && len(held.Positions) == 0 {
		return fmt.Errorf("%w: topology %q has no snapshot yet: it is on its way to where the others are, or "+
			"stands still; the app's status says which", ErrNotReady, topology)
	}
	return nil
}

// keepUp raises positions to those that old has shown, and fills in the time.
func (m *moment) keepUp(old *moment) {
	if m.asOf == 0 {
		m.asOf = old.asOf
	}
	raise(m.positions, old.positions)
	for topology, s := range m.held {
		raise(s.Positions, old.position(topology).Sources)
	}
}

// raise raises each position of p to that of q, if it has one.
func raise(p, q record.Positions) {
	for name, at := range p {
		p[name] = max(at, q[name])
	}
}

// snapshot counts the users of a database snapshot; the last one closes it.
type snapshot struct {
	state.Snapshot
	refs   atomic.Int64
	closed func(error)
}

// acquire adds a user. It reports false where the last user has already left.
func (s *snapshot) acquire() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *snapshot) release() {
	if s.refs.Add(-1) == 0 {
		s.closed(s.Close())
	}
}

// Moment pins one committed state for reading several views, or one view several
// times, at one position. It holds old data back from being reclaimed: Close it
// soon.
type Moment struct {
	host *Host
	m    *moment
	done atomic.Bool
}

// At pins the current moment of the app that keeps the views. It fails with
// ErrPositions where the views belong to different apps or one of them stands
// still at an earlier position than the others.
func At(ctx context.Context, views ...Port) (*Moment, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(views) == 0 {
		return nil, fmt.Errorf("%w: At was given no view", ErrPositions)
	}
	var host *Host
	for _, v := range views {
		b, err := v.port().bound()
		if err != nil {
			return nil, err
		}
		if host != nil && b.host != host {
			return nil, fmt.Errorf("%w: %q and %q belong to different apps", ErrPositions, views[0].Name(), v.Name())
		}
		host = b.host
	}
	m, err := host.acquire()
	if err != nil {
		return nil, err
	}
	if err := samePosition(m, views); err != nil {
		m.snap.release()
		return nil, err
	}
	return &Moment{host: host, m: m}, nil
}

// samePosition fails where the views do not all stand at one position in m.
func samePosition(m *moment, views []Port) error {
	first := m.position(views[0].Topology())
	for _, v := range views {
		if err := m.shows(v.Topology()); err != nil {
			return err
		}
	}
	for _, v := range views[1:] {
		p := m.position(v.Topology())
		if !maps.Equal(p.Sources, first.Sources) {
			return fmt.Errorf("%w: %q at %s, %q at %s; mend the topology that stands still or read them one by one",
				ErrPositions, views[0].Name(), first, v.Name(), p)
		}
	}
	return nil
}

// At pins the host's current moment.
func (h *Host) At(ctx context.Context) (*Moment, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m, err := h.acquire()
	if err != nil {
		return nil, err
	}
	return &Moment{host: h, m: m}, nil
}

// Position returns the moment's position.
func (m *Moment) Position() Position { return m.m.position("") }

// Close lets go of the moment. Reads after it fail with ErrClosed. It must not be
// called while a read is running.
func (m *Moment) Close() {
	if m.done.CompareAndSwap(false, true) {
		m.m.snap.release()
	}
}
