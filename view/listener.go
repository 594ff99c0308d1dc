package view

import (
	"net"
	"sync"
	"sync/atomic"
)

// limitedListener closes connections beyond a bound at once. Waiting instead, as a
// plain limit does, would let idle connections keep everybody else out.
type limitedListener struct {
	net.Listener
	max  int64
	open atomic.Int64
}

// Accept returns the next connection within the bound.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.max {
			return &limitedConn{Conn: c, l: l}, nil
		}
		l.open.Add(-1)
		_ = c.Close() // It is refused either way.
	}
}

type limitedConn struct {
	net.Conn
	l    *limitedListener
	once sync.Once
}

// Close gives the connection's place back.
func (c *limitedConn) Close() error {
	c.once.Do(func() { c.l.open.Add(-1) })
	return c.Conn.Close()
}
