package tailrace_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/file"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// counting has a view of the number of items under each name.
func counting(connector sources.Connector) (*topology.Topology, *view.View[string, int64]) {
	b := topology.New("counting")
	in := sources.Table[int64, item](b, sources.NewDatabase("shop", connector), "public.items")
	counts := operators.Aggregate("count", operators.GroupBy(in, func(_ int64, i item) string { return i.Name }),
		aggregate.Count[item]())
	v := sinks.View(counts, "counts")
	return b.MustBuild(), v
}

// unasked is a target that knows nothing of error policies.
type unasked struct{ sinks.Connector }

// secondView is another topology with the view of counting.
func secondView() *topology.Topology {
	b := topology.New("again")
	in := sources.Table[int64, item](b, sources.NewDatabase("shop", snapshotOnly{}), "public.items")
	sinks.View(in, "counts")
	return b.MustBuild()
}

// refusingSink is a topology with an error policy on its sink.
func refusingSink(c sinks.Connector) *topology.Topology {
	b := topology.New("refusing")
	in := sources.Stream[int64, item](b, sources.NewDatabase("shop", snapshotOnly{}), "public.items")
	sinks.Stream(in, sinks.NewTarget("warehouse", c), "rows", sinks.OnError(
		func(record.Context, *topology.Failure) topology.Verdict { return topology.Skip }))
	return b.MustBuild()
}

// All that is wrong with a configuration is said at once, with the fields' names.
func TestConfigMistakes(t *testing.T) {
	topo, _ := counting(snapshotOnly{})
	tests := []struct {
		name string
		cfg  tailrace.Config
		bind func(*tailrace.Config)
		add  *topology.Topology // beside the topology that fits
		want []string
	}{
		{
			name: "negative",
			cfg:  tailrace.Config{EpochRows: -1, Memory: -1, QueueBytes: -1, IdleCommit: -1, Partitions: -1},
			want: []string{
				"Config.EpochRows",
				"Config.Memory",
				"Config.QueueBytes",
				"Config.IdleCommit",
				"Config.Partitions",
			},
		},
		{name: "kafka", cfg: tailrace.Config{
			OneTransaction:  true,
			Partitions:      2,
			StopOnLostState: true,
			QueueBytes:      1,
			IdleCommit:      time.Second,
			MaxIdle:         time.Second,
			VerifySQL:       true,
			Production:      true,
			Kafka:           &tailrace.Kafka{Brokers: []string{"127.0.0.1:1"}, MaxIdle: -time.Second},
		}, want: []string{"Config.OneTransaction", "Config.Partitions", "Config.StopOnLostState",
			"Config.QueueBytes",
			"Config.IdleCommit", "Config.MaxIdle", "Config.VerifySQL", "Config.Production",
			"Config.Kafka.MaxIdle"}},
		{
			name: "bound",
			bind: func(c *tailrace.Config) { c.Bind("shpo", snapshotOnly{}); c.BindTarget("warehouse", nil) },
			want: []string{`Config.Bind("shpo")`, `but "shop"`, `Config.BindTarget("warehouse")`, "none at all"},
		},
		{name: "views of one name", add: secondView(), cfg: tailrace.Config{EpochRows: -1},
			want: []string{`"counting" and "again"`, `a view "counts"`, "Config.EpochRows"}},
		{name: "error policy of a target that takes none", add: refusingSink(unasked{}),
			want: []string{`sink "warehouse/rows"`, `target "warehouse"`, "takes no error policy"}},
		{name: "error policy of a sink in Kafka mode", add: refusingSink(file.Stdout()),
			cfg:  tailrace.Config{Kafka: &tailrace.Kafka{Brokers: []string{"127.0.0.1:1"}}},
			want: []string{`sink "warehouse/rows"`, "in Kafka mode", "takes no error policy"}},
		{
			name: "open to the network",
			cfg:  tailrace.Config{Addr: "0.0.0.0:0"},
			want: []string{"Config.Addr", "Config.Token"},
		},
		{name: "no address", cfg: tailrace.Config{Addr: "8080"}, want: []string{"Config.Addr", "host:port"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := test.cfg
			cfg.App, cfg.StateDir = "app", filepath.Join(t.TempDir(), "state")
			if test.bind != nil {
				test.bind(&cfg)
			}
			topologies := []*topology.Topology{topo}
			if test.add != nil {
				topologies = append(topologies, test.add)
			}
			_, err := tailrace.New(cfg, topologies...)
			if !errors.Is(err, tailrace.ErrConfig) {
				t.Fatalf("got %v, want ErrConfig", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing in: %v", want, err)
				}
			}
		})
	}
}

