package pgserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// passwordFile, in the data directory, keeps the superuser's password for the next
// Start on the same directory.
const passwordFile = "tailrace.password"

// settingsFile is included at the end of postgresql.conf and written anew at Start.
const settingsFile = "tailrace.conf"

func defaultSettings() map[string]string {
	return map[string]string{
		"wal_level":                 "logical",
		"max_replication_slots":     "20",
		"max_wal_senders":           "20",
		"max_connections":           "200",
		"max_prepared_transactions": "10",
		"timezone":                  "UTC",
		"log_timezone":              "UTC",
	}
}

// prepare makes the directories and, unless there is one, the cluster.
func (s *Server) prepare(ctx context.Context) error {
	var err error
	if s.base, err = temporaryBase(); err != nil {
		return err
	}
	if err := s.chooseDataDir(); err != nil {
		return err
	}
	if err := s.makeCluster(ctx); err != nil {
		return err
	}
	password, err := os.ReadFile(filepath.Join(s.dataDir, passwordFile))
	if err != nil {
		return fmt.Errorf("pgserver: %s was not made by this package: %w", s.dataDir, err)
	}
	s.password = strings.TrimSpace(string(password))
	return s.writeSettings()
}

func (s *Server) chooseDataDir() error {
	if s.config.DataDir == "" {
		s.dataDir = filepath.Join(s.base, "data")
		return nil
	}
	var err error
	if s.dataDir, err = filepath.Abs(s.config.DataDir); err != nil {
		return fmt.Errorf("pgserver: data directory: %w", err)
	}
	if err := os.MkdirAll(s.dataDir, 0o700); err != nil {
		return fmt.Errorf("pgserver: data directory: %w", err)
	}
	return checkReach(filepath.Dir(s.dataDir))
}

// temporaryBase makes a directory that belongs to the server's user, in the first
// place for temporary files which that user can reach.
func temporaryBase() (string, error) {
	var refused error
	for _, parent := range []string{os.TempDir(), filepath.FromSlash("/tmp"), filepath.FromSlash("/var/tmp")} {
		if err := checkReach(parent); err != nil {
			refused = errors.Join(refused, err)
			continue
		}
		base, err := os.MkdirTemp(parent, "tailrace-postgres-")
		if err != nil {
			refused = errors.Join(refused, err)
			continue
		}
		return base, giveAway(base)
	}
	return "", fmt.Errorf("pgserver: no place for temporary files: %w", refused)
}

// makeCluster runs initdb, unless the data directory already holds a cluster.
func (s *Server) makeCluster(ctx context.Context) error {
	major, _, _ := strings.Cut(s.version, ".")
	found, err := os.ReadFile(filepath.Join(s.dataDir, "PG_VERSION"))
	if err == nil {
		if got := strings.TrimSpace(string(found)); got != major {
			return fmt.Errorf("%w: %s holds a cluster of PostgreSQL %s, asked for %s",
				ErrVersion, s.dataDir, got, s.version)
		}
		return nil
	}
	if s.config.DataDir != "" {
		if err := giveAway(s.dataDir); err != nil {
			return err
		}
	}
	password := filepath.Join(s.base, "password")
	if err := s.writeFile(password, rand.Text()+"\n"); err != nil {
		return err
	}
	// --no-sync: a cluster that a power cut destroys in its first second is not missed.
	cmd := exec.CommandContext(ctx, filepath.Join(s.binDir, "initdb"), "--pgdata", s.dataDir,
		"--username=postgres", "--pwfile="+password, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	s.dress(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: initdb of %s: %w; its output:\n%s", ErrStart, s.version, err, out)
	}
	main := filepath.Join(s.dataDir, "postgresql.conf")
	if err := appendTo(main, "\ninclude '"+settingsFile+"'\n"); err != nil {
		return err
	}
	if err := os.Rename(password, filepath.Join(s.dataDir, passwordFile)); err == nil {
		return nil
	}
	// Another file system: copy.
	text, err := os.ReadFile(password)
	if err != nil {
		return fmt.Errorf("pgserver: keep the password: %w", err)
	}
	return s.writeFile(filepath.Join(s.dataDir, passwordFile), string(text))
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("pgserver: configure: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("pgserver: configure: %w", err)
	}
	return nil
}

// writeSettings puts the settings into a file, not onto the command line, so that
// ALTER SYSTEM can change them.
func (s *Server) writeSettings() error {
	settings := defaultSettings()
	maps.Copy(settings, s.config.Settings)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	return s.writeFile(filepath.Join(s.dataDir, settingsFile), text.String())
}

// writeFile writes a file for the server's user alone.
func (s *Server) writeFile(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("pgserver: configure: %w", err)
	}
	return giveAway(path)
}

// command is the postmaster's command line. What must hold whatever the settings say
// is here: where it listens.
func (s *Server) command() *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.binDir, "postgres"), "-D", s.dataDir,
		"-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(s.port),
		"-c", "unix_socket_directories=", "-c", "logging_collector=off")
	s.dress(cmd)
	return cmd
}

// dress gives a program of the server its user, home and environment. Nothing is
// inherited: PGDATA, PGPORT or a locale of the caller must not matter.
func (s *Server) dress(cmd *exec.Cmd) {
	cmd.Dir = s.base
	cmd.Env = []string{"HOME=" + s.base, "PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = processAttributes()
}

// ready looks into the postmaster's own file: its eighth line says when it takes
// connections, and its first whose file it is.
func (s *Server) ready(pid int) bool {
	text, err := os.ReadFile(filepath.Join(s.dataDir, "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 8 || lines[0] != strconv.Itoa(pid) {
		return false
	}
	status := strings.TrimSpace(lines[7])
	return status == "ready" || status == "standby" // A standby takes connections that only read.
}
