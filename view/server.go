package view

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path"
	"strings"
	"time"
)

// Token is a secret that clients show. It prints as asterisks.
type Token string

// String hides the token.
func (Token) String() string { return "***" }

// GoString hides the token.
func (Token) GoString() string { return "view.Token(***)" }

// LogValue hides the token.
func (Token) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalText hides the token.
func (Token) MarshalText() ([]byte, error) { return []byte("***"), nil }

// ServerOptions secure and bound the HTTP server.
type ServerOptions struct {
	// Token has to be shown by clients as "Authorization: Bearer <token>". It is
	// required where the server is bound to anything but a loopback address, unless
	// TLS asks for client certificates. Empty: no token.
	Token Token
	// Open are paths that need no token, such as /livez and /readyz for probes.
	Open []string
	// TLS makes the server speak HTTPS: it has a certificate. With ClientAuth
	// RequireAndVerifyClientCert, and ClientCAs, the client's stands for the token.
	TLS *tls.Config
	// Hosts are the host names, without port, that requests may be addressed to.
	// Defaults to localhost and the loopback addresses for a server on a loopback address, which
	// keeps web pages from reaching it through a name of their own (DNS rebinding),
	// and to any name elsewhere, where the token does.
	Hosts []string
	// Extra are further handlers by pattern of http.ServeMux, such as /metrics, beside
	// the server's own. They see the same checks.
	Extra map[string]http.Handler
	// MaxConnections bounds the open connections: for one more the one that has been idle
	// longest is closed, and where none is idle, the newcomer. Defaults to 1,024.
	MaxConnections int
	// MaxBodyBytes bounds the body of a request. Defaults to 64 KiB.
	MaxBodyBytes int64
	// LargeBodies bounds those of requests to some paths instead.
	LargeBodies map[string]int64
	// Timeout bounds reading a request and answering it; streams are exempt.
	// Defaults to 30 s.
	Timeout time.Duration
	// Unbounded are paths that Timeout leaves alone once the request is read, since their
	// handlers bound it themselves; they set the connection's deadlines.
	Unbounded []string
	// Logger gets the server's errors. Defaults to slog.Default.
	Logger *slog.Logger
}

// Limits that no option changes.
const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10
)

// Server serves views over HTTP behind the checks of ServerOptions. It offers no
// CORS and no profiling endpoints.
type Server struct {
	addr     string
	opts     ServerOptions
	http     *http.Server
	ln       net.Listener
	loopback bool
	token    [sha256.Size]byte
	stop     context.CancelFunc
}

// NewServer makes a server of h, which is Handler or a mux that holds it at /views and
// /views/, for an address such as "127.0.0.1:8080" or "[::1]:0". An
// empty host is loopback too; all interfaces are "0.0.0.0". It fails where the options
// would leave the views open to a network.
func NewServer(addr string, h http.Handler, opts ServerOptions) (*Server, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("view: listen address %q: %w; write it as host:port, such as 127.0.0.1:8080",
			addr, err)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	setDefault(&opts.MaxConnections, 1024)
	setDefault(&opts.Timeout, 30*time.Second)
	if opts.MaxBodyBytes <= 0 {
		opts.MaxBodyBytes = 64 << 10
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if err := checkTLS(opts.TLS); err != nil {
		return nil, err
	}
	s := &Server{addr: net.JoinHostPort(host, port), opts: opts, loopback: isLoopback(host)}
	s.token = sha256.Sum256([]byte(opts.Token))
	if !s.loopback && !s.authenticates() {
		return nil, errOpen(addr)
	}
	mux := http.NewServeMux()
	for at, extra := range opts.Extra {
		mux.Handle(at, extra)
	}
	mux.Handle("/", h)
	shutdown, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.http = &http.Server{
		Handler:           s.checked(h, mux),
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: opts.Timeout, WriteTimeout: opts.Timeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, TLSConfig: opts.TLS,
		DisableGeneralOptionsHandler: true, // OPTIONS * sees the checks as well
		ErrorLog:                     slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), shutdownKey{}, shutdown)
		},
	}
	s.http.RegisterOnShutdown(stop)
	return s, nil
}

func errOpen(addr string) error {
	return fmt.Errorf("view: %s can be reached from other machines; require a token (Config.Token of an app, "+
		"ServerOptions.Token) or client certificates, or listen on 127.0.0.1", addr)
}

