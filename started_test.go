package tailrace_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/sources"
)

// refusing is a source that says no.
type refusing struct{ snapshotOnly }

func (refusing) Open(context.Context, sources.OpenRequest) (sources.Session, error) {
	return nil, sources.ErrConfig
}

// lockedLog is a log that is read while it is written.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// The log says that views are served once they are, and not of a start that is refused.
func TestServingIsLoggedWhenItIsTrue(t *testing.T) {
	run := func(source sources.Connector) (*tailrace.App, *lockedLog, func() error) {
		log := &lockedLog{}
		topo, _ := counting(source)
		app, err := tailrace.New(tailrace.Config{
			App: "app", StateDir: filepath.Join(t.TempDir(), "state"), Addr: "127.0.0.1:0",
			Logger: slog.New(slog.NewTextHandler(log, nil)),
		}, topo)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- app.Run(ctx) }()
		return app, log, func() error {
			cancel()
			return <-ended
		}
	}
	app, log, stop := run(refusing{})
	if err := app.WaitReady(t.Context()); !errors.Is(err, tailrace.ErrStopped) {
		t.Errorf("WaitReady: %v", err)
	}
	if err := stop(); !errors.Is(err, sources.ErrConfig) {
		t.Errorf("the app ended with %v", err)
	}
	if !log.has("the HTTP server listens") || log.has("serving views") {
		t.Errorf("the log of a start that was refused: %s", log.text.String())
	}
	_, log, stop = run(snapshotOnly{})
	await.That(t, "the log says that views are served", func() bool { return log.has("serving views") })
	if err := stop(); err != nil {
		t.Error(err)
	}
}
