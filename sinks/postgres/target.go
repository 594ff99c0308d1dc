// Package postgres writes tables and event streams into PostgreSQL, exactly once: all
// rows of an epoch, in all tables of the target, and the target's progress row commit
// in one transaction.
//
// Readers that want to know which state they see select the progress row in the
// transaction that reads the tables:
//
//	BEGIN ISOLATION LEVEL REPEATABLE READ;
//	SELECT positions->>'shop' AS lsn, commit_time FROM tailrace_progress
//	  WHERE app = 'revenue' AND target = 'warehouse';
//	SELECT * FROM revenue_per_customer;
//	COMMIT;
package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/internal/pgsilence"
	"github.com/tailrace/tailrace/internal/pgtls"
	"github.com/tailrace/tailrace/sinks"
)

// Defaults of Config.
const (
	DefaultProgressTable = "tailrace_progress"
	DefaultLease         = 15 * time.Second
)

// Config says how to reach a target and what may be done in it.
type Config struct {
	// URL is a PostgreSQL connection string, as a URL or as keywords. It may carry a
	// password, so it is never logged and stands in no error.
	URL string
	// CreateTables creates the tables that are missing, for every output.
	CreateTables bool
	// ProgressTable is the table that holds the progress of all apps and targets of
	// the database, created if it is missing; "table" or "schema.table". Default
	// tailrace_progress.
	ProgressTable string
	// Lease is how long a dead instance keeps another one, with another state
	// directory, from taking over; a restart with the same state directory never
	// waits. Default 15 s, by the target's clock.
	Lease time.Duration

	// silence is after how much silence the target is asked over a second connection whether it
	// is at work, and given up if it does not say so; tests shorten it.
	silence time.Duration
}

// String says which configuration it is without its secrets.
func (c Config) String() string {
	pc, err := pgx.ParseConfig(c.URL)
	if err != nil {
		return "postgres target"
	}
	return fmt.Sprintf("postgres target %s:%d/%s", pc.Host, pc.Port, pc.Database)
}

// GoString is String, so that %#v prints no secret either.
func (c Config) GoString() string { return c.String() }

// LogValue is String, for slog.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText is String, for JSON.
func (c Config) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Output is what a user may say about one output of a PostgreSQL target.
type Output struct {
	// Create creates the table if it is missing. Config.CreateTables does for all.
	Create bool
	// Schema and Table name the table where the output's own name cannot: a name with
	// a dot in it. By default an output named "a.b" is table b of schema a, and one
	// without a dot is found by the session's search_path.
	Schema, Table string
	// Types replaces the type of a column, for creating the table and for checking it:
	// a text that is an uuid, a numeric that is a numeric(12,2). Whether each value
	// fits, and whether keys that differ stay different, is then the user's to know.
	Types map[string]string
}

// SinkOption implements sinks.Option.
func (Output) SinkOption() {}

// Target returns a connector that writes into a PostgreSQL database. It contacts
// nothing before it is opened.
func Target(cfg Config) sinks.Connector {
	if cfg.ProgressTable == "" {
		cfg.ProgressTable = DefaultProgressTable
	}
	if cfg.Lease <= 0 {
		cfg.Lease = DefaultLease
	}
	if cfg.silence == 0 {
		cfg.silence = pgsilence.Limit
	}
	return &connector{cfg: cfg}
}

// connector implements sinks.Connector. It is handed around by pointer, so printing what
// holds it shows no secret.
type connector struct {
	cfg Config
	// warned keeps retries from repeating what pgtls.Warn says.
	warned sync.Once
}

// String is that of the configuration: fmt reads fields past their own String.
func (c *connector) String() string { return c.cfg.String() }

// GoString is String.
func (c *connector) GoString() string { return c.cfg.String() }

// CheckTransport implements sinks.Transport.
func (c *connector) CheckTransport() error {
	conf, err := sessionConfig(c.cfg.URL)
	if err != nil {
		return fmt.Errorf("sinks/postgres: %w", err)
	}
	if err := pgtls.Check(&conf.Config); err != nil {
		return fmt.Errorf("sinks/postgres: Config.URL: %w: %w", err, sinks.ErrConfig)
	}
	return nil
}

