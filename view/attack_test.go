package view

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// large reports whether the tests of this file run with their full figures: 10,000 idle
// connections and 10 million rows. See the Makefile's target attack.
func large() bool { return os.Getenv("TAILRACE_TEST_ATTACK") != "" }

// target is a server with one view on disk, of which every commit changes rows.
type target struct {
	*engine
	t    *testing.T
	rows *table[int64, string]
	addr string
	next int64
	n    int64
}

const wide = "a row's text, long enough that a page of them does not fit into the buffers of a connection"

func newTarget(t *testing.T, n int64, opts ServerOptions) *target {
	t.Helper()
	e := newEngineOn(t, onDisk(t), HostOptions{})
	a := &target{engine: e, t: t, rows: addView[int64, string](e, "big"), n: n}
	for i := range n {
		a.rows.set(t, i, wide)
		if i%100_000 == 99_999 {
			e.commit()
		}
	}
	a.rows.rows = map[int64]string{} // an update is written as an insert is
	e.commit()
	opts.Logger = slog.New(slog.DiscardHandler)
	srv, err := NewServer("127.0.0.1:0", Handler(e.host, HTTPOptions{Logger: opts.Logger}), opts)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := srv.Listen()
	if err != nil {
		t.Fatal(err)
	}
	a.addr = addr.String()
	done := make(chan error, 1)
	go func() { done <- srv.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		<-done
	})
	return a
}

// change commits 200 changed rows.
func (a *target) change() {
	for range 200 {
		a.rows.set(a.t, a.next%a.n, wide+strconv.FormatInt(a.next, 10))
		a.next += 7919
	}
	clear(a.rows.rows)
	a.commit()
}

// pace is the best of several windows in which commits follow one another, in rows a
// second of processor time: so it does not tell what else the machine does, and what the
// server and its clients use lowers it.
func (a *target) pace() float64 {
	best := 0.0
	for range 8 {
		begin, used, n := time.Now(), processorTime(a.t), 0
		for time.Since(begin) < 150*time.Millisecond {
			a.change()
			n += 200
		}
		best = max(best, float64(n)/(processorTime(a.t)-used).Seconds())
	}
	return best
}

// processorTime is what the process has used.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// unharmed compares the pace of commits with that of a quiet server, again where the
// machine was busy with something else. It is a measurement, which the machine's other
// work disturbs, so it decides only where that is what the run is for.
func (a *target) unharmed(what string, quiet float64, bound float64) {
	a.t.Helper()
	if !large() {
		return
	}
	ratio := 0.0
	for range 5 {
		if ratio = max(ratio, a.pace()/quiet); ratio >= bound {
			break
		}
	}
	a.t.Logf("%s: commits keep %.0f %% of their pace", what, 100*ratio)
	if ratio < bound {
		a.t.Errorf("%s: commits keep %.0f %% of their pace, want %.0f %%", what, 100*ratio, 100*bound)
	}
}

// quiet is the pace that unharmed compares with; by then the store has its buffers.
func (a *target) quiet() float64 {
	if !large() {
		a.change()
		return 0
	}
	return max(a.pace(), a.pace())
}

// resident is the memory that the process holds, which here has the clients, too.
func resident(t *testing.T) int64 {
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0 // Not Linux: the other checks remain.
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// dial opens connections that each send a text, and closes them with the test.
func dial(t *testing.T, addr string, n int, text string) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, text); err != nil && i < 1024 {
			t.Fatal(err) // beyond the bound it may have been closed already
		}
		conns[i] = c
	}
	return conns
}

// closed counts the connections that the server has ended, waiting at most d for all.
func closed(conns []net.Conn, d time.Duration) (n int) {
	until := time.Now().Add(d)
	for _, c := range conns {
		if soon := time.Now().Add(5 * time.Millisecond); until.Before(soon) {
			until = soon // enough to notice an end that is there
		}
		c.SetReadDeadline(until)
		if _, err := io.Copy(io.Discard, c); err == nil || !os.IsTimeout(err) {
			n++
		}
	}
	return n
}

const bounded = 64 << 20 // what an attack may cost in memory

// TestSlowClients has 1,000 clients whose headers never end: others are answered, commits
// go on, and the server puts them out.
func TestSlowClients(t *testing.T) {
	a := newTarget(t, 50_000, ServerOptions{})
	quiet, before := a.quiet(), resident(t)
	conns := dial(t, a.addr, 1000, "GET /views/big HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
	stop := make(chan struct{})
	var drip sync.WaitGroup
	drip.Go(func() { // a byte a second, as the attack does
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				for _, c := range conns {
					_, _ = io.WriteString(c, "x") // it may have been put out
				}
			case <-stop:
				return
			}
		}
	})
	if r, body := ask(t, a.addr, "GET /views/big/7 HTTP/1.1", "Host: localhost"); r.StatusCode != http.StatusOK {
		t.Errorf("while slow clients wait: %d %s", r.StatusCode, body)
	}
	a.unharmed("1,000 slow clients", quiet, 0.9)
	more := resident(t) - before
	t.Logf("they cost %d MiB", more>>20)
	if more > memoryCost*bounded {
		t.Errorf("they cost %d MiB", more>>20)
	}
	if n := closed(conns, 2*readHeaderTimeout); n != len(conns) {
		t.Errorf("%d of %d slow clients are put out", n, len(conns))
	}
	close(stop)
	drip.Wait()
}