// An app that could not start is stopped, and says so.
func TestFailedStart(t *testing.T) {
	for name, connector := range map[string]sources.Connector{"directory": snapshotOnly{}, "engine": nil} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			if name == "directory" {
				if err := os.WriteFile(dir, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			topo, _ := counting(connector)
			app, err := tailrace.New(tailrace.Config{App: "app", StateDir: dir}, topo)
			if err != nil {
				t.Fatal(err)
			}
			if s := app.Status(); s.Stopped {
				t.Error("it is stopped before it ran")
			}
			failed := app.Run(t.Context())
			if failed == nil {
				t.Fatal("it runs")
			}
			if s := app.Status(); !s.Stopped || !errors.Is(s.Err, failed) {
				t.Errorf("status %+v after %v", s, failed)
			}
			for _, path := range []string{"/livez", "/readyz"} {
				rec := httptest.NewRecorder()
				app.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
				if rec.Code != http.StatusServiceUnavailable {
					t.Errorf("%s answers %d", path, rec.Code)
				}
			}
			if err := app.WaitReady(t.Context()); !errors.Is(err, tailrace.ErrStopped) {
				t.Errorf("WaitReady: %v", err)
			}
			if err := app.WaitFor(t.Context(), nil); !errors.Is(err, tailrace.ErrStopped) {
				t.Errorf("WaitFor: %v", err)
			}
		})
	}
}

// A reader that does not let go of its view when the app ends keeps the state directory.
func TestReaderOutlastsTheApp(t *testing.T) {
	t.Parallel() // it waits for the reader as long as an app does
	topo, v := counting(snapshotOnly{})
	dir := filepath.Join(t.TempDir(), "state")
	app, err := tailrace.New(tailrace.Config{App: "app", StateDir: dir}, topo)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	if err := app.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := app.WaitFor(t.Context(), record.Positions{"nowhere": 1}); !errors.Is(err, view.ErrUnknownSource) {
		t.Errorf("waiting for a database that is not there: %v", err)
	}
	m, err := view.At(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	err = <-ended
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
	if row, ok, err := v.At(m).Get("item"); err != nil || !ok || row != 10 {
		t.Errorf("the reader sees %d, %v, %v", row, ok, err)
	}
	m.Close()
	if _, err := state.LockDir(dir, state.Options{}); !errors.Is(err, state.ErrLocked) {
		t.Errorf("the directory is free: %v", err)
	}
}

// down is a connector of a server that nobody reaches.
type down struct{ snapshotOnly }

func (down) Drop(context.Context, sources.DropRequest) error { return errDown }

var errDown = errors.New("connect to db:5432: connection refused")

// TestDestroySaysOnce destroys an app whose databases are names of one server.
func TestDestroySaysOnce(t *testing.T) {
	b := topology.New("both")
	for _, name := range []string{"orders", "shop"} {
		sinks.View(sources.Table[int64, item](b, sources.NewDatabase(name, down{}), "public.items"), name)
	}
	app, err := tailrace.New(tailrace.Config{App: "app", StateDir: t.TempDir() + "/state"}, b.MustBuild())
	if err != nil {
		t.Fatal(err)
	}
	err = app.Destroy(t.Context())
	want := `tailrace: database "orders", database "shop": ` + errDown.Error()
	if !errors.Is(err, errDown) || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
}

// TestDestroyNamesTheUnbound does not say that all is gone where it could not look.
func TestDestroyNamesTheUnbound(t *testing.T) {
	b := topology.New("both")
	items := sources.Table[int64, item](b, sources.NewDatabase("shop", nil), "public.items")
	sinks.Table(items, sinks.NewTarget("out", nil), "items")
	app, err := tailrace.New(tailrace.Config{App: "app", StateDir: t.TempDir() + "/state"}, b.MustBuild())
	if err != nil {
		t.Fatal(err)
	}
	err = app.Destroy(t.Context())
	for _, name := range []string{`database "shop"`, `target "out"`} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not in: %v", name, err)
		}
	}
}

// TestServerFailsTheRun has an HTTP server that cannot serve, which only shows when it begins:
// nobody could ask the app anything, or whether it is well.
func TestServerFailsTheRun(t *testing.T) {
	b := topology.New("one")
	in := sources.Table[int64, item](b, sources.NewDatabase("shop", hangs{}), "public.items")
	sinks.View(in, "items")
	app, err := tailrace.New(tailrace.Config{
		App: "app", StateDir: t.TempDir() + "/state", Addr: "127.0.0.1:0",
		TLS: &tls.Config{
			Certificates: []tls.Certificate{{}},
			CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}, // without what HTTP/2 demands
		},
	}, b.MustBuild())
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "HTTP server") {
		t.Errorf("the run ends with %v", err)
	}
}

// hangs is a connector of a server that does not answer.
type hangs struct{ snapshotOnly }

func (hangs) Open(ctx context.Context, _ sources.OpenRequest) (sources.Session, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestManyDeadLettersAtOnce asks for more dead letters in one request than other requests may
// have bytes.
func TestManyDeadLettersAtOnce(t *testing.T) {
	topo, _ := counting(snapshotOnly{})
	app, err := tailrace.New(tailrace.Config{
		App: "app", StateDir: t.TempDir() + "/state", Addr: "127.0.0.1:0",
	}, topo)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	await.That(t, "the address", func() bool { return app.Addr() != nil })
	ids := strings.Repeat(`"an id that names nothing",`, 1<<20/27)
	for _, action := range []string{"replay", "drop"} {
		res, err := http.Post("http://"+app.Addr().String()+"/deadletters/"+action, "application/json",
			strings.NewReader(`{"ids":[`+strings.TrimSuffix(ids, ",")+`]}`))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK || !json.Valid(body) {
			t.Errorf("%s: %s: %s, %v", action, res.Status, body, err)
		}
		res.Body.Close()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
