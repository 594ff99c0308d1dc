// Package faultproxy is a TCP proxy that breaks connections on request, for tests of
// clients that must survive it.
package faultproxy

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// Direction is one of the two ways that bytes go through a proxy.
type Direction int

// The two directions.
const (
	ToServer Direction = iota
	ToClient
)

// A Trigger sees the bytes that are about to pass, in order, in pieces of any size. It
// returns how many of them may pass before the connection is cut, or Pass. What it changes
// in the piece passes changed.
type Trigger func(piece []byte) int

// Pass is a Trigger's answer that lets the piece pass and waits for the next.
const Pass = -1

// Proxy forwards connections to a server. Faults act on the connections that there
// are and, as far as they last, on those to come. A new proxy has no faults. All
// methods may be called by several goroutines.
type Proxy struct {
	listener net.Listener
	pumps    sync.WaitGroup

	mu       sync.Mutex
	upstream string
	changed  chan struct{} // closed, and replaced, when a lasting fault changes
	links    map[*link]struct{}
	accepted int
	passed   [2]int64
	trigger  [2]Trigger
	cuts     int
	faults   faults
	closed   bool
}

// faults are those that last until they are taken back.
type faults struct {
	refuse    bool
	blackhole bool
	delay     time.Duration
	rate      int // bytes per second and connection; 0 is no limit
}

// New starts a proxy on a free port of 127.0.0.1. The upstream is a host and port; it
// need not be up yet.
func New(upstream string) (*Proxy, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	p := &Proxy{
		upstream: upstream,
		listener: listener,
		changed:  make(chan struct{}),
		links:    make(map[*link]struct{}),
	}
	p.pumps.Go(p.accept)
	return p, nil
}

// Addr is where clients connect: a host and port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close cuts all connections, takes no more, and waits until nothing moves.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.Cut()
	p.pumps.Wait()
	return err
}

// Cut resets all present connections. What was under way is lost.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

// HalfClose ends one direction of all present connections: the receiver reads an end
// of file, and the other direction stays open.
func (p *Proxy) HalfClose(direction Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.halfClosed[direction] = true
		if to := l.target(direction); to != nil {
			_ = to.CloseWrite()
		}
	}
}

// CutAfter lets n more bytes pass in a direction, counted over all connections, then
// closes the connection that brought the next one: the receiver gets exactly n bytes
// and an end of file, the sender a reset. It acts once.
func (p *Proxy) CutAfter(direction Direction, n int) {
	p.CutWhen(direction, func(piece []byte) int {
		if len(piece) <= n {
			n -= len(piece)
			return Pass
		}
		return n
	})
}

// CutWhen is CutAfter with the point chosen by what passes: for instance before the
// bytes of a certain message. The trigger is dropped when it has cut; nil drops the
// one there is.
func (p *Proxy) CutWhen(direction Direction, trigger Trigger) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trigger[direction] = trigger
}

// Redirect has new connections go to another upstream.
func (p *Proxy) Redirect(upstream string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream = upstream
}

// Refuse resets new connections as soon as they are made, until taken back.
func (p *Proxy) Refuse(on bool) { p.change(func(f *faults) { f.refuse = on }) }

// Blackhole lets nothing pass either way, and no connection end, until taken back:
// then everything goes on where it was, without loss.
func (p *Proxy) Blackhole(on bool) { p.change(func(f *faults) { f.blackhole = on }) }

// Delay holds each piece of data back for a while, in both directions.
func (p *Proxy) Delay(d time.Duration) { p.change(func(f *faults) { f.delay = d }) }

// Throttle bounds each direction of each connection, in bytes per second; 0 ends it.
func (p *Proxy) Throttle(rate int) { p.change(func(f *faults) { f.rate = rate }) }

func (p *Proxy) change(set func(*faults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	set(&p.faults)
	close(p.changed)
	p.changed = make(chan struct{})
}

// Accepted is how many connections were made so far, refused ones included.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Open is how many connections there are.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Cuts is how many connections triggers have cut so far.
func (p *Proxy) Cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// Passed is how many bytes went in a direction so far.
func (p *Proxy) Passed(direction Direction) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passed[direction]
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // Closed.
		}
		l := &link{proxy: p, client: conn.(*net.TCPConn), gone: make(chan struct{})}
		p.mu.Lock()
		p.accepted++
		if p.faults.refuse || p.closed {
			l.reset()
		} else {
			p.links[l] = struct{}{}
			upstream := p.upstream
			p.pumps.Go(func() { p.connect(l, upstream) })
		}
		p.mu.Unlock()
	}
}

// connect joins a client to the server; a server that is down shows as a reset. What
// was done to the link meanwhile is made good, so that a fault never misses a client
// who believes to be connected.
func (p *Proxy) connect(l *link, upstream string) {
	conn, err := net.DialTimeout("tcp", upstream, 10*time.Second)
	p.mu.Lock()
	if err == nil {
		l.server = conn.(*net.TCPConn)
	}
	if err != nil || l.isGone() {
		p.end(l)
		p.mu.Unlock()
		return
	}
	for direction, closed := range l.halfClosed {
		if closed {
			_ = l.target(Direction(direction)).CloseWrite()
		}
	}
	p.mu.Unlock()
	var pumps sync.WaitGroup
	pumps.Go(func() { l.pump(ToServer) })
	pumps.Go(func() { l.pump(ToClient) })
	pumps.Wait()
	p.mu.Lock()
	p.end(l)
	p.mu.Unlock()
}

// end forgets a link. The lock is held.
func (p *Proxy) end(l *link) {
	delete(p.links, l)
	l.reset()
	if l.server != nil {
		reset(l.server) // The link may have been reset before it had one.
	}
}