// TestIdleClients has thousands of clients that ask once and stay: a bounded number of
// connections is kept, commits go on, and newcomers are served still.
func TestIdleClients(t *testing.T) {
	n := 2_000
	if large() {
		n = 10_000
	}
	a := newTarget(t, 50_000, ServerOptions{})
	quiet, before := a.quiet(), resident(t)
	conns := dial(t, a.addr, n, "GET /views/big/7 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	a.unharmed(fmt.Sprintf("%d idle clients", n), quiet, 0.9)
	more := resident(t) - before
	t.Logf("they cost %d MiB", more>>20)
	if more > memoryCost*bounded {
		t.Errorf("they cost %d MiB", more>>20)
	}
	if r, body := ask(t, a.addr, "GET /views/big/7 HTTP/1.1", "Host: localhost"); r.StatusCode != http.StatusOK {
		t.Errorf("a newcomer beside idle clients: %d %s", r.StatusCode, body)
	}
	if kept := n - closed(conns, time.Second); kept > 1024 {
		t.Errorf("%d connections are kept", kept)
	}
}

// TestRangeOfLargeView reads pages of a view of millions of rows by many clients at once.
// What an answer costs follows from its limit, not from the view.
func TestRangeOfLargeView(t *testing.T) {
	n := int64(200_000)
	if large() {
		n = 10_000_000
	}
	a := newTarget(t, n, ServerOptions{})
	before := resident(t)
	var clients sync.WaitGroup
	for i := range 50 {
		clients.Go(func() {
			for j := range 4 {
				from := (int64(i)*7_919_993 + int64(j)*104_729) % (n - 1000)
				r, body := ask(
					t,
					a.addr,
					fmt.Sprintf("GET /views/big?limit=1000&from=%d HTTP/1.1", from),
					"Host: localhost",
				)
				if got := strings.Count(body, `"key":`); r.StatusCode != http.StatusOK || got != 1000 {
					t.Errorf("from %d: %d with %d rows", from, r.StatusCode, got)
				}
			}
		})
	}
	clients.Wait()
	more := resident(t) - before
	t.Logf("they cost %d MiB", more>>20)
	if more > memoryCost*bounded {
		t.Errorf("they cost %d MiB", more>>20)
	}
	r, body := ask(t, a.addr, "GET /views/big?limit=10000000 HTTP/1.1", "Host: localhost")
	if r.StatusCode != http.StatusBadRequest && strings.Count(body, `"key":`) > 10_000 {
		t.Errorf("a page without bound: %d, %d bytes", r.StatusCode, len(body))
	}
}

// stuckWriter is a client that takes nothing until it is let go.
type stuckWriter struct {
	*httptest.ResponseRecorder
	stuck chan<- struct{}
	let   <-chan struct{}
}

func (w stuckWriter) Write(b []byte) (int, error) {
	w.stuck <- struct{}{}
	<-w.let
	return w.ResponseRecorder.Write(b)
}

// TestSlowReaders has 1,000 clients that ask for rows, each at a moment of its own, and do
// not take them: no snapshot is held for them beyond those of cursors, so the database
// forgets what is overwritten as if they were not there, and commits go on.
func TestSlowReaders(t *testing.T) {
	usage := func(a *target) uint64 { return a.db.(interface{ DiskUsage() uint64 }).DiskUsage() }
	work := func(a *target, each func()) {
		for range 1000 {
			each()
			a.change()
		}
	}
	// Both write at full speed first: what that leaves to compact is no reader's doing.
	left := newTarget(t, 50_000, ServerOptions{})
	_ = left.quiet()
	work(left, func() {})
	alone := usage(left)
	a := newTarget(t, 50_000, ServerOptions{})
	quiet := a.quiet()
	h := Handler(a.host, HTTPOptions{})
	stuck, let := make(chan struct{}), make(chan struct{})
	var clients sync.WaitGroup
	paths := []string{"/views/big?limit=50", "/views/big?to=50", "/views/big/7", "/views?names=big&limit=9"}
	next := 0
	work(a, func() {
		path := paths[next%len(paths)]
		next++
		clients.Go(func() {
			w := stuckWriter{httptest.NewRecorder(), stuck, let}
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != http.StatusOK {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		})
		<-stuck
	})
	if open := a.host.open.Load(); open > 128+1 {
		t.Errorf("%d snapshots are open for 1,000 slow readers", open)
	}
	a.unharmed("1,000 slow readers", quiet, 0.8)
	// When it compacts is up to the database; that it can is up to the readers.
	for deadline := time.Now().Add(20 * time.Second); usage(a) > 2*alone+bounded; a.change() {
		if time.Now().After(deadline) {
			t.Errorf("the database has %d MiB, without slow readers %d", usage(a)>>20, alone>>20)
			break
		}
	}
	close(let)
	clients.Wait()
}
