package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// errCut is what happens to those who use a connection that the simulation has cut.
var errCut = errors.New("sim: the connection is cut")

// network is how a member reaches the cluster: connections that can be cut at any request,
// and that stand still while the member does.
type network struct {
	virtual *kfake.VirtualNetwork
	// request is told the kind of each request before it goes out, and says what becomes
	// of the connection.
	request func(key int16) fate

	mu    sync.Mutex
	gone  bool
	conns map[*conn]bool
	open  chan struct{} // closed while nothing stands still
}

// fate is what becomes of a connection at a request.
type fate uint8

const (
	passes fate = iota
	cutBefore
	// cutAfter lets the broker have the request, and the member not have the answer.
	cutAfter
)

func newNetwork(v *kfake.VirtualNetwork, request func(key int16) fate) *network {
	open := make(chan struct{})
	close(open)
	return &network{virtual: v, request: request, conns: map[*conn]bool{}, open: open}
}

// dial suits kgo.Dialer.
func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.gate()
	c, err := n.virtual.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone {
		_ = c.Close() // which fails nowhere
		return nil, errCut
	}
	out := &conn{Conn: c, network: n}
	n.conns[out] = true
	return out, nil
}

// sever cuts everything for good.
func (n *network) sever() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gone = true
	for c := range n.conns {
		c.Conn.Close()
	}
}

// pause lets nothing in or out for a time.
func (n *network) pause(d time.Duration) {
	stop := make(chan struct{})
	n.mu.Lock()
	n.open = stop
	n.mu.Unlock()
	time.Sleep(d) // virtual, as all time here
	close(stop)
}

func (n *network) gate() {
	n.mu.Lock()
	open := n.open
	n.mu.Unlock()
	<-open
}

// conn is a connection of a member. The client writes requests as a whole and reads answers
// one after the other.
type conn struct {
	net.Conn
	network *network

	in []byte // the rest of the answer that is being read

	mu sync.Mutex
	// deaf is the correlation id of the request whose answer is lost, if isDeaf.
	deaf   uint32
	isDeaf bool
}

// Write sends a request.
func (c *conn) Write(p []byte) (int, error) {
	c.network.gate()
	// size i32, key i16, version i16, correlation id i32
	if len(p) >= 12 {
		switch c.network.request(int16(binary.BigEndian.Uint16(p[4:]))) {
		case cutBefore:
			c.Close()
			return 0, errCut
		case cutAfter:
			c.mu.Lock()
			c.deaf, c.isDeaf = binary.BigEndian.Uint32(p[8:]), true
			c.mu.Unlock()
		case passes:
		}
	}
	return c.Conn.Write(p)
}

// Read reads of an answer.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		var size [4]byte
		if _, err := io.ReadFull(c.Conn, size[:]); err != nil {
			return 0, err
		}
		c.in = make([]byte, 4+binary.BigEndian.Uint32(size[:]))
		copy(c.in, size[:])
		if _, err := io.ReadFull(c.Conn, c.in[4:]); err != nil {
			return 0, err
		}
		c.network.gate()
		c.mu.Lock()
		lost := c.isDeaf && binary.BigEndian.Uint32(c.in[4:]) == c.deaf
		c.mu.Unlock()
		if lost {
			c.Close()
			return 0, errCut
		}
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

// Close closes the connection.
func (c *conn) Close() error {
	c.network.mu.Lock()
	delete(c.network.conns, c)
	c.network.mu.Unlock()
	return c.Conn.Close()
}
