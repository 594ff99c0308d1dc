package postgres

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/tailrace/tailrace/sources"
)

// Config says how to read a PostgreSQL database. The zero value of every field but
// URL means the default that its comment names.
type Config struct {
	// URL is the connection URL or keyword/value string, as libpq and pgx take it,
	// with TLS settings (sslmode, sslrootcert and so on). It is a secret: a Config
	// prints without it, and no error or log line contains it. Required.
	URL string
	// Slot names the replication slot: lower case letters, digits and underscores, 63
	// bytes at most. Default: "tailrace_" and the names of app and database, so that
	// each app has its own.
	Slot string
	// Publication names the publication of the tables whose updates and deletes are
	// published; tables without replica identity are in a second one with the suffix
	// "_insert". Default: the slot's name.
	Publication string
	// ManagePublication says who makes the publications. Default: PublicationAuto.
	ManagePublication PublicationMode
	// Failover makes the slot a failover slot, which standbys keep in step. It needs
	// PostgreSQL 17. Default: false.
	Failover bool
	// Streaming has the server send large transactions before they commit (protocol
	// version 2). They are kept in memory and temporary files until their commit, so
	// it saves the server's disk and time and takes ours. It is not used when logical
	// messages are read. Where the server fails to decode its log so (there are bugs in that
	// of tables that are rewritten meanwhile) again and again, the session goes on without.
	// Default: false.
	Streaming bool
	// StreamMemory bounds the memory for transactions that have not committed yet, in
	// bytes; more goes to temporary files. It matters with Streaming only. Default:
	// 64 MiB.
	StreamMemory int64
	// TempDir is where those files go. Default: os.TempDir().
	TempDir string
	// MaxRetainedWAL is how many bytes of log the server may have to keep for the
	// slot before RetainedPolicy applies. Default: 0, no bound.
	MaxRetainedWAL int64
	// RetainedPolicy says what happens beyond MaxRetainedWAL. Default: RetainedWarn.
	RetainedPolicy RetainedPolicy
	// SnapshotParallelism is how many connections read the snapshot. Default: 2.
	SnapshotParallelism int
	// SnapshotRateLimit is how many rows per second the snapshot reads in all.
	// Default: 0, no limit.
	SnapshotRateLimit int
	// SnapshotChunkRows is about how many rows a snapshot query reads: what a lost
	// connection repeats. Default: 50,000.
	SnapshotChunkRows int
	// HeartbeatInterval is how often an idle database's log gets a heartbeat, when a
	// topology depends on event time. Default: 1 s.
	HeartbeatInterval time.Duration
	// StatusInterval is how often the server is told what was acknowledged; shortly
	// after an acknowledgement it is told anyway. Default: 1 s.
	StatusInterval time.Duration
	// MonitorInterval is how often the slot is looked at for its lag. Default: 10 s.
	MonitorInterval time.Duration
	// SlotWait is how long Open waits for a slot that another connection uses: that of
	// our own dead predecessor lingers until the server notices
	// (wal_sender_timeout, 60 s by default). Default: 75 s.
	SlotWait time.Duration
	// LocalOnly leaves out transactions that reached the database by replication from
	// another origin (origin 'none'). It needs PostgreSQL 16. Default: false.
	LocalOnly bool

	// silence is how long a server may say nothing before its connection is given up, though
	// it is asked for a sign of life; tests shorten it.
	silence time.Duration
}

// PublicationMode says who makes the publications.
type PublicationMode uint8

const (
	// PublicationAuto makes and changes the publications, unless those that are there
	// fit. It needs ownership of the tables and CREATE on the database.
	PublicationAuto PublicationMode = iota
	// PublicationNever only checks them; Open's error has the SQL that makes them.
	PublicationNever
)

// RetainedPolicy says what happens when the server retains too much log for us.
type RetainedPolicy uint8

const (
	// RetainedWarn logs a warning, at most once a minute.
	RetainedWarn RetainedPolicy = iota
	// RetainedStop ends the session with ErrRetainedWAL; the slot stays.
	RetainedStop
	// RetainedDrop ends the session with ErrRetainedWAL and drops the slot: the
	// database is saved, and the app has to begin with a new snapshot.
	RetainedDrop
)

