package view

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const secret = Token("s3cret-canary")

// startServer serves a shop on a loopback port; adjust may change the server first.
func startServer(t *testing.T, opts ServerOptions, adjust func(*Server)) (*shopHTTP, string, *Server) {
	t.Helper()
	shop := newShopHTTP(t)
	shop.put(t, "revenue ann 3 12.50 -")
	shop.commit()
	opts.Logger = slog.New(slog.DiscardHandler)
	srv, err := NewServer("127.0.0.1:0", shop.handler, opts)
	if err != nil {
		t.Fatal(err)
	}
	if adjust != nil {
		adjust(srv)
	}
	addr, err := srv.Listen()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return shop, addr.String(), srv
}

// ask sends a request line by line, as no client library would, and returns the
// answer with its body.
func ask(t *testing.T, addr string, lines ...string) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")+"\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%q: %v", lines[0], err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil && r.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Fatal(err) // There the server closes on what it does not read.
	}
	return r, string(body)
}

func TestServerRefuses(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	})
	_, addr, _ := startServer(t, ServerOptions{
		Token: secret, Open: []string{"/livez"}, Hosts: []string{"views.example"}, MaxBodyBytes: 100,
		Extra: map[string]http.Handler{"/livez": ok, "/metrics": ok},
	}, nil)
	host, auth := "Host: localhost", "Authorization: Bearer "+string(secret)
	big := strings.Repeat("x", 200)
	for _, tc := range []struct {
		name string
		want int
		req  []string
	}{
		{"fine", 200, []string{"GET /views/revenue HTTP/1.1", host, auth}},
		{"scheme in any case", 200, []string{"GET /views HTTP/1.1", host,
			"authorization: bearer " + string(secret)}},
		{"loopback address", 200, []string{"GET /views HTTP/1.1", "Host: " + addr, auth}},
		{"IPv6 loopback", 200, []string{"GET /views HTTP/1.1", "Host: [::1]:80", auth}},
		{"named host", 200, []string{"GET /views HTTP/1.1", "Host: Views.Example:80", auth}},
		{"rebound name", 421, []string{"GET /views HTTP/1.1", "Host: evil.example", auth}},
		{"rebound name, open path", 421, []string{"GET /livez HTTP/1.1", "Host: localhost.evil.example"}},
		{"no host", 421, []string{"GET /views HTTP/1.0", auth}},
		{"no token", 401, []string{"GET /views HTTP/1.1", host}},
		{"wrong token", 401, []string{"GET /views HTTP/1.1", host, auth + "x"}},
		{"token as basic", 401, []string{"GET /views HTTP/1.1", host, "Authorization: Basic " + string(secret)}},
		{"open path", 200, []string{"GET /livez HTTP/1.1", host}},
		{"extra path without token", 401, []string{"GET /metrics HTTP/1.1", host}},
		{"extra path", 200, []string{"GET /metrics HTTP/1.1", host, auth}},
		{"dots", 400, []string{"GET /views/../metrics HTTP/1.1", host, auth}},
		{"dots past the token", 400, []string{"GET /livez/../views/revenue HTTP/1.1", host}},
		{"encoded dots are a key", 404, []string{"GET /views/revenue/%2e%2e HTTP/1.1", host, auth}},
		{"encoded slash to an open path", 401, []string{"GET /x%2f..%2flivez HTTP/1.1", host}},
		{"double slash", 400, []string{"GET //views HTTP/1.1", host, auth}},
		{"trailing slash", 400, []string{"GET /views/ HTTP/1.1", host, auth}},
		{"NUL is a key", 404, []string{"GET /views/revenue/%00 HTTP/1.1", host, auth}},
		{"invalid UTF-8", 400, []string{"GET /views/revenue/%c3%28 HTTP/1.1", host, auth}},
		{"long path", 404, []string{"GET /views/revenue/" + strings.Repeat("k", 8<<10) + " HTTP/1.1", host, auth}},
		{"large header", 431, []string{"GET /views HTTP/1.1", host, auth, "X: " + strings.Repeat("x", 32<<10)}},
		{"large path", 431, []string{"GET /views/" + strings.Repeat("x", 1<<20) + " HTTP/1.1", host, auth}},
		{"large body", 413, []string{"POST /metrics HTTP/1.1", host, auth, "Content-Length: 200", "", big}},
		{"large chunked body", 413, []string{"POST /metrics HTTP/1.1", host, auth, "Transfer-Encoding: chunked", "",
			"c8", big, "0", ""}},
		{"two lengths", 400, []string{"GET /views HTTP/1.1", host, auth, "Content-Length: 1", "Content-Length: 2"}},
		{"method", 405, []string{"DELETE /views/revenue HTTP/1.1", host, auth}},
		{"odd method", 405, []string{"BREW /views HTTP/1.1", host, auth}},
		{"no profiling", 404, []string{"GET /debug/pprof HTTP/1.1", host, auth}},
		{"nothing", 404, []string{"GET / HTTP/1.1", host, auth}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, body := ask(t, addr, tc.req...)
			if r.StatusCode != tc.want {
				t.Errorf("status %d, want %d: %s", r.StatusCode, tc.want, body)
			}
			if strings.Contains(body, string(secret)) || r.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("answer tells too much: %v %s", r.Header, body)
			}
			// What net/http refuses itself is plain text; all else is JSON with a remedy.
			own := tc.want != 431 && tc.name != "two lengths" && tc.name != "large chunked body"
			if tc.want >= 400 && own && !strings.Contains(body, `"remedy":"`) {
				t.Errorf("answer names no remedy: %s", body)
			}
		})
	}
}

