package tailrace_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

// TestProduction refuses every connection that others could read or answer, all at once,
// before anything is contacted; and none without Config.Production.
func TestProduction(t *testing.T) {
	const prefers, anyHost = "postgres://u:canary@db.example/x", "host=db.example password=canary sslmode=verify-ca"
	const verified = prefers + "?sslmode=verify-full"
	const socket = "host=/run/postgresql password=canary"
	const here = "postgres://u:canary@127.0.0.1/x?sslmode=disable"
	for _, c := range []struct {
		name, source, target string
		addr                 string
		tls                  *tls.Config
		want                 []string // of the error; nil for none
	}{
		{"all verified", verified, verified, "", nil, nil},
		{"all on this machine", here, socket, "127.0.0.1:0", nil, nil},
		{"source", prefers, verified, "", nil, []string{`database "shop"`, "db.example", "verify-full"}},
		{"target", verified, prefers, "", nil, []string{`target "warehouse"`, "db.example", "verify-full"}},
		{"no host", verified, anyHost, "", nil, []string{`target "warehouse"`, "any host"}},
		{"all", prefers, prefers, "0.0.0.0:0", nil, []string{`"shop"`, `"warehouse"`, "Config.TLS", "0.0.0.0:0"}},
		{"views over HTTPS", verified, verified, "0.0.0.0:0",
			&tls.Config{Certificates: []tls.Certificate{{}}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := topology.New("counting")
			db := sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: c.source}))
			warehouse := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: c.target}))
			sinks.Table(sources.Table[int64, item](b, db, "public.items"), warehouse, "items")
			cfg := tailrace.Config{App: "app", StateDir: filepath.Join(t.TempDir(), "state"), Token: "canary",
				Addr: c.addr, TLS: c.tls}
			topo := b.MustBuild()
			app, err := tailrace.New(cfg, topo)
			if err != nil {
				t.Errorf("outside of production: %v", err)
			}
			for _, text := range []string{fmt.Sprintf("%v %+v %#v", app, app, app), fmt.Sprintf("%v %+v", cfg, cfg),
				fmt.Sprintf("%#v", cfg)} {
				if strings.Contains(text, "canary") {
					t.Errorf("a secret is printed: %s", text)
				}
			}
			cfg.Production = true
			_, err = tailrace.New(cfg, topo)
			if errors.Is(err, tailrace.ErrConfig) != (c.want != nil) || strings.Contains(fmt.Sprint(err), "canary") {
				t.Fatalf("got %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing in: %v", want, err)
				}
			}
		})
	}
}

// TestConfigTLS serves over HTTPS.
func TestConfigTLS(t *testing.T) {
	certified := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate and who trusts it
	defer certified.Close()
	topo, _ := counting(snapshotOnly{})
	app, err := tailrace.New(tailrace.Config{App: "app", StateDir: filepath.Join(t.TempDir(), "state"),
		Addr: "127.0.0.1:0", Token: "canary", TLS: &tls.Config{Certificates: certified.TLS.Certificates}}, topo)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	if err := app.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"https", "http"} {
		resp, err := certified.Client().Get(scheme + "://" + app.Addr().String() + "/livez")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if scheme == "https" != (resp.StatusCode == http.StatusOK) {
			t.Errorf("%s: status %d", scheme, resp.StatusCode)
		}
	}
	certified.CloseClientConnections()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
