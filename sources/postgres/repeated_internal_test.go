package postgres

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/tailrace/tailrace/internal/pgoutput"
	"github.com/tailrace/tailrace/sources"
)

// What a stream ends with is permanent once three connections have ended so at one place,
// and a connection that was lost never is.
func TestRepeatedFailures(t *testing.T) {
	malformed := fmt.Errorf("postgres: %w", pgoutput.ErrMalformed)
	protocol := fmt.Errorf("postgres: %w", errProtocol)
	room := fmt.Errorf("postgres: %w: %w", ErrTempDir, errors.New("no space"))
	type attempt struct {
		err error
		at  uint64
	}
	for name, c := range map[string]struct {
		attempts []attempt
		ends     error // with the last of them, and with none before
	}{
		"malformed at one place": {[]attempt{{malformed, 8}, {protocol, 8}, {malformed, 8}}, sources.ErrDecode},
		"malformed with progress": {[]attempt{
			{malformed, 8}, {malformed, 9}, {malformed, 9}, {malformed, 10},
		}, nil},
		"malformed now and then": {[]attempt{
			{malformed, 8}, {malformed, 8}, {io.EOF, 8}, {malformed, 8},
		}, nil},
		"no room while others go on":  {[]attempt{{room, 8}, {room, 9}, {room, 10}}, ErrTempDir},
		"lost connections":            {[]attempt{{io.EOF, 8}, {io.EOF, 8}, {io.EOF, 8}, {io.EOF, 8}}, nil},
		"no room, and a decode error": {[]attempt{{room, 8}, {malformed, 8}, {malformed, 8}}, sources.ErrDecode},
	} {
		t.Run(name, func(t *testing.T) {
			var r repeated
			for i, a := range c.attempts {
				err := r.judge(a.err, a.at)
				last := i == len(c.attempts)-1
				if ends := last && c.ends != nil; transient(err) == ends || ends && !errors.Is(err, c.ends) {
					t.Errorf("attempt %d: %v", i+1, err)
				}
				if !errors.Is(err, a.err) {
					t.Errorf("attempt %d: %v does not say %v", i+1, err, a.err)
				}
			}
		})
	}
}
