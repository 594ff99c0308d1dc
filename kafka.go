package tailrace

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/tailrace/tailrace/internal/engine/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// KafkaOption is an option of the Kafka client, a kgo.Opt of franz-go.
type KafkaOption = kafka.Option

// Kafka says how an app runs as a member of a consumer group: Kafka mode. All members of
// the group, which is named for the app, run the same topologies, each over a state
// directory of its own; tables are read from topics (sources/debezium, sources/kafka) and
// outputs go to topics of the same cluster (sinks/kafka). Zero fields take their defaults.
type Kafka struct {
	// Brokers are the addresses, host:port, to begin with. At least one.
	Brokers []string
	// Options go to every client: TLS, SASL, timeouts. They may carry secrets and are
	// never logged.
	Options []KafkaOption
	// InstanceID makes the member static: it keeps its partitions through a restart that is
	// shorter than the session timeout. It has to be unique in the group. Defaults to "", a
	// member that is not static.
	InstanceID string
	// Advertise is where the other members reach this one, host:port: they forward queries for
	// the parts of views that it has. Whoever may join the group can name such an address, and
	// the others send it their Token. Defaults to where Addr listens; if that is all
	// interfaces, to the machine's host name and Addr's port. Needed where Handler is served
	// by a server of your own; without either the other members cannot ask this one.
	Advertise string
	// PeerTLS is how this member asks the others, where they serve HTTPS. Defaults to what goes
	// with Config.TLS: its certificates are shown, and those of others have to be signed by its
	// ClientCAs, or by the system's roots if it has none. Nil where that is nil, too: plain HTTP.
	PeerTLS *tls.Config
	// Standbys is how many other members follow the changelogs of each task into a state of
	// their own, so that they have little to restore when the task's member is gone. All members
	// should have the same. Defaults to 0: another member restores from the changelogs.
	Standbys int
	// CommitInterval is how long a transaction gathers records: readers of the outputs see
	// results about that much later. Defaults to 100 ms.
	CommitInterval time.Duration
	// SessionTimeout is after how long without a sign of life a member counts as gone.
	// Defaults to 45 s.
	SessionTimeout time.Duration
	// TransactionTimeout is how long readers of the outputs wait for a transaction that a
	// dead member left open. Defaults to 15 s.
	TransactionTimeout time.Duration
	// MaxIdle is how long a task waits for records that one partition holds, or for its
	// broker's word that it holds none, before it goes on with those of others. What was in
	// the topics before a record is processed before it unless that takes longer.
	// Defaults to 10 s.
	MaxIdle time.Duration
}

func (k *Kafka) limits(c *Config) kafka.Limits {
	return kafka.Limits{
		CommitInterval: k.CommitInterval, Records: c.EpochRows, Memory: c.Memory,
		SessionTimeout: k.SessionTimeout, TransactionTimeout: k.TransactionTimeout, MaxIdle: k.MaxIdle,
	}
}

// DropKafka removes what an app in Kafka mode has left in the cluster, also of topologies
// that it has no longer: its group and its internal topics, which it returns. Inputs and
// outputs stay, and so do the members' state directories, which are of no use afterwards. The
// error is sources.ErrInUse while the group has members; then nothing is removed. See
// App.Destroy.
func DropKafka(ctx context.Context, app string, k Kafka, log *slog.Logger) (topics []string, err error) {
	if log == nil {
		log = slog.Default()
	}
	err = topology.CheckName(app)
	if err == nil {
		topics, err = kafka.Drop(ctx, k.Brokers, k.Options, app, log)
	}
	if errors.Is(err, kafka.ErrInUse) {
		err = fmt.Errorf("%w: %w", sources.ErrInUse, err)
	}
	if err != nil {
		return topics, fmt.Errorf("tailrace: drop app %q: %w", app, err)
	}
	return topics, nil
}

// peers makes what asks the other members; nil in direct mode.
func (c *Config) peers() *view.Peers {
	if c.Kafka == nil {
		return nil
	}
	secure := c.Kafka.PeerTLS
	if secure == nil && c.TLS != nil {
		secure = &tls.Config{
			Certificates: c.TLS.Certificates, RootCAs: c.TLS.ClientCAs, MinVersion: tls.VersionTLS12,
		}
	}
	return view.NewPeers(view.PeerOptions{App: c.App, Token: c.Token, TLS: secure})
}

// advertise is where the other members reach this one; "" if they cannot, or in direct mode.
func (a *App) advertise() (string, error) {
	bound := a.Addr()
	switch {
	case a.cfg.Kafka == nil:
		return "", nil
	case a.cfg.Kafka.Advertise != "" || bound == nil:
		return a.cfg.Kafka.Advertise, nil
	}
	host, port, err := net.SplitHostPort(bound.String())
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
		return bound.String(), nil
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "", fmt.Errorf("tailrace: Config.Kafka.Advertise is needed, since the machine has no name: %w",
			cmp.Or(err, os.ErrNotExist))
	}
	return net.JoinHostPort(name, port), nil
}