// checkTLS refuses what no client could be answered with, and what would let anybody in who has
// a certificate of any authority that the system trusts.
func checkTLS(c *tls.Config) error {
	if c == nil || c.GetConfigForClient != nil {
		return nil
	}
	if len(c.Certificates) == 0 && c.GetCertificate == nil {
		return errors.New("view: the TLS configuration has no certificate: set its Certificates or GetCertificate")
	}
	if c.ClientAuth == tls.RequireAndVerifyClientCert && c.ClientCAs == nil {
		return errors.New("view: the TLS configuration takes the certificates of clients for a token, and names " +
			"no authority of theirs: set its ClientCAs")
	}
	return nil
}

// authenticates reports whether clients have to show who they are.
func (s *Server) authenticates() bool {
	return s.opts.Token != "" || (s.opts.TLS != nil && s.opts.TLS.ClientAuth == tls.RequireAndVerifyClientCert)
}

// Loopback reports whether a server at an address, as NewServer takes it, can be reached
// from this machine only, as far as the address tells.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && (host == "" || isLoopback(host))
}

func isLoopback(host string) bool {
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// Listen binds the address and returns the one bound, with its port.
func (s *Server) Listen() (net.Addr, error) {
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		return nil, fmt.Errorf("view: cannot listen on %s: %w; choose another address or free the port",
			s.addr, err)
	}
	// A name such as localhost can resolve to anything, so what was bound counts.
	if tcp, ok := ln.Addr().(*net.TCPAddr); !s.authenticates() && (!ok || !tcp.IP.IsLoopback()) {
		return nil, errors.Join(errOpen(ln.Addr().String()), ln.Close())
	}
	limited := &limitedListener{Listener: ln, max: s.opts.MaxConnections}
	s.ln, s.http.ConnState = limited, limited.state
	return ln.Addr(), nil
}

// Serve answers requests until Shutdown. Listen comes first.
func (s *Server) Serve() error {
	var err error
	if s.opts.TLS != nil {
		err = s.http.ServeTLS(s.ln, "", "")
	} else {
		err = s.http.Serve(s.ln)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("view: HTTP server: %w", err)
}

// Shutdown ends the streams, lets running requests finish until ctx ends, and then
// closes every connection.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("view: HTTP server: %w", err), s.http.Close())
	}
	if s.ln != nil {
		_ = s.ln.Close() // Already closed where Serve ran.
	}
	return err
}

// checked refuses what may not pass before any handler sees it.
func (s *Server) checked(views, mux http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e := s.refuse(r); e != nil {
			if e.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="tailrace"`)
			}
			w.Header().Set("Connection", "close")
			e.write(w)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.maxBody(r))
		// Views bound their requests themselves, and streams not at all; and the mux would
		// clean keys such as ".." away.
		if p := r.URL.EscapedPath(); p == "/views" || strings.HasPrefix(p, "/views/") {
			views.ServeHTTP(w, r)
			return
		}
		if contains(s.opts.Unbounded, r.URL.Path) {
			mux.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.opts.Timeout)
		defer cancel()
		mux.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (s *Server) refuse(r *http.Request) *httpError {
	if !s.knows(r.Host) {
		return &httpError{Status: http.StatusMisdirectedRequest, Code: "unknown_host",
			Message: "this server does not answer for the host of the request",
			Remedy:  "use the address it listens on"}
	}
	if p := r.URL.EscapedPath(); !strings.HasPrefix(p, "/") || path.Clean(p) != p {
		return badRequest("the path is not clean", "leave out empty and dot segments, and the slash at the end")
	}
	if s.opts.Token != "" && !contains(s.opts.Open, r.URL.Path) && !s.shows(r.Header) {
		return &httpError{Status: http.StatusUnauthorized, Code: "unauthorized",
			Message: "the request shows no valid token", Remedy: "send Authorization: Bearer <token>"}
	}
	if most := s.maxBody(r); r.ContentLength > most {
		return &httpError{Status: http.StatusRequestEntityTooLarge, Code: "body_too_large",
			Message: fmt.Sprintf("the body has more than %d bytes", most),
			Remedy:  "ask for less at once; views are read with GET, without a body"}
	}
	return nil
}

// maxBody is how many bytes the body of a request may have.
func (s *Server) maxBody(r *http.Request) int64 {
	if most, ok := s.opts.LargeBodies[r.URL.Path]; ok {
		return most
	}
	return s.opts.MaxBodyBytes
}

// shows compares hashes, so that the time taken tells neither content nor length.
func (s *Server) shows(h http.Header) bool {
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(token))
	same := subtle.ConstantTimeCompare(got[:], s.token[:]) == 1
	return strings.EqualFold(scheme, "Bearer") && same
}

// knows reports whether requests for a host may be answered.
func (s *Server) knows(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	for _, h := range s.opts.Hosts {
		if strings.EqualFold(h, host) {
			return true
		}
	}
	if s.loopback {
		return isLoopback(host)
	}
	return len(s.opts.Hosts) == 0
}
