package pgtls

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Flaw is what a connection to another machine lacks. A larger one is worse.
type Flaw int

// The flaws.
const (
	// None: whoever answers is verified, or is on this machine.
	None Flaw = iota
	// AnyHost: any certificate of the authority is taken, whatever host it is for.
	AnyHost
	// Unverified: encrypted for whoever answers.
	Unverified
	// Plaintext: it may not be encrypted.
	Plaintext
)

// String says what the flaw is, as the end of a sentence about a connection.
func (f Flaw) String() string {
	return [...]string{
		None: "is verified", AnyHost: "takes the certificate of any host",
		Unverified: "takes any certificate", Plaintext: "may be unencrypted",
	}[f]
}

// Worst returns the worst flaw among all connections that a configuration may make, and
// the host of that one.
func Worst(cfg *pgconn.Config) (worst Flaw, host string) {
	all := append([]*pgconn.FallbackConfig{{Host: cfg.Host, TLSConfig: cfg.TLSConfig}}, cfg.Fallbacks...)
	for _, c := range all {
		if f := flaw(c); f > worst {
			worst, host = f, c.Host
		}
	}
	return worst, host
}

func flaw(c *pgconn.FallbackConfig) Flaw {
	switch {
	case Loopback(c.Host):
		return None
	case c.TLSConfig == nil:
		return Plaintext
	case !c.TLSConfig.InsecureSkipVerify:
		return None
	case c.TLSConfig.VerifyPeerCertificate != nil: // how pgconn makes verify-ca
		return AnyHost
	}
	return Unverified
}

// Loopback reports whether a host of a connection string is this machine: a socket's
// directory, localhost or a loopback address.
func Loopback(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" || host == "" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

const remedy = "set sslmode=verify-full in the URL, and sslrootcert to the authority's certificate"

// Warn logs what in a configuration lets others read or change the data.
func Warn(cfg *pgconn.Config, log *slog.Logger) {
	if f, host := Worst(cfg); f != None {
		log.Warn("the connection to PostgreSQL "+f.String()+"; "+remedy, "host", host)
	}
}

// ErrInsecure: a connection to another machine is not verified, and has to be.
var ErrInsecure = errors.New("the connection is not secure enough")

// Check refuses what Warn warns of.
func Check(cfg *pgconn.Config) error {
	f, host := Worst(cfg)
	if f == None {
		return nil
	}
	return fmt.Errorf("the connection to %s %s: %s: %w", host, f, remedy, ErrInsecure)
}

// Guard keeps the password from being sent as it is over a connection to another machine
// that may be unencrypted, unless the configuration says which ways to log in it takes:
// a server, or whoever sits before it, could ask for it.
func Guard(cfg *pgconn.Config) {
	if f, _ := Worst(cfg); f == Plaintext {
		cfg.RequireAuth = cmp.Or(cfg.RequireAuth, "!password")
	}
}
