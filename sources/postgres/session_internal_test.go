package postgres

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestReleaseWhileDescribing gives a batch back while the receiver holds the session's lock,
// as it does while it asks the catalog.
func TestReleaseWhileDescribing(t *testing.T) {
	s := &session{}
	s.mu.Lock()
	defer s.mu.Unlock()
	given := make(chan struct{})
	go func() {
		s.recycle(&batch{})
		close(given)
	}()
	select {
	case <-given:
	case <-time.After(10 * time.Second):
		t.Fatal("the batch was not taken back")
	}
}

// TestMonitorSaysOnce counts what is said of a monitor that cannot connect three times, can
// twice, and cannot once more.
func TestMonitorSaysOnce(t *testing.T) {
	var log bytes.Buffer
	s := &session{ctx: context.Background(), log: slog.New(slog.NewTextHandler(&log, nil))}
	bad, blind := errors.New("too many connections"), false
	for _, err := range []error{nil, bad, bad, bad, nil, nil, bad} {
		blind = s.sees(err, blind)
	}
	if got := log.String(); strings.Count(got, "too many connections") != 2 || strings.Count(got, "\n") != 3 {
		t.Errorf("the log has\n%s", got)
	}
}
