package faultproxy

import (
	"io"
	"net"
	"sync"
	"time"
)

// link is one client's connection and the one to the server that serves it.
type link struct {
	proxy  *Proxy
	client *net.TCPConn
	server *net.TCPConn // nil until connected; set under the proxy's lock, before the pumps start
	once   sync.Once
	gone   chan struct{} // closed by reset

	halfClosed [2]bool // under the proxy's lock
}

func (l *link) target(direction Direction) *net.TCPConn {
	if direction == ToServer {
		return l.server
	}
	return l.client
}

// reset ends both connections; the peers get a reset, not an end of file. The proxy's
// lock is held.
func (l *link) reset() {
	l.once.Do(func() {
		close(l.gone)
		reset(l.client)
		if l.server != nil {
			reset(l.server)
		}
	})
}

func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// pump moves the bytes of one direction until it ends or is cut.
func (l *link) pump(direction Direction) {
	from, to := l.target(1-direction), l.target(direction)
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !l.forward(direction, to, buffer[:n]) {
			// The other direction was cut, or this one. What still comes is read and
			// dropped: closing with unread bytes would reset the peer, which then could
			// lose the last bytes that it was to get.
			_, _ = io.Copy(io.Discard, from)
			return
		}
		if err != nil {
			if !l.pause(0) {
				return
			}
			_ = to.CloseWrite()
			return
		}
	}
}

// forward passes a piece on, as the faults allow, and says whether to go on.
func (l *link) forward(direction Direction, to *net.TCPConn, piece []byte) bool {
	if !l.pause(len(piece)) {
		return false
	}
	allowed, cut := l.proxy.admit(direction, piece)
	if _, err := to.Write(piece[:allowed]); err != nil {
		return false
	}
	if cut {
		// The sender first: the receiver's answer to its end of file must find it closed.
		reset(l.target(1 - direction))
		_ = to.CloseWrite()
	}
	return !cut
}

// admit asks the trigger, and counts.
func (p *Proxy) admit(direction Direction, piece []byte) (allowed int, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	allowed = len(piece)
	if trigger := p.trigger[direction]; trigger != nil {
		if n := trigger(piece); n != Pass {
			p.trigger[direction] = nil
			p.cuts++
			allowed, cut = n, true
		}
	}
	p.passed[direction] += int64(allowed)
	return allowed, cut
}

// pause waits as long as the lasting faults keep a piece of n bytes, and says whether
// the connection is still there.
func (l *link) pause(n int) bool {
	since := time.Now()
	for {
		l.proxy.mu.Lock()
		f, changed := l.proxy.faults, l.proxy.changed
		l.proxy.mu.Unlock()
		var timer <-chan time.Time // Never fires: the blackhole.
		if !f.blackhole {
			wait := f.delay
			if f.rate > 0 {
				wait += time.Duration(n) * time.Second / time.Duration(f.rate)
			}
			if wait -= time.Since(since); wait <= 0 {
				return !l.isGone()
			}
			timer = time.After(wait)
		}
		select {
		case <-l.gone:
			return false
		case <-changed:
		case <-timer:
		}
	}
}

func (l *link) isGone() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}