// Transactional reports true: rows and progress commit together.
func (c *connector) Transactional() bool { return true }

// AsksOnError implements sinks.Refuser.
func (c *connector) AsksOnError() {}

// TakesWindowColumns implements sinks.WindowColumns.
func (c *connector) TakesWindowColumns() {}

// Open implements sinks.Connector.
func (c *connector) Open(ctx context.Context, req sinks.OpenRequest) (sinks.Writer, error) {
	w, err := c.newWriter(req)
	if err != nil {
		return nil, err
	}
	c.warned.Do(func() { pgtls.Warn(&w.conf.Config, w.log) })
	if err := w.open(ctx); err != nil {
		w.disconnect()
		return nil, err
	}
	w.startLease()
	return w, nil
}

// Check implements sinks.Checker.
func (c *connector) Check(ctx context.Context, req sinks.OpenRequest) error {
	w, err := c.newWriter(req)
	if err != nil {
		return err
	}
	c.warned.Do(func() { pgtls.Warn(&w.conf.Config, w.log) })
	defer w.disconnect()
	return w.check(ctx, req.Claim)
}

func (c *connector) newWriter(req sinks.OpenRequest) (*writer, error) {
	conf, err := sessionConfig(c.cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("sinks/postgres: target %q: %w", req.Target, err)
	}
	pgsilence.Guard(conf, c.cfg.silence)
	log := req.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &writer{
		cfg: c.cfg, conf: conf, log: log.With("target", req.Target),
		app: req.App, target: req.Target, incarnation: req.Incarnation, session: rand.Text(),
		appTargets: req.AppTargets,
	}
	p := &problems{}
	w.progress, err = parseName(c.cfg.ProgressTable)
	p.add(err)
	w.tables = resolveOutputs(c.cfg, req.Outputs, w.progress, p)
	if err := p.err(req.Target); err != nil {
		return nil, err
	}
	return w, nil
}

// Drop implements sinks.Connector.
func (c *connector) Drop(ctx context.Context, req sinks.DropRequest) error {
	w, err := c.newWriter(sinks.OpenRequest{App: req.App, Target: req.Target, Logger: req.Logger})
	if err != nil {
		return err
	}
	defer w.disconnect()
	if err := w.connect(ctx); err != nil {
		return err
	}
	return w.dropProgress(ctx)
}

// sessionConfig reads the connection string and fixes the session settings that the
// text form of values, and exactly once, depend on.
func sessionConfig(url string) (*pgx.ConnConfig, error) {
	conf, err := pgx.ParseConfig(url)
	if err != nil {
		// The parser's error may quote the string, and the string holds the password.
		return nil, fmt.Errorf("Config.URL is not a PostgreSQL connection string that can be used "+
			"(postgres://user:password@host:5432/database?sslmode=verify-full): special characters in it must be "+
			"percent-encoded, and the files it names must exist: %w", sinks.ErrConfig)
	}
	conf.ConnectTimeout = cmp.Or(conf.ConnectTimeout, 10*time.Second)
	for name, value := range map[string]string{
		"datestyle":                     "ISO, YMD",
		"intervalstyle":                 "postgres",
		"timezone":                      "UTC",
		"extra_float_digits":            "3",
		"bytea_output":                  "hex",
		"client_encoding":               "UTF8",
		"standard_conforming_strings":   "on",
		"default_transaction_isolation": "read committed",
		"statement_timeout":             "0",
		"lock_timeout":                  "0",
		"idle_session_timeout":          "0",
		// A process that froze in the middle of a sink transaction must not hold the
		// progress row for ever; nor must one whose network is gone.
		"idle_in_transaction_session_timeout": "60s",
		"tcp_keepalives_idle":                 "10",
		"tcp_keepalives_interval":             "5",
		"tcp_keepalives_count":                "3",
	} {
		conf.RuntimeParams[name] = value
	}
	if conf.RuntimeParams["application_name"] == "" {
		conf.RuntimeParams["application_name"] = "tailrace"
	}
	pgtls.Guard(&conf.Config)
	return conf, nil
}
