package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// Timeline implements sources.Branching: a standby that is promoted begins a new one.
func (s *session) Timeline() uint32 { return s.timeline.Load() }

// errStandby: an address leads to the standby ahead of its promotion. It passes.
var errStandby = errors.New("postgres: it is a standby: waiting until it is promoted," +
	" or the address leads to the primary")

// refuseStandby returns errStandby on one.
func refuseStandby(ctx context.Context, c *pgconn.PgConn) error {
	results, err := c.Exec(ctx, "SELECT pg_catalog.pg_is_in_recovery()").ReadAll()
	if err != nil {
		return fmt.Errorf("postgres: pg_is_in_recovery: %w", err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return fmt.Errorf("postgres: pg_is_in_recovery: %w", errProtocol)
	}
	if string(results[0].Rows[0][0]) != "f" {
		return errStandby
	}
	return nil
}

// checkTimeline returns an error unless a position that was reached on a known timeline
// lies on the history of the server's: a promoted standby may have left it before. 0 is
// a timeline that nobody knows.
func checkTimeline(ctx context.Context, c *pgconn.PgConn, now, known uint32, position uint64) error {
	if known == 0 || now == known || position == 0 {
		return nil
	}
	why := "which is older: it is a primary that was replaced, or a backup"
	if now > known {
		h, err := pglogrepl.TimelineHistory(ctx, c, int32(now))
		if err != nil {
			return fmt.Errorf("postgres: TIMELINE_HISTORY %d: %w", now, err)
		}
		left, ok, err := leftAt(string(h.Content), known)
		switch {
		case err != nil:
			return err
		case ok && position <= left:
			return nil
		case ok:
			why = fmt.Sprintf("which left the former at %s: this server was promoted without having received "+
				"everything that we had", record.LSN(left))
		default:
			why = "which does not descend from the former: this server followed another primary"
		}
	}
	return fmt.Errorf("postgres: the state is at %s of timeline %d and the server is on timeline %d, %s; "+
		"connect to the server that has it, or %s: %w",
		record.LSN(position), known, now, why, beginAnew, sources.ErrWrongSystem)
}

// leftAt reads a timeline's history: where it, or one before it, left another timeline.
func leftAt(history string, timeline uint32) (at uint64, ok bool, err error) {
	for line := range strings.Lines(history) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if n, err := strconv.ParseUint(fields[0], 10, 32); err != nil || uint32(n) != timeline {
			continue
		}
		lsn, err := record.ParseLSN(fields[1])
		return uint64(lsn), err == nil, err
	}
	return 0, false, nil
}
