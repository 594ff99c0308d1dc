package postgres_test

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// TestTLS writes over TLS with everything verified, and says what is wrong where the
// server cannot be trusted, with the remedy: a target that cannot be opened stops the app
// at its start instead of being tried for ever.
func TestTLS(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t, pgservertest.Private(nil))
	right, wrong := pgservertest.NewAuthority(t, "right"), pgservertest.NewAuthority(t, "wrong")
	verified := func(ca *pgservertest.Authority) postgres.Config {
		return postgres.Config{CreateTables: true, URL: strings.Replace(db.URL, "sslmode=disable",
			"sslmode=verify-full&sslrootcert="+ca.Path, 1)}
	}
	req := sinks.OpenRequest{App: sinktest.App, Target: sinktest.TargetName, Incarnation: "one",
		Outputs: []sinks.Output{sinktest.Accounts}}
	refused := func(name string, ca *pgservertest.Authority, remedy string) {
		t.Helper()
		_, err := postgres.Target(verified(ca)).Open(t.Context(), req)
		if !errors.Is(err, sinks.ErrConfig) || !strings.Contains(err.Error(), remedy) ||
			strings.Contains(err.Error(), db.Server.Password()) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	hour := time.Now().Add(time.Hour)
	refused("a server without TLS", right, "ssl = on")
	right.Certify(db, net.IPv4(127, 0, 0, 1), hour)
	refused("another authority", wrong, "sslrootcert")
	w := open(t, verified(right), "one", sinktest.Accounts)
	first := sinktest.Whole(sinktest.Epoch(1, sinktest.Put(sinktest.Accounts, 1, "a", 2)))
	if err := w.Apply(t.Context(), []sinks.Epoch{first}); err != nil {
		t.Fatal(err)
	}
	if got := rowsOf(db, sinktest.Accounts); !slices.Equal(got, []string{"1|a|2"}) {
		t.Errorf("the table holds %q", got)
	}
	if n := db.String("SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) " +
		"WHERE s.ssl AND a.datname = current_database()"); n == "0" {
		t.Error("no connection is encrypted")
	}
	// A certificate that has expired meanwhile is met when the connection has to be made
	// again, and a new one mends it.
	right.Certify(db, net.IPv4(127, 0, 0, 1), time.Now().Add(-time.Minute))
	db.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl")
	second := sinktest.Epoch(2, sinktest.Put(sinktest.Accounts, 2, "b", 3))
	err := w.Apply(t.Context(), []sinks.Epoch{second})
	for range 2 { // the first may have met the end of the connection
		if !errors.Is(err, sinks.ErrConfig) {
			_, _, err = w.Progress(t.Context())
		}
	}
	if !errors.Is(err, sinks.ErrConfig) || !strings.Contains(err.Error(), "renew") {
		t.Errorf("a certificate that has expired meanwhile: got %v", err)
	}
	refused("a certificate that has expired", right, "renew")
	right.Certify(db, net.IPv4(127, 0, 0, 1), hour)
	if seq, ok, err := w.Progress(t.Context()); seq != 1 || !ok || err != nil {
		t.Errorf("progress %d %v, %v", seq, ok, err)
	}
	if err := w.Apply(t.Context(), []sinks.Epoch{second}); err != nil {
		t.Fatal(err)
	}
	if got := rowsOf(db, sinktest.Accounts); !slices.Equal(got, []string{"1|a|2", "2|b|3"}) {
		t.Errorf("the table holds %q", got)
	}
	right.Certify(db, net.IPv4(127, 0, 0, 2), hour)
	refused("a certificate of another host", right, "host")
}
