package view

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// limitedListener bounds the open connections. Where one more comes, the connection that
// has been idle longest gives way, which its client has to expect at any time; where none
// is idle the newcomer is closed at once. Waiting instead, as a plain limit does, or
// keeping idle connections would let them keep everybody else out.
type limitedListener struct {
	net.Listener
	max int

	mu   sync.Mutex
	open int
	idle list.List // of *limitedConn, longest idle first
}

// Accept returns the next connection within the bound.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.enter() {
			return &limitedConn{Conn: c, l: l}, nil
		}
		_ = c.Close() // It is refused either way.
	}
}

// enter takes a place, if need be that of an idle connection.
func (l *limitedListener) enter() bool {
	l.mu.Lock()
	full := l.open >= l.max
	var oldest *limitedConn
	if front := l.idle.Front(); full && front != nil {
		oldest = front.Value.(*limitedConn)
	}
	if !full || oldest != nil {
		l.open++
	}
	l.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close() // It gives back its own place, if nobody has closed it meanwhile.
	}
	return !full || oldest != nil
}

// state keeps the idle connections: it is for http.Server.ConnState.
func (l *limitedListener) state(c net.Conn, s http.ConnState) {
	if secured, ok := c.(*tls.Conn); ok {
		c = secured.NetConn()
	}
	lc, ok := c.(*limitedConn)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lc.leaveIdle()
	if s == http.StateIdle && !lc.closed {
		lc.idle = l.idle.PushBack(lc)
	}
}

type limitedConn struct {
	net.Conn
	l *limitedListener

	// Both are guarded by l.mu.
	closed bool
	idle   *list.Element // nil if it is not
}

func (c *limitedConn) leaveIdle() {
	if c.idle != nil {
		c.l.idle.Remove(c.idle)
		c.idle = nil
	}
}

// Close gives the connection's place back.
func (c *limitedConn) Close() error {
	c.l.mu.Lock()
	if !c.closed {
		c.closed = true
		c.l.open--
		c.leaveIdle()
	}
	c.l.mu.Unlock()
	return c.Conn.Close()
}
