package postgres_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// TestTLS reads over TLS with everything verified, and says what is wrong where the
// server cannot be trusted, instead of going on or trying for ever.
func TestTLS(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgservertest.Private(nil))
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.want("public.t", "id;x")
	right, wrong := pgservertest.NewAuthority(t, "right"), pgservertest.NewAuthority(t, "wrong")
	plain := f.db.URL
	verified := func(ca *pgservertest.Authority) string {
		return strings.Replace(plain, "sslmode=disable", "sslmode=verify-full&sslrootcert="+ca.Path, 1)
	}
	hour := time.Now().Add(time.Hour)
	refused := func(name string, ca *pgservertest.Authority, remedy string) {
		t.Helper()
		f.cfg.URL = verified(ca)
		_, err := f.tryOpen()
		if !errors.Is(err, sources.ErrConfig) || !strings.Contains(err.Error(), remedy) ||
			strings.Contains(err.Error(), f.db.Server.Password()) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	refused("a server without TLS", right, "ssl = on")
	right.Certify(f.db, net.IPv4(127, 0, 0, 1), hour)
	refused("another authority", wrong, "sslrootcert")
	f.cfg.URL = verified(right)
	s := f.open()
	m := sourcetest.NewModel(t)
	f.exec("INSERT INTO t VALUES (1, 1)")
	f.readTo(s, m, f.head())
	f.same(m, "public.t", "id", "x")
	if n := f.db.String("SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_replication r USING (pid) " +
		"WHERE s.ssl"); n != "1" {
		t.Errorf("%s replication connections are encrypted", n)
	}
	// It ends with the certificate at the latest when it has to connect again, and goes on
	// where it was once there is a new one.
	f.resume(s, m.Position)
	right.Certify(f.db, net.IPv4(127, 0, 0, 1), time.Now().Add(-time.Minute))
	f.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL")
	f.exec("INSERT INTO t VALUES (2, 2)")
	if err := f.readError(s); !errors.Is(err, sources.ErrConfig) || !strings.Contains(err.Error(), "renew") {
		t.Errorf("a certificate that has expired meanwhile: got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	refused("a certificate that has expired", right, "renew")
	right.Certify(f.db, net.IPv4(127, 0, 0, 1), hour)
	s = f.open()
	f.readTo(s, m, f.head())
	f.same(m, "public.t", "id", "x")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	right.Certify(f.db, net.IPv4(127, 0, 0, 2), hour)
	refused("a certificate of another host", right, "host")
}

// TestTransport says what an app in production refuses.
func TestTransport(t *testing.T) {
	t.Parallel()
	for url, secure := range map[string]bool{
		"postgres://u:canary@db.example/x?sslmode=require":     false,
		"postgres://u:canary@db.example/x":                     false,
		"host=db.example password=canary sslmode=verify-full":  true,
		"postgres://u:canary@127.0.0.1/x?sslmode=disable":      true,
		"postgres://u:canary@[2001:db8::1/x?sslmode=verify-ca": false, // no URL at all
	} {
		err := postgres.Source(postgres.Config{URL: url}).(sources.Transport).CheckTransport()
		if (err == nil) != secure || !secure && !errors.Is(err, sources.ErrConfig) ||
			strings.Contains(fmt.Sprint(err), "canary") {
			t.Errorf("%s: got %v", url, err)
		}
	}
}