func TestServerNeedsProtection(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "[::]:0", "192.0.2.1:80", "views.example:80"} {
		_, err := NewServer(addr, http.NotFoundHandler(), ServerOptions{})
		if err == nil || !strings.Contains(err.Error(), "Token") {
			t.Errorf("%s without token: %v", addr, err)
		}
		certs := &tls.Config{Certificates: []tls.Certificate{{}}, ClientCAs: x509.NewCertPool(),
			ClientAuth: tls.RequireAndVerifyClientCert}
		for _, opts := range []ServerOptions{{Token: secret}, {TLS: certs}} {
			if _, err := NewServer(addr, http.NotFoundHandler(), opts); err != nil {
				t.Errorf("%s: %v", addr, err)
			}
		}
	}
	for _, addr := range []string{":0", "localhost:0", "127.0.0.2:0", "[::1]:0"} {
		if _, err := NewServer(addr, http.NotFoundHandler(), ServerOptions{}); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for want, unfit := range map[string]*tls.Config{
		"Certificates": {},
		"ClientCAs":    {Certificates: []tls.Certificate{{}}, ClientAuth: tls.RequireAndVerifyClientCert},
	} {
		opts := ServerOptions{Token: secret, TLS: unfit}
		_, err := NewServer(":0", http.NotFoundHandler(), opts)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: %v", want, err)
		}
	}
	if _, err := NewServer("8080", http.NotFoundHandler(), ServerOptions{}); err == nil {
		t.Error("an address without port is taken")
	}
	opts := ServerOptions{Token: secret}
	for _, s := range []string{fmt.Sprint(secret), fmt.Sprintf("%+v %#v", opts, secret)} {
		if strings.Contains(s, string(secret)) {
			t.Errorf("token is printed: %s", s)
		}
	}
}

// TestServerSlowHeaders: clients that never finish their headers take connections, not
// the service, and are put out.
func TestServerSlowHeaders(t *testing.T) {
	_, addr, _ := startServer(t, ServerOptions{MaxConnections: 300}, func(s *Server) {
		s.http.ReadHeaderTimeout = 500 * time.Millisecond
	})
	conns := make([]net.Conn, 200)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /views HTTP/1.1\r\nHost: localhost\r\nX-Slow: "); err != nil {
			t.Fatal(err)
		}
		conns[i] = c
	}
	r, body := ask(t, addr, "GET /views/revenue HTTP/1.1", "Host: localhost")
	if r.StatusCode != http.StatusOK {
		t.Errorf("while slow clients wait: %d %s", r.StatusCode, body)
	}
	for _, c := range conns {
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Fatalf("a slow client is kept: %v", err)
		}
	}
}

