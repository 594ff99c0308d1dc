package postgres

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// The server's own decoding that fails again and again at one place is tried again for ever,
// but without streaming from the third time on, and with a word of what may help.
func TestServerCannotDecode(t *testing.T) {
	t.Parallel()
	var lines strings.Builder
	s := &session{cfg: Config{Slot: "s", Streaming: true}, log: slog.New(slog.NewTextHandler(&lines, nil))}
	broken := &pgconn.PgError{Code: "XX000", Message: `could not map filenumber "base/1/2" to relation OID`}
	var d decoding
	step := func(at uint64, cause error, streams bool, says string) {
		t.Helper()
		s.received.Store(at)
		err := s.judgeDecoding(&d, s.explain(cause))
		if !transient(err) || !errors.Is(err, cause) {
			t.Errorf("it is not tried again: %v", err)
		}
		if s.streams() != streams || strings.Contains(s.startCommand(1), "streaming 'on'") != streams {
			t.Errorf("it begins with %s", s.startCommand(1))
		}
		if !strings.Contains(err.Error(), says) || says == "" && strings.Contains(err.Error(), "in a row") {
			t.Errorf("error is %v", err)
		}
	}
	step(8, broken, true, "own decoding")
	step(8, broken, true, "")
	step(9, broken, true, "") // There was progress.
	step(9, broken, true, "")
	step(9, io.EOF, true, "") // And a connection that was lost otherwise.
	step(9, broken, true, "")
	step(9, broken, true, "")
	if lines.Len() > 0 {
		t.Errorf("it warned of %s", &lines)
	}
	step(9, broken, false, "without Config.Streaming, protocol 1")
	if !strings.Contains(lines.String(), "whole transactions are read") {
		t.Errorf("it warned of %q", &lines)
	}
	step(9, broken, false, "")
	step(9, broken, false, "")
	step(9, broken, false, "look for it in the server's log")
	step(9, broken, false, "4 connections in a row")
	step(10, broken, false, "")
}
