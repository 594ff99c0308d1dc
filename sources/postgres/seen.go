package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// seen are the transactions that a snapshot of the server's shows. The log is ahead of it: it
// has a transaction as soon as its commit is flushed, and others see it when its backend has
// said so, which may be after a synchronous standby has confirmed it. So a position in the
// log does not tell what was read beside it.
type seen struct {
	// before is the id of the oldest transaction that is not over, end the first one that
	// had not begun, running those between that are not over.
	before, end uint32
	running     []uint32
}

// seenSQL is evaluated in a snapshot, or before what it is about is read.
const seenSQL = "pg_current_snapshot()::text"

// parseSeen reads a pg_snapshot, "xmin:xmax:xid,xid", whose ids count the rounds of those in
// the log.
func parseSeen(text string) (s seen, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, fmt.Errorf("postgres: unreadable snapshot %q", text)
	}
	ids := parts[:2]
	if parts[2] != "" {
		ids = append(ids, strings.Split(parts[2], ",")...)
	}
	for i, id := range ids {
		n, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			return s, fmt.Errorf("postgres: unreadable snapshot %q: %w", text, err)
		}
		switch i {
		case 0:
			s.before = uint32(n)
		case 1:
			s.end = uint32(n)
		default:
			s.running = append(s.running, uint32(n))
		}
	}
	return s, nil
}

func (s seen) shows(xid uint32) bool {
	return older(xid, s.before) || older(xid, s.end) && !slices.Contains(s.running, xid)
}

// How long to wait between two looks for a commit.
const (
	firstUnseen = time.Millisecond
	lastUnseen  = 100 * time.Millisecond
)

// beginSeeing begins a read-only transaction over a snapshot that shows a transaction which
// is in the log, once there is one.
func beginSeeing(ctx context.Context, c *pgx.Conn, xid uint32) (s seen, err error) {
	for pause := firstUnseen; ; pause = min(2*pause, lastUnseen) {
		if _, err := c.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
			return s, err
		}
		var text string
		if err := c.QueryRow(ctx, "SELECT "+seenSQL).Scan(&text); err != nil {
			return s, err
		}
		if s, err = parseSeen(text); err != nil || s.shows(xid) {
			return s, err
		}
		if _, err := c.Exec(ctx, "ROLLBACK"); err != nil {
			return s, err
		}
		if err := sleep(ctx, pause); err != nil {
			return s, fmt.Errorf("the commit of transaction %d is in the log and cannot be seen yet; does it wait "+
				"for a standby of synchronous_standby_names that does not answer? %w", xid, err)
		}
	}
}
