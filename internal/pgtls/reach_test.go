package pgtls_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/internal/pgtls"
)

func parse(t *testing.T, url string) *pgconn.Config {
	t.Helper()
	for _, name := range []string{"PGSSLMODE", "PGSSLROOTCERT", "PGREQUIREAUTH"} {
		if _, ok := os.LookupEnv(name); ok {
			t.Setenv(name, "") // restored at the end
			os.Unsetenv(name)
		}
	}
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestWorst goes through the modes of libpq with hosts of this machine and others.
func TestWorst(t *testing.T) {
	root := "sslrootcert=" + pgservertest.NewAuthority(t, "any").Path
	modes := []struct {
		query string
		want  pgtls.Flaw
	}{
		{"", pgtls.Plaintext}, // prefer
		{"sslmode=disable", pgtls.Plaintext},
		{"sslmode=allow", pgtls.Plaintext},
		{"sslmode=prefer", pgtls.Plaintext},
		{"sslmode=prefer&" + root, pgtls.Plaintext},
		{"sslmode=require", pgtls.Unverified},
		{"sslnegotiation=direct", pgtls.Unverified},
		{"sslmode=require&" + root, pgtls.AnyHost}, // as libpq does
		{"sslmode=verify-ca&" + root, pgtls.AnyHost},
		{"sslmode=verify-ca", pgtls.AnyHost},
		{"sslmode=verify-full", pgtls.None},
		{"sslmode=verify-full&" + root, pgtls.None},
	}
	hosts := []struct {
		host  string
		other string // the host that is not this machine, "" where all are
	}{
		{"db.example", "db.example"},
		{"db.example:5433", "db.example"},
		{"192.0.2.7", "192.0.2.7"},
		{"[2001:db8::1]:5432", "2001:db8::1"},
		{"localhost.example", "localhost.example"},
		{"127.0.0.1.example", "127.0.0.1.example"},
		{"localhost,db.example", "db.example"}, // tried one after another
		{"db.example,127.0.0.1", "db.example"},
		{"localhost", ""},
		{"localhost:5433,127.0.0.1", ""},
		{"127.0.0.1", ""},
		{"127.8.9.1:5432", ""},
		{"[::1]:5432", ""},
		{"%2Fvar%2Frun%2Fpostgresql", ""},
	}
	for _, mode := range modes {
		for _, h := range hosts {
			url := "postgres://canary-user:canary-word@" + h.host + "/canary_db?" + mode.query
			cfg := parse(t, url)
			want, wantHost := mode.want, h.other
			if h.other == "" {
				want = pgtls.None
			}
			if want == pgtls.None {
				wantHost = ""
			}
			if got, host := pgtls.Worst(cfg); got != want || host != wantHost {
				t.Errorf("%s with %q: got %v of %q, want %v of %q", h.host, mode.query, got, host, want, wantHost)
			}
			var log bytes.Buffer
			pgtls.Warn(cfg, slog.New(slog.NewTextHandler(&log, nil)))
			err := pgtls.Check(cfg)
			if errors.Is(err, pgtls.ErrInsecure) != (want != pgtls.None) {
				t.Errorf("%s with %q: got %v", h.host, mode.query, err)
			}
			if (log.Len() > 0) != (err != nil) {
				t.Errorf("%s with %q: refused with %v, and the log has %q", h.host, mode.query, err, &log)
			}
			for _, text := range []string{log.String(), errorText(err)} {
				told := strings.Contains(text, "sslmode=verify-full") && strings.Contains(text, wantHost) &&
					strings.Contains(text, want.String())
				if text != "" && (!told || strings.Contains(text, "canary")) {
					t.Errorf("%s with %q: says %q", h.host, mode.query, text)
				}
			}
		}
	}
	// Without sslrootcert the authorities are those of the system, and libpq says so too.
	if got, _ := pgtls.Worst(parse(t, "postgres://db.example/x?sslmode=require&sslrootcert=system")); got != pgtls.None {
		t.Errorf("sslrootcert=system: %v", got)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestGuard logs in at a server that asks for the password as it is. It gets it on this
// machine, or where the configuration says so, and nowhere else.
func TestGuard(t *testing.T) {
	const password = "canary-word"
	for _, c := range []struct {
		host, query string
		sent        bool
	}{
		{"db.example", "sslmode=disable", false},
		{"db.example", "sslmode=prefer", false},
		{"db.example", "sslmode=disable&require_auth=password", true}, // it was asked for
		{"127.0.0.1", "sslmode=disable", true},
	} {
		t.Run(c.host+" "+c.query, func(t *testing.T) {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			received := make(chan string, 1)
			go func() { received <- asksForPassword(l) }()
			cfg := parse(t, "postgres://u:"+password+"@"+c.host+"/x?"+c.query)
			cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
			cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp4", l.Addr().String())
			}
			pgtls.Guard(cfg)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			conn, err := pgconn.ConnectConfig(ctx, cfg)
			if err == nil {
				conn.Close(ctx)
			}
			l.Close()
			if sent := strings.Contains(<-received, password); sent != c.sent || (err == nil) != c.sent {
				t.Errorf("the password was sent: %v, %v", sent, err)
			}
			if !c.sent && !strings.Contains(pgtls.Remedy(err), "sslmode=verify-full") {
				t.Errorf("remedy %q for %v", pgtls.Remedy(err), err)
			}
		})
	}
}

// asksForPassword is a server without TLS that lets everybody in who says a password, on
// as many connections as come, and returns all passwords.
func asksForPassword(l net.Listener) (all string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return all
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		b := pgproto3.NewBackend(c, c)
		for {
			m, err := b.ReceiveStartupMessage()
			if _, tls := m.(*pgproto3.SSLRequest); err != nil || !tls {
				break
			}
			c.Write([]byte("N"))
		}
		b.Send(&pgproto3.AuthenticationCleartextPassword{})
		b.Flush()
		b.SetAuthType(pgproto3.AuthTypeCleartextPassword)
		if m, err := b.Receive(); err == nil {
			if p, ok := m.(*pgproto3.PasswordMessage); ok {
				all += p.Password
			}
			b.Send(&pgproto3.AuthenticationOk{})
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			b.Flush()
		}
		c.Close()
	}
}