// String returns a form without secrets.
func (c Config) String() string {
	return fmt.Sprintf(
		"postgres.Config{URL: %q, Slot: %q, Publication: %q}",
		redacted(c.URL),
		c.Slot,
		c.Publication,
	)
}

// GoString returns a form without secrets.
func (c Config) GoString() string { return c.String() }

// LogValue returns a form without secrets.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON returns a form without secrets.
func (c Config) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%q", c.String()), nil }

func redacted(s string) string {
	if s == "" {
		return ""
	}
	return "redacted"
}

// connector implements sources.Connector. It is handed around by pointer, so printing
// what holds it shows no secret.
type connector struct {
	cfg Config
	// warned keeps retries from repeating what pgtls.Warn says.
	warned sync.Once
}

// Source returns a connector that reads a PostgreSQL database by logical replication.
// It contacts nothing before Open, which also reports what is wrong with the Config.
func Source(cfg Config) sources.Connector { return &connector{cfg: cfg} }

// String returns a form without secrets.
func (c *connector) String() string { return c.cfg.String() }

// GoString returns a form without secrets.
func (c *connector) GoString() string { return c.cfg.String() }

// joining returns the configuration of a session beside that of the app joins; see
// sources.OpenRequest.Joins. What joins is named for has passed withDefaults there.
func (c Config) joining(joins, app, database string) Config {
	if joins == "" {
		return c
	}
	if c.Slot == "" {
		c.Slot = defaultSlot(joins, database)
	}
	c.Publication = c.publication()
	c.ManagePublication = PublicationNever
	c.Slot = newcomerSlot(joins, app, database)
	return c
}

// publication is the name of the publication, which is that of the slot by default.
func (c Config) publication() string {
	switch {
	case c.Publication != "":
		return c.Publication
	case len(c.Slot) > maxPublication:
		return shortened(c.Slot, maxPublication)
	}
	return c.Slot
}

var namePattern = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// withDefaults fills in the defaults and checks the result.
func (c Config) withDefaults(app, database string) (Config, error) {
	var errs []error
	if c.URL == "" {
		errs = append(errs, errors.New("postgres: Config.URL is required"))
	}
	if c.Slot == "" {
		c.Slot = defaultSlot(app, database)
	}
	if !namePattern.MatchString(c.Slot) {
		errs = append(errs, fmt.Errorf("postgres: Config.Slot %q must be 1 to 63 of a-z, 0-9 and _", c.Slot))
	}
	c.Publication = c.publication()
	if len(c.Publication) > maxPublication || !validName(c.Publication) {
		errs = append(errs, fmt.Errorf("postgres: Config.Publication %q must be a name of 1 to %d bytes",
			c.Publication, maxPublication))
	}
	for _, f := range []struct {
		name  string
		value *int64
		def   int64
	}{
		{"StreamMemory", &c.StreamMemory, 64 << 20},
		{"MaxRetainedWAL", &c.MaxRetainedWAL, 0},
		{"HeartbeatInterval", (*int64)(&c.HeartbeatInterval), int64(time.Second)},
		{"StatusInterval", (*int64)(&c.StatusInterval), int64(time.Second)},
		{"MonitorInterval", (*int64)(&c.MonitorInterval), int64(10 * time.Second)},
		{"SlotWait", (*int64)(&c.SlotWait), int64(75 * time.Second)},
	} {
		if *f.value < 0 {
			errs = append(errs, fmt.Errorf("postgres: Config.%s must not be negative", f.name))
		} else if *f.value == 0 {
			*f.value = f.def
		}
	}
	for _, f := range []struct {
		name  string
		value *int
		def   int
	}{
		{"SnapshotParallelism", &c.SnapshotParallelism, 2},
		{"SnapshotRateLimit", &c.SnapshotRateLimit, 0},
		{"SnapshotChunkRows", &c.SnapshotChunkRows, 50_000},
	} {
		if *f.value < 0 {
			errs = append(errs, fmt.Errorf("postgres: Config.%s must not be negative", f.name))
		} else if *f.value == 0 {
			*f.value = f.def
		}
	}
	if c.silence == 0 {
		c.silence = maxSilence
	}
	return c, errors.Join(errs...)
}
