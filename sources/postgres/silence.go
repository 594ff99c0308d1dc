package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// maxSilence is how long a server may say nothing, as its own wal_receiver_timeout: where the
// network or the machine is gone nobody ends a connection, and TCP takes a quarter of an hour
// to give up what was sent. After a part of it each status asks for a reply, which also tells
// that the server is busy with what is of no use to us.
const maxSilence = time.Minute

// askAfter is the part of the silence after which the server is asked.
func (c Config) askAfter() time.Duration { return c.silence / 6 }

// patient returns a context for what is asked of the server beside the stream.
func (s *session) patient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, s.cfg.silence)
}

// patience bounds the next read. A deadline holds for many reads: it is set anew only when
// a part of it is over, and never lies before that of a session that has ended.
func (r *receiver) patience() error {
	now, silence := time.Now(), r.s.cfg.silence
	if r.until.Sub(now) >= silence*3/4 {
		return nil
	}
	r.until = now.Add(silence)
	if err := r.w.conn.SetReadDeadline(r.until); err != nil {
		return fmt.Errorf("postgres: receive: %w", err)
	}
	return context.Cause(r.s.ctx)
}

// silent says what a read that came to its deadline means.
func (s *session) silent(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("postgres: the server has said nothing for %s, though it was asked to: %w",
			s.cfg.silence, err)
	}
	return err
}
