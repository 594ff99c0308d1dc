package postgres

import (
	"crypto/tls"
	"net"
	"syscall"
)

// quiet keeps a connection from waking the process for every piece that arrives, until
// there is much of it, or loud is called. The server sends small transactions one by
// one: without this each wakes the poller even while the reader naps, which costs more
// than all decoding. It is a hint: where it fails nothing but time is lost.
func quiet(c net.Conn, bytes int) { setLowWater(c, bytes) }

// loud undoes quiet.
func loud(c net.Conn) { setLowWater(c, 1) }

func setLowWater(c net.Conn, bytes int) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, bytes)
	})
}
