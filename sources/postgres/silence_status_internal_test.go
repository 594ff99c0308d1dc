package postgres

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// TestStatusToSilentServer sends a status to a server that takes nothing.
func TestStatusToSilentServer(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	defer there.Close()
	defer here.Close()
	s := &session{ctx: t.Context(), cfg: Config{StatusInterval: time.Hour, silence: 50 * time.Millisecond}}
	done := make(chan error, 1)
	go func() { done <- newStatusSender(s).send(&wire{conn: here}) }()
	select {
	case err := <-done:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for ever")
	}
}
