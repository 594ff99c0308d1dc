// Package pgservertest gives each test a fresh PostgreSQL database on a server that
// the tests of a binary share.
package pgservertest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tailrace/tailrace/internal/pgserver"
)

// VersionEnv names the environment variable that sets the version for tests that
// don't ask for one: a full or a major version. Without it that is
// pgserver.DefaultVersion.
const VersionEnv = "TAILRACE_TEST_PG_VERSION"

// stepTimeout bounds each statement of a test's helper, so that a lock that is never
// given up fails the test with its name rather than the whole run with a time-out.
const stepTimeout = 60 * time.Second

// DB is a database of one test. Its methods fail the test on an error.
type DB struct {
	// Pool is connected to the database as superuser.
	Pool *pgxpool.Pool
	// Server is the server under the database; with Private it may be killed and
	// restarted, otherwise other tests use it too.
	Server *pgserver.Server
	// Name is the database's name, unique on its server.
	Name string
	// URL is how a superuser connects to the database.
	URL string

	t testing.TB
}

type options struct {
	version  string
	private  bool
	settings map[string]string
}

// Option changes what New gives.
type Option func(*options)

// Version asks for a PostgreSQL version, full or major. Default: VersionEnv.
func Version(version string) Option { return func(o *options) { o.version = version } }

// Private asks for a server of the test's own, stopped when the test ends. Unlike the
// shared one it syncs to disk, unless the settings say otherwise. Nil settings are
// the package's defaults (pgserver.Config.Settings).
func Private(settings map[string]string) Option {
	return func(o *options) { o.private, o.settings = true, settings }
}

var databases atomic.Int64

// New makes a database that is dropped when the test ends, with its replication slots
// and whoever is connected to it. The shared server runs with fsync off: killed it
// loses nothing, only a power cut would harm it.
func New(t testing.TB, opts ...Option) *DB {
	t.Helper()
	o := options{version: os.Getenv(VersionEnv)}
	for _, opt := range opts {
		opt(&o)
	}
	version, err := pgserver.ResolveVersion(o.version)
	if err != nil {
		t.Fatal(err)
	}
	db := &DB{t: t, Name: fmt.Sprintf("test_%d_%d", os.Getpid(), databases.Add(1))}
	if o.private {
		db.Server = startPrivate(t, version, o.settings)
	} else if db.Server, err = sharedServer(version); err != nil {
		t.Fatal(err)
	}
	db.create(!o.private)
	return db
}

func startPrivate(t testing.TB, version string, settings map[string]string) *pgserver.Server {
	t.Helper()
	server, err := pgserver.Start(t.Context(), pgserver.Config{Version: version, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop the private server: %v", err)
		}
	})
	return server
}

// create makes the database and its pool. On a private server nothing needs dropping.
func (db *DB) create(drop bool) {
	db.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	if err := onServer(ctx, db.Server, "CREATE DATABASE "+db.Name); err != nil {
		db.t.Fatalf("create the test's database: %v", err)
	}
	if drop {
		db.t.Cleanup(db.drop)
	}
	db.connect(ctx)
}

// connect makes the pool.
func (db *DB) connect(ctx context.Context) {
	db.t.Helper()
	db.URL = db.Server.URL(db.Name)
	cfg, err := pgxpool.ParseConfig(db.URL)
	if err != nil {
		db.t.Fatal(err)
	}
	// By default one that was used within the last second is taken to be alive, which it is
	// not once a test has killed its server.
	cfg.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return true }
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		db.t.Fatalf("connect to the test's database: %v", err)
	}
	db.Pool = pool
	db.t.Cleanup(func() {
		// A test that failed may still hold a connection: Close would wait for it.
		closed := make(chan struct{})
		go func() { pool.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(5 * time.Second):
			db.t.Errorf("a connection of DB.Pool was never released")
		}
	})
}

// drop removes the database's slots, which would keep it and its WAL, and then it.
func (db *DB) drop() {
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, db.Server.URL("postgres"))
	if err != nil {
		db.t.Errorf("drop the test's database: %v", err)
		return
	}
	defer conn.Close(ctx)
	for {
		err = db.tryDrop(ctx, conn)
		if err == nil {
			return
		}
		// A walsender that was told to end takes its time, and its client may be back.
		select {
		case <-ctx.Done():
			db.t.Errorf("drop the test's database: %v", err)
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (db *DB) tryDrop(ctx context.Context, conn *pgx.Conn) error {
	for _, sql := range []string{
		`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = $1 AND active`,
		`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND NOT active`,
	} {
		if _, err := conn.Exec(ctx, sql, db.Name); err != nil {
			return err
		}
	}
	_, err := conn.Exec(ctx, "DROP DATABASE "+db.Name+" WITH (FORCE)")
	return err
}

func onServer(ctx context.Context, server *pgserver.Server, sql string) error {
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// Exec runs statements one after the other, each its own transaction. A text may hold
// several statements separated by semicolons: these are one transaction together.
func (db *DB) Exec(statements ...string) {
	db.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	for _, sql := range statements {
		if _, err := db.Pool.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			db.t.Fatalf("%v\nin: %s", err, sql)
		}
	}
}

// ExecArgs runs one statement with arguments and returns the number of rows it touched.
func (db *DB) ExecArgs(sql string, args ...any) int64 {
	db.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	tag, err := db.Pool.Exec(ctx, sql, args...)
	if err != nil {
		db.t.Fatalf("%v\nin: %s", err, sql)
	}
	return tag.RowsAffected()
}

// Query returns the rows as pgx decodes them into any.
func (db *DB) Query(sql string, args ...any) [][]any {
	db.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	rows, err := db.Pool.Query(ctx, sql, args...)
	if err != nil {
		db.t.Fatalf("%v\nin: %s", err, sql)
	}
	values, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	if err != nil {
		db.t.Fatalf("%v\nin: %s", err, sql)
	}
	return values
}

// Null stands for NULL in what Strings returns.
const Null = "NULL"

// Strings returns the rows in PostgreSQL's text format, as psql would show them, with
// Null for NULL. The text may hold several statements; all their rows are returned.
func (db *DB) Strings(sql string) [][]string {
	db.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	conn, err := db.Pool.Acquire(ctx)
	if err != nil {
		db.t.Fatal(err)
	}
	defer conn.Release()
	results, err := conn.Conn().PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		db.t.Fatalf("%v\nin: %s", err, sql)
	}
	var rows [][]string
	for _, result := range results {
		for _, row := range result.Rows {
			texts := make([]string, len(row))
			for i, cell := range row {
				texts[i] = string(cell)
				if cell == nil {
					texts[i] = Null
				}
			}
			rows = append(rows, texts)
		}
	}
	return rows
}

// String returns the only column of the only row in PostgreSQL's text format.
func (db *DB) String(sql string) string {
	db.t.Helper()
	rows := db.Strings(sql)
	if len(rows) != 1 || len(rows[0]) != 1 {
		db.t.Fatalf("%d rows instead of one value\nin: %s", len(rows), sql)
	}
	return rows[0][0]
}

// URLVia is URL through a proxy that listens on addr (a host and port).
func (db *DB) URLVia(addr string) string { return db.Server.URLVia(addr, db.Name) }

// ReplicationURL is how a superuser opens a replication connection to the database.
func (db *DB) ReplicationURL() string {
	separator := "?"
	if strings.Contains(db.URL, "?") {
		separator = "&"
	}
	return db.URL + separator + "replication=database"
}
