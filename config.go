package tailrace

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// Config says how an app runs. The zero value of a field is its default unless the
// comment says otherwise.
type Config struct {
	// App is the app's name: required. It names the replication slot, the progress
	// rows and the state directory's owner; it follows topology.CheckName.
	App string
	// StateDir is the directory of the app's state: required. It is made with mode
	// 0700 and locked while the app runs. Losing it costs a new snapshot and what only
	// streams had built up.
	StateDir string
	// Logger takes the app's log. Defaults to slog.Default. Keys and values of rows
	// are never logged.
	Logger *slog.Logger
	// Addr is where views, metrics and health are served over HTTP, such as
	// "127.0.0.1:8080". Defaults to none.
	Addr string
	// Token is what HTTP requests must bring as a bearer token: required where Addr
	// is not a loopback address, unless TLS asks for client certificates. It prints as
	// asterisks.
	Token view.Token
	// TLS makes Addr speak HTTPS; with ClientAuth RequireAndVerifyClientCert the client's
	// certificate stands for the token. Defaults to nil, plain HTTP.
	TLS *tls.Config
	// Production has New refuse what only warns otherwise: a PostgreSQL on another machine
	// whose certificate and host are not verified (sslmode=verify-full), and an Addr that
	// other machines reach without TLS. How the brokers of a Kafka target are reached (its
	// Options) is not looked into. It is for direct mode. Defaults to false.
	Production bool
	// VerifySQL serves POST /verify at Addr, by which `tailrace verify` compares a view
	// with SQL: whoever may read the views may then run queries in the source databases,
	// with the app's rights, in read-only transactions. Defaults to false.
	VerifySQL bool
	// EpochRows is the number of rows and messages after which an epoch is committed although more
	// are waiting; a transaction is never split. Defaults to 20,000.
	EpochRows int
	// OneTransaction commits each source transaction by itself, which shows every
	// version of every view and costs throughput.
	OneTransaction bool
	// Memory is the budget of all stores in bytes; larger transactions spill to disk.
	// Defaults to 128 MiB.
	Memory int64
	// QueueBytes is how much may wait for one target before the sources stop being
	// read. Defaults to 1 GiB.
	QueueBytes int64
	// IdleCommit is how often an idle database's position is made durable, so that it
	// can forget its log. Defaults to 10 s.
	IdleCommit time.Duration
	// MaxIdle is how long transactions wait, where a topology reads several databases, for
	// one that may have earlier ones to send and sends nothing; they are taken in the order
	// of their commit times. One that has said that it has no more is not waited for.
	// Defaults to 1 s.
	MaxIdle time.Duration

	// Partitions is how many partitions each topology is divided into, as it is where an
	// app is scaled out: results, their order and ids of events do not depend on it, and
	// it may be another number at each start. Partitions run one after another, so more
	// than one costs throughput; it is for tests of what will be scaled out. A topology
	// that cannot be divided is an error that names the node. Defaults to 1.
	Partitions int

	// StopOnLostState stops the app with ErrStateLost where its state directory is new
	// although a source shows that it ran before, and events would be delivered again.
	// By default tables are read anew, and the events that the source still holds are
	// delivered, marked as replayed.
	StopOnLostState bool

	// Kafka runs the app as a member of a consumer group, over topics of a Kafka cluster.
	// Defaults to nil: direct mode.
	Kafka *Kafka

	sources map[string]sources.Connector
	targets map[string]sinks.Connector
}

// Bind replaces the connector of a database, by its name.
func (c *Config) Bind(database string, connector sources.Connector) {
	if c.sources == nil {
		c.sources = map[string]sources.Connector{}
	}
	c.sources[database] = connector
}

// BindTarget replaces the connector of a target, by its name.
func (c *Config) BindTarget(target string, connector sinks.Connector) {
	if c.targets == nil {
		c.targets = map[string]sinks.Connector{}
	}
	c.targets[target] = connector
}

// maxPartitions bounds Config.Partitions.
const maxPartitions = 4096

// validate reports everything that is wrong.
func (c *Config) validate(topologies []*topology.Topology) error {
	var errs []error
	if err := topology.CheckName(c.App); err != nil {
		errs = append(errs, fmt.Errorf("Config.App is %q: %w", c.App, err))
	}
	if c.StateDir == "" {
		errs = append(errs, errors.New("Config.StateDir is empty: name the directory for the app's state"))
	}
	if c.Kafka != nil && len(c.Kafka.Brokers) == 0 {
		errs = append(errs, errors.New("Config.Kafka.Brokers is empty: give host:port of at least one broker"))
	}
	if len(topologies) == 0 {
		errs = append(errs, errors.New("no topology was given"))
	}
	names := map[string]bool{}
	errs = append(errs, checkViews(topologies)...)
	for i, t := range topologies {
		switch {
		case t == nil:
			errs = append(errs, fmt.Errorf("topology %d is nil: check the error of Build", i+1))
		case names[t.Name()]:
			errs = append(errs, fmt.Errorf("two topologies are named %q", t.Name()))
		default:
			names[t.Name()] = true
		}
		if t != nil && c.Partitions > 1 {
			if _, err := t.Cut(); err != nil {
				errs = append(errs, fmt.Errorf("Config.Partitions is %d: %w", c.Partitions, err))
			}
		}
	}
	if c.Partitions > maxPartitions {
		errs = append(errs, fmt.Errorf("Config.Partitions is %d: at most %d", c.Partitions, maxPartitions))
	}
	errs = append(errs, c.checkNumbers()...)
	errs = append(errs, c.checkMode()...)
	errs = append(errs, c.checkBound(topologies)...)
	errs = append(errs, c.checkPolicies(topologies)...)
	errs = append(errs, c.checkTransport(topologies)...)
	if len(errs) > 0 {
		return fmt.Errorf("%w: %w", ErrConfig, errors.Join(errs...))
	}
	return nil
}

func (c *Config) limits() engine.Limits {
	return engine.Limits{
		EpochRows: c.EpochRows, OneTransaction: c.OneTransaction, Memory: c.Memory,
		QueueBytes: c.QueueBytes, IdleCommit: c.IdleCommit, MaxIdle: c.MaxIdle,
	}
}

// connectors returns the connectors of all databases and targets that the
// topologies name: what was bound, else what the topology brought.
func (c *Config) connectors(
	topologies []*topology.Topology,
) (map[string]sources.Connector, map[string]sinks.Connector) {
	built := slices.DeleteFunc(slices.Clone(topologies), func(t *topology.Topology) bool {
		return t == nil // validate tells
	})
	in, out := engine.Connectors(built...)
	for name := range in {
		if bound := c.sources[name]; bound != nil {
			in[name] = bound
		}
	}
	for name := range out {
		if bound := c.targets[name]; bound != nil {
			out[name] = bound
		}
	}
	return in, out
}

// batchBytes is the size from which a commit is written as sorted tables, so that what is
// kept in memory for it goes with a small Memory; 0 is the default.
func (c *Config) batchBytes() int {
	if c.Memory == 0 {
		return 0
	}
	return int(min(max(c.Memory/2, 1<<20), 16<<20))
}
