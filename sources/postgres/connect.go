package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/internal/pgdial"
	"github.com/tailrace/tailrace/internal/pgsilence"
	"github.com/tailrace/tailrace/internal/pgtls"
	"github.com/tailrace/tailrace/sources"
)

// sessionSettings make values look the same on every connection: pgoutput's text
// follows the settings of its walsender as a query's follows those of its session. The
// timeouts are off because a session waits for us, not for the server.
var sessionSettings = map[string]string{
	"DateStyle":                           "ISO, YMD",
	"IntervalStyle":                       "postgres",
	"TimeZone":                            "UTC",
	"extra_float_digits":                  "3",
	"bytea_output":                        "hex",
	"client_encoding":                     "UTF8",
	"lc_monetary":                         "C",
	"search_path":                         "pg_catalog",
	"standard_conforming_strings":         "on",
	"application_name":                    "tailrace",
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
}

// parseURL reads a connection URL. Its error never contains any part of it. Connections
// whose server is silent for so long are given up; 0 lets them wait.
func parseURL(url string, silence time.Duration) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf(
			"postgres: Config.URL is not a connection URL (postgres://user:password@host:port/db"+
				"?sslmode=verify-full) or keyword/value string that can be used: special characters in it must be"+
				" percent-encoded, and the files it names must exist: %w",
			sources.ErrConfig,
		)
	}
	maps.Copy(cfg.RuntimeParams, sessionSettings)
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 20 * time.Second
	}
	cfg.DialFunc = pgdial.Dial
	pgtls.Guard(&cfg.Config)
	if silence > 0 {
		pgsilence.Guard(cfg, silence)
	}
	return cfg, nil
}

// CheckTransport implements sources.Transport.
func (c *connector) CheckTransport() error {
	cfg, err := parseURL(c.cfg.URL, 0)
	if err != nil {
		return err
	}
	if err := pgtls.Check(&cfg.Config); err != nil {
		return fmt.Errorf("postgres: Config.URL: %w: %w", err, sources.ErrConfig)
	}
	return nil
}

// connect opens a connection for queries.
func connect(ctx context.Context, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	c, err := pgx.ConnectConfig(ctx, cfg.Copy())
	if err != nil {
		return nil, connectError(cfg, err)
	}
	if err := disableTransactionTimeout(ctx, c.PgConn()); err != nil {
		c.Close(ctx)
		return nil, connectError(cfg, err)
	}
	return c, nil
}

// connectReplication opens a connection that takes replication commands.
func connectReplication(ctx context.Context, cfg *pgx.ConnConfig) (*pgconn.PgConn, error) {
	rc := cfg.Config.Copy()
	rc.RuntimeParams["replication"] = "database"
	rc.DialFunc, rc.AfterConnect = pgdial.Dial, nil // The stream has its own way to ask: see maxSilence.
	c, err := pgconn.ConnectConfig(ctx, rc)
	if sqlState(err) == "42501" {
		return nil, replicationRefused(ctx, cfg, err)
	}
	if err != nil {
		return nil, connectError(cfg, err)
	}
	if err := disableTransactionTimeout(ctx, c); err != nil {
		c.Close(ctx)
		return nil, connectError(cfg, err)
	}
	return c, nil
}

// replicationRefused tells which right is missing: to replicate, or to connect at all.
func replicationRefused(ctx context.Context, cfg *pgx.ConnConfig, refused error) error {
	c, err := connect(ctx, cfg)
	if err != nil {
		return err
	}
	c.Close(ctx)
	return fmt.Errorf("postgres: connect to %s:%d database %q as %q to replicate: %w: "+
		"run: ALTER ROLE %s REPLICATION;: %w", cfg.Host, cfg.Port, cfg.Database, cfg.User, refused,
		ident(cfg.User), sources.ErrConfig)
}

// disableTransactionTimeout does what the settings cannot: a server before 17 refuses
// a connection that names it.
func disableTransactionTimeout(ctx context.Context, c *pgconn.PgConn) error {
	if majorVersion(c.ParameterStatus("server_version")) < 17 {
		return nil
	}
	return c.Exec(ctx, "SET transaction_timeout = 0").Close()
}

// majorVersion reads "17.2 (Debian 17.2-1)" and the like; 0 if it cannot.
func majorVersion(s string) int {
	n := 0
	for i := 0; i < len(s) && s[i] >= '0' && s[i] <= '9' && n < 1000; i++ {
		n = n*10 + int(s[i]-'0')
	}
	return n
}

// connectError says where a connection failed. A role or database the server refuses
// is a matter of configuration; all else may pass.
func connectError(cfg *pgx.ConnConfig, err error) error {
	where := fmt.Sprintf(
		"postgres: connect to %s:%d database %q as %q",
		cfg.Host,
		cfg.Port,
		cfg.Database,
		cfg.User,
	)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		if remedy := pgtls.Remedy(err); remedy != "" {
			return fmt.Errorf("%s: %w: %s: %w", where, err, remedy, sources.ErrConfig)
		}
		return fmt.Errorf("%s: %w", where, err)
	}
	switch {
	case strings.HasPrefix(pg.Code, "28"):
		return fmt.Errorf("%s: %w: check user, password and pg_hba.conf: %w", where, pg, sources.ErrConfig)
	case pg.Code == "3D000":
		return fmt.Errorf("%s: %w: name the right database in Config.URL, or run: CREATE DATABASE %s: %w",
			where, pg, pgx.Identifier{cfg.Database}.Sanitize(), sources.ErrConfig)
	case pg.Code == "42501":
		return fmt.Errorf("%s: %w: run: GRANT CONNECT ON DATABASE %s TO %s: %w", where, pg,
			pgx.Identifier{cfg.Database}.Sanitize(), pgx.Identifier{cfg.User}.Sanitize(), sources.ErrConfig)
	}
	return fmt.Errorf("%s: %w", where, pg)
}
