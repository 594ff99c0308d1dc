package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// TestMisconfigured has targets that no amount of trying opens: each says so, with the
// remedy and without the password. One that is only down is another matter.
func TestMisconfigured(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	role := "closed_out_" + db.Name
	db.Exec("CREATE ROLE "+role+" LOGIN PASSWORD 'canary'", "REVOKE CONNECT ON DATABASE "+db.Name+" FROM PUBLIC")
	t.Cleanup(func() { db.Exec("DROP ROLE " + role) })
	broken := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(broken, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(change func(u *url.URL)) string {
		u, err := url.Parse(db.URL)
		if err != nil {
			t.Fatal(err)
		}
		change(u)
		return u.String()
	}
	tls := func(query string) string { return with(func(u *url.URL) { u.RawQuery = query }) }
	for _, c := range []struct {
		name, url, remedy string
		config            bool
	}{
		{"wrong password", with(func(u *url.URL) { u.User = url.UserPassword("postgres", "canary") }),
			"check user, password and pg_hba.conf", true},
		{"no such role", with(func(u *url.URL) { u.User = url.UserPassword("nobody", "canary") }),
			"check user, password and pg_hba.conf", true},
		{"no such database", with(func(u *url.URL) { u.Path = "/nowhere" }), `CREATE DATABASE "nowhere"`, true},
		{"no right to connect", with(func(u *url.URL) { u.User = url.UserPassword(role, "canary") }),
			"GRANT CONNECT ON DATABASE", true},
		{"no TLS", tls("sslmode=require"), "ssl = on", true},
		{"no authority", tls("sslmode=verify-full&sslrootcert=" + broken), "Config.URL", true},
		{"no URL", "postgres://a:canary@[", "Config.URL", true},
		{"down", with(func(u *url.URL) { u.Host = "127.0.0.1:1" }), "127.0.0.1", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := tryOpen(t, postgres.Config{URL: c.url, CreateTables: true}, sinktest.Accounts)
			if err == nil || errors.Is(err, sinks.ErrConfig) != c.config {
				t.Fatalf("got %v", err)
			}
			text := err.Error()
			if !strings.Contains(text, c.remedy) || strings.Contains(text, "canary") ||
				strings.Contains(text, db.Server.Password()) || errors.Is(err, sinks.ErrTargetSchema) {
				t.Errorf("the message is %s", text)
			}
		})
	}
}

// TestDocumentedRights takes each right away that docs/postgres-setup.md grants: without any
// of them the target does not open, and with all of them it does.
func TestDocumentedRights(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	role := db.Writer()
	for _, grant := range role.Grants {
		db.Without(role, grant, func() {
			_, err := tryOpen(t, postgres.Config{URL: role.URL, CreateTables: true}, sinktest.Accounts)
			if err == nil {
				t.Errorf("it opens without %s", grant)
			} else if !errors.Is(err, sinks.ErrConfig) && !errors.Is(err, sinks.ErrTargetSchema) ||
				!strings.Contains(err.Error(), role.Name) {
				t.Errorf("without %s: %v", grant, err)
			}
		})
	}
	if _, err := tryOpen(t, postgres.Config{URL: role.URL, CreateTables: true}, sinktest.Accounts); err != nil {
		t.Fatal(err)
	}
}

// TestInsecure connects to other machines without verifying them: that is warned of once,
// and what an app in production refuses. Nothing is contacted.
func TestInsecure(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for query, secure := range map[string]bool{
		"sslmode=disable": false, "sslmode=require": false, "sslmode=verify-full": true,
	} {
		c := postgres.Target(postgres.Config{URL: "postgres://u:canary@db.example/x?" + query})
		var log bytes.Buffer
		for range 2 {
			if _, err := c.Open(over, sinks.OpenRequest{App: sinktest.App, Target: sinktest.TargetName,
				Incarnation: "one", Logger: slog.New(slog.NewTextHandler(&log, nil))}); err == nil {
				t.Fatal("opened")
			}
		}
		warned := strings.Count(log.String(), "sslmode=verify-full")
		if (warned == 0) != secure || warned > 1 {
			t.Errorf("%s: the log is %s", query, &log)
		}
		err := c.(sinks.Transport).CheckTransport()
		if errors.Is(err, sinks.ErrConfig) == secure || secure != (err == nil) {
			t.Errorf("%s: got %v", query, err)
		}
		for _, text := range []string{log.String(), fmt.Sprint(err), fmt.Sprintf("%v %+v %#v %s", c, c, c, c)} {
			if strings.Contains(text, "canary") {
				t.Errorf("%s: told %s", query, text)
			}
		}
	}
}
