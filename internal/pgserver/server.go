// Package pgserver starts a real PostgreSQL server for tests, examples, benchmarks
// and the demo. It needs nothing installed: the binaries are fetched once per
// version and kept in a cache of the user.
//
// A server listens on 127.0.0.1 only, has no Unix socket, is ready for logical
// replication, and dies with the process that started it, however that process
// ends (on Linux; elsewhere on an orderly end).
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Errors that callers may test with errors.Is.
var (
	// ErrVersion means that the version asked for is not one of Versions.
	ErrVersion = errors.New("pgserver: unknown PostgreSQL version")
	// ErrFetch means that the binaries are neither cached nor to be had.
	ErrFetch = errors.New("pgserver: cannot get the PostgreSQL binaries")
	// ErrUnreachable means that the process runs as root, so that PostgreSQL must run
	// as another user, and that this user cannot reach the cache or data directory.
	ErrUnreachable = errors.New("pgserver: directory out of reach for the server's user")
	// ErrStart means that the server ended before it was ready; the text has its log.
	ErrStart = errors.New("pgserver: PostgreSQL did not start")
	// ErrStopped means that the server was stopped for good.
	ErrStopped = errors.New("pgserver: server was stopped")
)

// How long a server may take for one thing. They are bounds for a busy machine, not
// expectations: a start takes about a tenth of a second.
const (
	startTimeout  = 60 * time.Second
	fastTimeout   = 10 * time.Second
	killTimeout   = 20 * time.Second
	readyInterval = 2 * time.Millisecond
	portAttempts  = 5
)

// Config says which server to start.
type Config struct {
	// Version is a full version of Versions or its major number ("16"). Empty means
	// DefaultVersion.
	Version string
	// DataDir is where the cluster lives; it is made if it doesn't exist, reused if it
	// holds a cluster of the same major version, and kept at Stop. Empty means a
	// temporary directory, removed at Stop or when this process ends.
	DataDir string
	// Settings go into the server's configuration, over the package's own: wal_level
	// logical, 20 replication slots and senders, 200 connections, 10 prepared
	// transactions, time zone UTC. ALTER SYSTEM overrides them at the next Restart.
	Settings map[string]string
	// Logger gets the server's log at debug level, and downloads at info level. Nil
	// means silence; Log has the last lines in either case.
	Logger *slog.Logger
}

// Server is one PostgreSQL cluster. Its methods may be called by several goroutines.
type Server struct {
	config   Config
	version  string
	binDir   string
	base     string // temporary directory: home, password file, and the data unless given
	dataDir  string
	password string
	port     int
	log      *logTail

	mu      sync.Mutex
	process *process // nil while the server is down
	reaper  *reaper
	stopped bool
}

// Start fetches the binaries if necessary, makes a cluster if DataDir has none, and
// returns when the server takes connections. The context bounds the start only.
// Errors are ErrVersion, ErrFetch, ErrUnreachable, ErrStart, or the system's.
func Start(ctx context.Context, config Config) (*Server, error) {
	version, err := ResolveVersion(config.Version)
	if err != nil {
		return nil, err
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := binaries(ctx, version, config.Logger)
	if err != nil {
		return nil, err
	}
	s := &Server{
		config:  config,
		version: version,
		binDir:  filepath.Join(dir, "bin"),
		log:     newLogTail(config.Logger),
	}
	if err := s.prepare(ctx); err != nil {
		s.removeBase()
		return nil, err
	}
	if s.reaper, err = startReaper(s.base); err != nil {
		s.removeBase()
		return nil, err
	}
	if err := s.startOnFreePort(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// startOnFreePort starts the server for the first time. Another process may take a
// port between our look at it and PostgreSQL's, so a failure is tried again elsewhere.
func (s *Server) startOnFreePort(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for range portAttempts {
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err = s.launch(ctx); err == nil || !s.log.contains("could not bind") {
			return err
		}
	}
	return err
}

// URL is how a superuser connects to the named database.
func (s *Server) URL(database string) string { return s.URLVia(s.Addr(), database) }

// URLVia is URL with another host and port: those of a proxy before the server.
func (s *Server) URLVia(addr, database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", s.password),
		Host:     addr,
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Addr is the server's host and port, for instance as a proxy's upstream.
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// Port is the TCP port on 127.0.0.1. It stays the same over Kill and Restart.
func (s *Server) Port() int { return s.port }

// Password is the password of the superuser "postgres".
func (s *Server) Password() string { return s.password }

// DataDir is the directory of the cluster.
func (s *Server) DataDir() string { return s.dataDir }

// Version is the full version, such as "18.1.0".
func (s *Server) Version() string { return s.version }

// Log is the end of the server's log, at most 64 KiB.
func (s *Server) Log() string { return s.log.String() }

// Running says whether the postmaster is alive.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process != nil && !s.process.ended()
}

// Stop ends the server for good and removes what was temporary. A temporary cluster
// is not shut down tidily, as nobody reads it again; one in Config.DataDir is. A
// second call does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	err := s.shutDown(s.config.DataDir != "")
	s.removeBase()
	s.reaper.release()
	return err
}

// Kill ends every process of the server by SIGKILL, as the out-of-memory killer or
// a power cut of the database's machine would, and returns when all are gone.
// Restart brings the server back, through crash recovery.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	if err := s.process.kill(); err != nil {
		return err
	}
	s.process = nil
	return nil
}

// Restart shuts the server down if it runs, ends its sessions, and starts it again
// on the same port. The error is ErrStopped after Stop.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return ErrStopped
	}
	if err := s.shutDown(true); err != nil {
		return err
	}
	return s.launch(ctx)
}

// shutDown ends the postmaster: tidily if asked and if it manages to in time, else
// at once. (A fast shutdown waits for replication clients, which may be deaf.)
func (s *Server) shutDown(tidy bool) error {
	p := s.process
	if p == nil {
		return nil
	}
	s.process = nil
	if tidy {
		p.signal(fastShutdown)
		if p.wait(fastTimeout) {
			return nil
		}
	}
	p.signal(immediateShutdown)
	if p.wait(fastTimeout) {
		return nil
	}
	return p.kill()
}

// launch starts the postmaster and waits until it takes connections.
func (s *Server) launch(ctx context.Context) error {
	s.log.reset()
	p, err := startProcess(s.command(), s.log)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	s.process = p
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(readyInterval)
	defer tick.Stop()
	for {
		if s.ready(p.pid()) {
			return nil
		}
		select {
		case <-p.done:
			s.process = nil
			return fmt.Errorf("%w (PostgreSQL %s, port %d): %w; its log:\n%s",
				ErrStart, s.version, s.port, p.err, s.log)
		case <-ctx.Done():
			return fmt.Errorf("%w in time: %w; its log:\n%s", ErrStart, context.Cause(ctx), s.log)
		case <-tick.C:
		}
	}
}

// removeBase removes the temporary directory. What is left over, if anything, the
// reaper tries again.
func (s *Server) removeBase() {
	if s.base != "" {
		_ = os.RemoveAll(s.base)
	}
}