func TestServerConnectionBound(t *testing.T) {
	_, addr, _ := startServer(t, ServerOptions{MaxConnections: 3}, nil)
	get := func(c net.Conn) error {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(c, "GET /views HTTP/1.1\r\nHost: localhost\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			_, err = io.Copy(io.Discard, r.Body)
		}
		return err
	}
	var conns []net.Conn
	dial := func() net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		return c
	}
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range 9 { // those that are idle give way
		if err := get(dial()); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // those that are at work do not
		fmt.Fprint(dial(), "GET /views HTTP/1.1\r\nHost: ")
	}
	busy := conns[len(conns)-1]
	if err := get(dial()); err == nil {
		t.Fatal("a fourth connection is served beside three that are at work")
	}
	busy.Close()
	for start := time.Now(); ; { // The server notices the end in its own time.
		if err := get(dial()); err == nil {
			break
		} else if time.Since(start) > 10*time.Second {
			t.Fatal(err)
		}
	}
}

// TestServerStream: a stream outlives the server's deadlines, delivers commits, and does
// not hold up a shutdown.
func TestServerStream(t *testing.T) {
	shop, addr, srv := startServer(t, ServerOptions{Timeout: 300 * time.Millisecond}, nil)
	r, err := http.Get("http://" + addr + "/views/revenue/watch")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	// An idle stream goes on for ever.
	late := time.AfterFunc(time.Minute, func() { r.Body.Close() })
	defer late.Stop()
	lines := bufio.NewScanner(r.Body)
	expect := func(want string) {
		t.Helper()
		var seen []string
		for lines.Scan() {
			if lines.Text() == want {
				return
			}
			seen = append(seen, lines.Text())
		}
		t.Fatalf("stream ended before %q: %v, it had %q", want, lines.Err(), seen)
	}
	expect("id: shop:0/10#1")
	for start := time.Now(); time.Since(start) < 900*time.Millisecond; {
		// Requests with deadlines of their own are answered meanwhile.
		r, body := ask(t, addr, "GET /views/revenue HTTP/1.1", "Host: localhost")
		if r.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", r.StatusCode, body)
		}
	}
	shop.put(t, "revenue bob 1 1 -")
	shop.commit()
	expect(`data: {"op":"insert","key":"bob","value":{"orders":1,"cents":1,"note":null}}`)
	expect("id: shop:0/20#2")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	expect(`data: {"position":"shop:0/20","as_of":"1970-01-01T00:00:02Z"}`)
	for lines.Scan() {
		if lines.Text() != "" {
			t.Errorf("after shutdown: %q", lines.Text())
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// A handler of ServerOptions.Unbounded bounds itself, and every other one is cut off.
func TestServerUnbounded(t *testing.T) {
	begun, cut := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		out := http.NewResponseController(w)
		for _, set := range []func(time.Time) error{out.SetReadDeadline, out.SetWriteDeadline} {
			if err := set(time.Time{}); err != nil {
				t.Error(err)
			}
		}
		close(begun)
		select {
		case <-cut: // the time of all others is over
			w.WriteHeader(http.StatusNoContent)
		case <-r.Context().Done():
			t.Errorf("the request was cut off: %v", context.Cause(r.Context()))
		}
	})
	mux.HandleFunc("/bounded", func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(cut)
	})
	srv, err := NewServer("127.0.0.1:0", mux, ServerOptions{
		Timeout: 200 * time.Millisecond, Unbounded: []string{"/slow"},
	})
	if err != nil {
		t.Fatal(err)
	}
	addr, err := srv.Listen()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve() }()
	answered := make(chan int, 1)
	go func() {
		resp, err := http.Get("http://" + addr.String() + "/slow")
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		answered <- resp.StatusCode
		_ = resp.Body.Close() // it is empty
	}()
	<-begun
	if resp, err := http.Get("http://" + addr.String() + "/bounded"); err == nil {
		_ = resp.Body.Close() // whatever came of it
	}
	if code := <-answered; code != http.StatusNoContent {
		t.Errorf("status %d", code)
	}
	if err := errors.Join(srv.Shutdown(t.Context()), <-served); err != nil {
		t.Error(err)
	}
}
