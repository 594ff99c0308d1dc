package walsender

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// harm is what goes wrong next.
type harm struct {
	// cut says that connections are cut after so many bytes more, those of streams only or
	// any.
	cut, streams bool
	left         int
	// linger is how long the server does not notice that the next reader is gone.
	linger time.Duration
	// again has the next stream begin where what was confirmed had been written down, and not
	// where it was asked for.
	again bool
	// slow is how many bytes go out at once, 0 for all there are.
	slow int
}

// Cut cuts the connection over which the byte behind so many more would go out.
func (s *Server) Cut(after int, streams bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.harm.cut, s.harm.left, s.harm.streams = true, after, streams
}

// Disconnect cuts all connections.
func (s *Server) Disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Cut++
	s.disconnect()
}

// Linger has the slot stay in use for a while by readers whose connection is gone.
func (s *Server) Linger(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.harm.linger = d
}

// Again has the next stream begin earlier than asked for.
func (s *Server) Again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.harm.again = true
}

// Slow has data go out in small pieces, 0 as a whole.
func (s *Server) Slow(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.harm.slow = bytes
}

// Mute lets nothing through any more over the connections that there are. The server gives them
// up after wal_sender_timeout.
func (s *Server) Mute() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := range s.backs {
		b.link.mute.Do(func() { close(b.link.muted) })
		s.wg.Go(func() {
			select {
			case <-b.link.gone:
			case <-time.After(60 * time.Second):
				b.link.cut()
			}
		})
	}
}

// Stop ends the server as a crash does: open transactions are rolled back, and the slot knows
// of what was confirmed what had been written down.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = true
	s.disconnect()
	for len(s.open) > 0 {
		s.rollback(s.open[0])
	}
	if s.slot != nil {
		s.slot.confirmed, s.slot.reader, s.slot.until = s.slot.written, nil, time.Time{}
	}
	s.exports = map[string]uint64{}
}

// Start lets connections in again after Stop.
func (s *Server) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = false
}

// Checkpoint writes down what the slot's reader has confirmed.
func (s *Server) Checkpoint() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slot != nil {
		s.slot.written = s.slot.confirmed
	}
}

// Lose removes log that the slot needs, which ends its stream.
func (s *Server) Lose() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slot == nil || s.slot.lost {
		return false
	}
	s.slot.lost = true
	s.disconnect()
	return true
}

// Drop drops the slot, whoever uses it, and the publications.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slot, s.pubs = nil, nil
	s.disconnect()
}

// Calm lets nothing go wrong any more.
func (s *Server) Calm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.harm = harm{}
}

var errRefused = errors.New("walsender: connection refused")

// Dial connects.
func (s *Server) Dial(context.Context) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.down {
		return nil, errRefused
	}
	client, conn := net.Pipe()
	s.pid++
	b := &backend{s: s, pid: s.pid, link: &link{
		Conn: conn, s: s, muted: make(chan struct{}), gone: make(chan struct{}),
	}}
	s.backs[b] = true
	s.wg.Go(b.run)
	return client, nil
}

// link is the server's end of a connection.
type link struct {
	net.Conn
	s      *Server
	stream bool // guarded by s.mu
	mute   sync.Once
	muted  chan struct{}
	end    sync.Once
	gone   chan struct{}
}

// cut ends the connection, whoever reads or writes.
func (l *link) cut() {
	l.end.Do(func() {
		close(l.gone)
		l.Conn.Close()
	})
}

// Read implements net.Conn.
func (l *link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	select {
	case <-l.muted:
		if err == nil {
			<-l.gone // unless the client gives up, which it cannot tell
			return 0, net.ErrClosed
		}
	default:
	}
	return n, err
}

// Write implements net.Conn.
func (l *link) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		select {
		case <-l.muted:
			<-l.gone
			return done, net.ErrClosed
		case <-l.gone:
			return done, net.ErrClosed
		default:
		}
		n, slow, cut := l.allowed(len(p) - done)
		m, err := l.Conn.Write(p[done : done+n])
		done += m
		if err != nil {
			return done, err
		}
		if cut {
			l.cut()
			return done, net.ErrClosed
		}
		if slow {
			time.Sleep(100 * time.Microsecond) // virtual: the time that the piece takes
		}
	}
	return done, nil
}

// allowed is how many bytes may go out at once.
func (l *link) allowed(n int) (allowed int, slow, cut bool) {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.harm.slow > 0 && n > s.harm.slow {
		n, slow = s.harm.slow, true
	}
	if h := &s.harm; h.cut && (l.stream || !h.streams) {
		if h.left < n {
			n, cut, h.cut = h.left, true, false
			s.counts.Cut++
		}
		h.left -= n
	}
	return n, slow, cut
}
