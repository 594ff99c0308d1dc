package pgservertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/internal/pgserver"
)

// NewStandby starts a hot standby that follows the private server of a database through
// the physical slot "standby", and can take over its logical slots (PostgreSQL 17 and
// newer). It returns the same database there, which can be read, and written once the
// standby has been promoted. The standby stops when the test ends.
func NewStandby(db *DB) *DB {
	t := db.t
	t.Helper()
	db.Exec("SELECT pg_create_physical_replication_slot('standby', true)")
	base, err := os.MkdirTemp("", "tailrace-standby-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "data")
	backUp(t, db.Server, dir)
	standby, err := pgserver.Start(t.Context(), pgserver.Config{Version: db.Server.Version(), DataDir: dir,
		Settings: map[string]string{"fsync": "off", "hot_standby_feedback": "on",
			"wal_receiver_status_interval": "1s"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { standby.Stop() })
	there := &DB{t: t, Server: standby, Name: db.Name}
	there.connect(t.Context())
	return there
}

// backUp copies a running server's data for a standby that follows it.
func backUp(t testing.TB, server *pgserver.Server, to string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(t.Context(), "SELECT pg_backup_start('standby', true)"); err != nil {
		t.Fatal(err)
	}
	write, err := copyFiles(server.DataDir(), to)
	if err != nil {
		t.Fatal(err)
	}
	var label string
	if err := c.QueryRow(t.Context(), "SELECT labelfile FROM pg_backup_stop(false)").Scan(&label); err != nil {
		t.Fatal(err)
	}
	primary := fmt.Sprintf("host=127.0.0.1 port=%d user=postgres password=%s dbname=postgres", server.Port(),
		server.Password())
	for name, text := range map[string]string{"backup_label": label, "standby.signal": "",
		"postgresql.auto.conf": "primary_conninfo = '" + primary + "'\nprimary_slot_name = 'standby'\n"} {
		if err := write(filepath.Join(to, name), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
}

// copyFiles copies a data directory but for what belongs to the running server, and
// returns how further files are written for the same owner.
func copyFiles(from, to string) (write func(path string, data []byte) error, err error) {
	info, err := os.Stat(from)
	if err != nil {
		return nil, err
	}
	owner := info.Sys().(*syscall.Stat_t)
	write = func(path string, data []byte) error {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
		return os.Chown(path, int(owner.Uid), int(owner.Gid))
	}
	err = filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch {
		case e.IsDir():
			if filepath.Dir(name) == "pg_replslot" {
				return fs.SkipDir
			}
			return errors.Join(os.Mkdir(target, 0o700), os.Chown(target, int(owner.Uid), int(owner.Gid)))
		case strings.HasPrefix(name, "postmaster.") || strings.HasPrefix(name, "pg_wal/"):
			return nil
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(err, write(target, data))
	})
	return write, err
}
