package postgres_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sources"
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
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	right.Certify(f.db, net.IPv4(127, 0, 0, 2), hour)
	refused("a certificate of another host", right, "host")
	right.Certify(f.db, net.IPv4(127, 0, 0, 1), time.Now().Add(-time.Minute))
	refused("a certificate that has expired", right, "renew")
}
