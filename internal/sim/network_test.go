package sim

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// errCut is what those are told who use a connection that the simulation has cut.
var errCut = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}

// network is how a member reaches the cluster: connections that can be cut at any request,
// and that stand still while the member does.
type network struct {
	virtual *kfake.VirtualNetwork
	drains  *sync.WaitGroup
	// request is told the kind of each request before it goes out, and says what becomes
	// of the connection; done, if there is any, is called when it has gone out.
	request func(key int16) (what fate, done func())

	// noticed says that brokers learn at once that a connection is gone.
	noticed bool

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
	// spoilt makes the answer to EndTxn an error, whatever it was.
	spoilt
)

func newNetwork(w *world, request func(key int16) (fate, func())) *network {
	open := make(chan struct{})
	close(open)
	return &network{
		virtual: &w.virtual, drains: &w.drains, request: request, noticed: w.plan.noticed,
		conns: map[*conn]bool{}, open: open,
	}
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
		c.give()
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
	// asked is the correlation id of the request that something becomes of, what.
	asked uint32
	what  fate
	given bool
	// joining says that a JoinGroup waits, whose id is joins.
	joining bool
	joins   uint32
}

// Write sends a request.
func (c *conn) Write(p []byte) (int, error) {
	c.network.gate()
	if len(p) < 12 { // size i32, key i16, version i16, correlation id i32
		return c.Conn.Write(p)
	}
	c.mu.Lock()
	given := c.given
	c.mu.Unlock()
	if given {
		return 0, errCut
	}
	key, id := int16(binary.BigEndian.Uint16(p[4:])), binary.BigEndian.Uint32(p[8:])
	if key == int16(kmsg.JoinGroup) {
		c.mu.Lock()
		c.joining, c.joins = true, id
		c.mu.Unlock()
	}
	what, done := c.network.request(key)
	switch what {
	case cutBefore:
		c.Close()
		return 0, errCut
	case cutAfter, spoilt:
		c.mu.Lock()
		c.asked, c.what = id, what
		c.mu.Unlock()
	case passes:
	}
	n, err := c.Conn.Write(p)
	if done != nil {
		done()
	}
	return n, err
}

// Read reads of an answer.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		if err := c.answer(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

// answer waits for the next answer.
func (c *conn) answer() error {
	var size [4]byte
	if _, err := io.ReadFull(c.Conn, size[:]); err != nil {
		return err
	}
	in := make([]byte, 4+binary.BigEndian.Uint32(size[:]))
	copy(in, size[:])
	if _, err := io.ReadFull(c.Conn, in[4:]); err != nil {
		return err
	}
	c.network.gate()
	c.mu.Lock()
	what, id := passes, binary.BigEndian.Uint32(in[4:])
	c.joining = c.joining && id != c.joins
	if c.what != passes && id == c.asked {
		what, c.what = c.what, passes
	}
	given := c.given
	c.mu.Unlock()
	switch {
	case given:
		return errCut
	case what == cutAfter:
		c.Close()
		return errCut
	case what == spoilt: // behind the correlation id tags u8, throttle i32, error i16 = UNKNOWN_SERVER_ERROR
		binary.BigEndian.PutUint16(in[13:], 0xFFFF)
	}
	c.in = in
	return nil
}

// Close closes the connection.
func (c *conn) Close() error {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	delete(c.network.conns, c)
	c.give()
	return nil
}

// give gives the connection up. The broker learns of it at once, as where a process is gone, or
// later, as where a machine is: always where a JoinGroup waits, since a member whom kfake cannot
// answer never times out, and stays in the group with what it is given there.
func (c *conn) give() {
	c.mu.Lock()
	given, joining := c.given, c.joining
	c.given = true
	c.mu.Unlock()
	if given {
		return
	}
	if c.network.noticed && !joining {
		c.Conn.Close()
		return
	}
	_ = c.Conn.SetDeadline(time.Unix(1, 0)) // who reads or writes ends; a pipe has deadlines
	c.network.drains.Go(func() {
		_ = c.Conn.SetReadDeadline(time.Now().Add(unnoticed))
		_, _ = io.Copy(io.Discard, c.Conn) // to nobody
		c.Conn.Close()
	})
}

// unnoticed is after how long a broker learns else that a connection is gone: longer than
// anything waits.
const unnoticed = 90 * time.Second
