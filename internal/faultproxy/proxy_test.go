package faultproxy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tailrace/tailrace/internal/faultproxy"
)

// pair is a client and the server's end of its connection through a proxy.
type pair struct {
	proxy          *faultproxy.Proxy
	client, server *net.TCPConn
	accepts        net.Listener
}

func newPair(t *testing.T) *pair {
	t.Helper()
	// Last of all clean-ups: the proxy must leave nothing running.
	t.Cleanup(func() { goleak.VerifyNone(t) })
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	proxy, err := faultproxy.New(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	p := &pair{proxy: proxy, accepts: listener}
	p.client = p.dial(t)
	p.server = p.accept(t)
	return p
}

func (p *pair) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", p.proxy.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn.(*net.TCPConn)
}

// dialInVain wants a reset, at once or a little later.
func (p *pair) dialInVain(t *testing.T) {
	t.Helper()
	conn, err := net.Dial("tcp", p.proxy.Addr())
	if err == nil {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = conn.Read(make([]byte, 1))
	}
	if !isReset(err) {
		t.Errorf("got %v instead of a reset", err)
	}
}

func (p *pair) accept(t *testing.T) *net.TCPConn {
	t.Helper()
	conn, err := p.accepts.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn.(*net.TCPConn)
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("received %q, %v, want %q", got[:n], err, want)
	}
}

// silent fails if anything arrives within a while.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	n, err := conn.Read(make([]byte, 1))
	if !errors.Is(err, syscall.EAGAIN) && !isTimeout(err) {
		t.Fatalf("read %d bytes, %v, want a time-out", n, err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func TestForwardsBothWaysAndHalfCloses(t *testing.T) {
	p := newPair(t)
	send(t, p.client, "hello")
	receive(t, p.server, "hello")
	send(t, p.server, "world!")
	receive(t, p.client, "world!")
	if p.proxy.Passed(faultproxy.ToServer) != 5 || p.proxy.Passed(faultproxy.ToClient) != 6 {
		t.Errorf("passed %d and %d bytes", p.proxy.Passed(faultproxy.ToServer), p.proxy.Passed(faultproxy.ToClient))
	}
	// The client's own half-close is passed on, and the other direction lives.
	if err := p.client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(p.server); err != nil || len(rest) != 0 {
		t.Errorf("read %q, %v", rest, err)
	}
	send(t, p.server, "bye")
	receive(t, p.client, "bye")
	if p.proxy.Accepted() != 1 || p.proxy.Open() != 1 {
		t.Errorf("accepted %d, open %d", p.proxy.Accepted(), p.proxy.Open())
	}
}

func TestHalfCloseByTheProxy(t *testing.T) {
	p := newPair(t)
	p.proxy.HalfClose(faultproxy.ToClient)
	if rest, err := io.ReadAll(p.client); err != nil || len(rest) != 0 {
		t.Errorf("read %q, %v", rest, err)
	}
	send(t, p.client, "still here")
	receive(t, p.server, "still here")
}

func TestCutResetsBothEnds(t *testing.T) {
	p := newPair(t)
	p.proxy.Cut()
	if _, err := p.client.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the client's read: %v", err)
	}
	if _, err := p.server.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the server's read: %v", err)
	}
	p.client = p.dial(t)
	p.server = p.accept(t)
	send(t, p.client, "again")
	receive(t, p.server, "again")
}

func TestCutAfterBytes(t *testing.T) {
	for _, direction := range []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient} {
		for _, n := range []int{0, 1, 4, 20_000, 99_999} {
			t.Run(fmt.Sprintf("direction %d, %d bytes", direction, n), func(t *testing.T) {
				cutAfter(t, direction, n)
			})
		}
	}
}

func cutAfter(t *testing.T, direction faultproxy.Direction, n int) {
	p := newPair(t)
	from, to := p.client, p.server
	if direction == faultproxy.ToClient {
		from, to = p.server, p.client
	}
	text := strings.Repeat("0123456789", 10_000)
	p.proxy.CutAfter(direction, n)
	go io.WriteString(from, text)
	got, err := io.ReadAll(to)
	if err != nil || !bytes.Equal(got, []byte(text[:n])) {
		t.Errorf("received %d bytes, %v, want the first %d", len(got), err, n)
	}
	to.Close()
	if _, err := io.Copy(io.Discard, from); !isReset(err) {
		t.Errorf("the sender's read: %v", err)
	}
	p.client = p.dial(t)
	p.server = p.accept(t)
	send(t, p.client, text)
	receive(t, p.server, text)
}

func TestCutWhen(t *testing.T) {
	p := newPair(t)
	p.proxy.CutWhen(faultproxy.ToServer, func(piece []byte) int { return bytes.Index(piece, []byte("COMMIT")) })
	send(t, p.client, "BEGIN")
	receive(t, p.server, "BEGIN")
	send(t, p.client, "rowsCOMMIT")
	if got, err := io.ReadAll(p.server); err != nil || string(got) != "rows" {
		t.Errorf("received %q, %v", got, err)
	}
}

func TestBlackholeLosesNothing(t *testing.T) {
	p := newPair(t)
	p.proxy.Blackhole(true)
	send(t, p.client, "into the dark")
	send(t, p.server, "out of it")
	silent(t, p.server)
	silent(t, p.client)
	p.proxy.Blackhole(false)
	receive(t, p.server, "into the dark")
	receive(t, p.client, "out of it")
	p.proxy.Blackhole(true) // Close must end it all the same.
	send(t, p.client, "x")
}

func TestRefuse(t *testing.T) {
	p := newPair(t)
	p.proxy.Refuse(true)
	p.dialInVain(t)
	send(t, p.client, "old ones live")
	receive(t, p.server, "old ones live")
	p.proxy.Refuse(false)
	client := p.dial(t)
	server := p.accept(t)
	send(t, client, "in")
	receive(t, server, "in")
}

func TestServerDown(t *testing.T) {
	p := newPair(t)
	p.accepts.Close()
	p.dialInVain(t)
}

func TestDelayAndThrottle(t *testing.T) {
	p := newPair(t)
	const while = 60 * time.Millisecond
	p.proxy.Delay(while)
	before := time.Now()
	send(t, p.client, "ping")
	receive(t, p.server, "ping")
	if took := time.Since(before); took < while {
		t.Errorf("delayed by %v, want %v", took, while)
	}
	p.proxy.Delay(0)
	p.proxy.Throttle(100_000)
	text := strings.Repeat("x", 10_000)
	before = time.Now()
	send(t, p.server, text)
	receive(t, p.client, text)
	if took := time.Since(before); took < 90*time.Millisecond {
		t.Errorf("10,000 bytes took %v at 100,000 a second", took)
	}
	p.proxy.Throttle(0)
}
