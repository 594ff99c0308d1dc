package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/sources"
)

// monitor looks at slot and publications from time to time, over a connection of its own:
// how much log the server keeps for us, whether that is too much, and whether all that we
// read is still published and still the tables that it was.
func (s *session) monitor() {
	var c *pgx.Conn
	defer func() {
		if c != nil {
			c.Close(context.WithoutCancel(s.ctx))
		}
	}()
	var warned time.Time
	var altered altered
	blind := false
	round := func() (ended bool, pause time.Duration) {
		ctx, cancel := s.patient()
		defer cancel()
		if c == nil {
			var err error
			c, err = connect(ctx, s.conn)
			if err == nil {
				err = refuseStandby(ctx, c.PgConn()) // The catalog of one may be of before.
			}
			if err != nil && c != nil {
				c.Close(ctx)
				c = nil
			}
			blind = s.sees(err, blind)
		}
		if c != nil {
			ended, err := s.inspect(ctx, c, &warned)
			if ended {
				return true, 0
			}
			if err != nil {
				c.Close(ctx)
				c = nil
			}
		}
		pause = s.cfg.MonitorInterval
		if c != nil {
			if s.look(ctx, c, &altered) {
				return true, 0
			}
			if altered.why != nil {
				pause = min(pause, time.Second)
			}
		}
		if s.mark != "" {
			s.markStarted(ctx, c)
			pause = min(pause, time.Second)
		}
		return false, pause
	}
	for {
		ended, pause := round()
		if ended || sleep(s.ctx, pause) != nil {
			return
		}
	}
}

// sees logs that the monitor cannot look, or can again, once for each time, and returns
// whether it can not. The stream may well go on meanwhile.
func (s *session) sees(err error, blind bool) bool {
	switch {
	case s.ctx.Err() != nil:
	case err != nil && !blind:
		s.log.Warn("cannot look at slot and tables, trying again", "slot", s.cfg.Slot, "error", err)
	case err == nil && blind:
		s.log.Info("looking at slot and tables again", "slot", s.cfg.Slot)
	}
	return err != nil
}

// inspect looks once, and ends the session where it cannot go on.
func (s *session) inspect(ctx context.Context, c *pgx.Conn, warned *time.Time) (ended bool, err error) {
	retained, err := s.lag(ctx, c)
	if err != nil {
		return false, err
	}
	if limit := s.cfg.MaxRetainedWAL; limit > 0 && retained > limit {
		if s.cfg.RetainedPolicy != RetainedWarn {
			s.retainedTooMuch(c, retained)
			return true, nil
		}
		if time.Since(*warned) > time.Minute {
			*warned = time.Now()
			s.log.Warn("the server retains more log for us than MaxRetainedWAL", "slot", s.cfg.Slot,
				"bytes", retained, "limit", limit)
		}
	}
	gap, err := s.watch.look(ctx, c, s.acked.Load())
	if gap != nil {
		s.fail(fmt.Errorf("postgres: %w: %w", sources.ErrReopen, gap)) // which finds whom it concerns
	}
	return gap != nil, err
}

// markStarted marks the publication once something has been acknowledged. What is in the way
// may pass; where the rights have been taken away since the publication was made it gives up,
// and an app that loses its state before the next start takes that for a first one.
func (s *session) markStarted(ctx context.Context, c *pgx.Conn) {
	if c == nil || s.acked.Load() == 0 {
		return
	}
	_, err := c.Exec(ctx, s.mark)
	if err != nil && s.ctx.Err() == nil && !s.markWarned {
		s.markWarned = true
		s.log.Warn("cannot mark the publication as started", "publication", s.cfg.Publication, "error", err)
	}
	if err == nil || sqlState(err) == "42501" {
		s.mark = ""
	}
}

// lag reports the slot's lag and returns the bytes of log that are kept for it.
func (s *session) lag(ctx context.Context, c *pgx.Conn) (int64, error) {
	sl, err := readSlot(ctx, c, s.cfg.Slot)
	if err != nil || sl == nil || sl.restart == 0 {
		return 0, err
	}
	retained := int64(sl.head - min(sl.restart, sl.head))
	s.observer.Lag(sl.head, retained)
	return retained, nil
}

// retainedTooMuch ends the session, and with it the slot where that is the policy.
func (s *session) retainedTooMuch(c *pgx.Conn, retained int64) {
	err := fmt.Errorf(
		"postgres: slot %q makes the server retain %d bytes of log, MaxRetainedWAL is %d",
		s.cfg.Slot,
		retained,
		s.cfg.MaxRetainedWAL,
	)
	if s.cfg.RetainedPolicy == RetainedStop {
		s.fail(
			fmt.Errorf("%w: make the app faster or the limit higher and start again; until then the server goes on"+
				" retaining: %w", err, ErrRetainedWAL),
		)
		return
	}
	// The stream has to be gone before its slot can be.
	background := context.WithoutCancel(s.ctx)
	s.fail(
		fmt.Errorf("%w: the slot is dropped; %s: %w: %w", err, again(s.cfg.Slot), ErrRetainedWAL, ErrSlotMissing),
	)
	ctx, cancel := context.WithTimeout(background, s.cfg.SlotWait)
	defer cancel()
	if _, err := waitInactive(ctx, c, s.cfg.Slot, s.cfg.SlotWait, s.log); err != nil {
		s.log.Error("cannot drop the replication slot", "slot", s.cfg.Slot, "error", err)
		return
	}
	if err := dropSlot(ctx, c, s.cfg.Slot); err != nil {
		s.log.Error("cannot drop the replication slot", "slot", s.cfg.Slot, "error", err)
	}
}

// heartbeats write a mark into the log when no transaction has come for a while, so
// that time goes on where a topology depends on it. The mark is a transaction as any
// other: reading the log again gives the same times.
func (s *session) heartbeats() {
	var c *pgx.Conn
	defer func() {
		if c != nil {
			c.Close(context.WithoutCancel(s.ctx))
		}
	}()
	for sleep(s.ctx, s.cfg.HeartbeatInterval) == nil {
		if time.Since(time.Unix(0, s.busy.Load())) < s.cfg.HeartbeatInterval {
			continue
		}
		c = s.heartbeat(c)
	}
}

// heartbeat writes one mark, over the connection there is or a new one, and returns it, nil
// where that failed.
func (s *session) heartbeat(c *pgx.Conn) *pgx.Conn {
	ctx, cancel := s.patient()
	defer cancel()
	if c == nil {
		var err error
		if c, err = connect(ctx, s.conn); err != nil {
			return nil
		}
	}
	_, err := c.Exec(ctx, "SELECT pg_logical_emit_message(true, $1, $2)", sources.HeartbeatPrefix, s.cfg.Slot)
	if err != nil {
		c.Close(ctx)
		return nil
	}
	return c
}
