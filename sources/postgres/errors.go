package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/internal/pgoutput"
	"github.com/tailrace/tailrace/sources"
)

// Errors of this connector beside those of package sources, which they wrap.
var (
	// ErrSlotMissing: the replication slot our state continues from is gone.
	ErrSlotMissing = fmt.Errorf("replication slot is missing: %w", sources.ErrDataGap)
	// ErrSlotLost: the server has invalidated the slot and removed its log.
	ErrSlotLost = fmt.Errorf("replication slot is lost: %w", sources.ErrDataGap)
	// ErrSlotAhead: somebody has moved the slot beyond our state.
	ErrSlotAhead = fmt.Errorf("replication slot is ahead of the state: %w", sources.ErrDataGap)
	// ErrSlotForeign: a slot of our name belongs to another plugin or database.
	ErrSlotForeign = fmt.Errorf("replication slot is not ours: %w", sources.ErrConfig)
	// ErrPublicationMissing: the publication our state continues from is gone.
	ErrPublicationMissing = fmt.Errorf("publication is missing: %w", sources.ErrDataGap)
	// ErrPublicationChanged: a table that our state continues was not published as a whole.
	ErrPublicationChanged = fmt.Errorf("publication was changed: %w", sources.ErrDataGap)
	// ErrRetainedWAL: the server retains more log for us than MaxRetainedWAL.
	ErrRetainedWAL = sources.Permanent("server retains too much log")
	// ErrTempDir: a transaction that is open at the server could not be kept aside.
	ErrTempDir = errors.New("an open transaction cannot be kept aside (Config.TempDir)")
	// ErrTooManyRows: a transaction, or the snapshot, has more rows of the tables that are
	// read than a transaction may have, 4,294,967,295. Nothing of it is in any state.
	ErrTooManyRows = sources.Permanent("a transaction has more rows than can be counted (4,294,967,295)")
	// ErrClosed: the session was closed.
	ErrClosed = errors.New("postgres: session is closed")
)

// errForked: after a reconnect the log goes on differently.
var errForked = fmt.Errorf(
	"postgres: after a reconnect the server continued with another transaction than the one"+
		" that was cut off: the database was restored or failed over to a server that had not received it."+
		" The remedy: %s: %w",
	beginAnew,
	sources.ErrWrongSystem,
)

// Problem is one thing that has to be mended before a session can open.
type Problem struct {
	// Subject is what is wrong: a setting, a table, a publication.
	Subject string
	// Text says what is wrong with it.
	Text string
	// Table is the table that it is about, as it was asked for; "" where it is about more
	// than one table.
	Table string
	// Fix is the SQL or setting that mends it.
	Fix string
	// Kind is sources.ErrConfig, sources.ErrSchema or an error that wraps one.
	Kind error
}

// Error returns the problem as one line, with its remedy.
func (p Problem) Error() string {
	s := p.Subject + ": " + p.Text
	if p.Fix != "" {
		s += "; to mend it: " + p.Fix
	}
	return s
}

// Unwrap returns the problem's kind.
func (p Problem) Unwrap() error { return p.Kind }

// tablesError is a SetupError that is about certain tables only.
type tablesError struct{ *SetupError }

// Unwrap makes it a SetupError for errors.As.
func (e tablesError) Unwrap() error { return e.SetupError }

// Of implements sources.TableError.
func (e tablesError) Of(tables []string) error {
	out := &SetupError{Database: e.Database}
	for _, p := range e.Problems {
		if slices.Contains(tables, p.Table) {
			out.Problems = append(out.Problems, p)
		}
	}
	if len(out.Problems) == 0 {
		return nil
	}
	return out
}

// setupError makes an error of problems.
func setupError(database string, problems []Problem) error {
	err := &SetupError{Database: database, Problems: problems}
	if slices.ContainsFunc(problems, func(p Problem) bool { return p.Table == "" }) {
		return err
	}
	return tablesError{err}
}

// SetupError is everything that has to be mended before a session can open. It wraps
// its problems, so errors.Is finds sources.ErrConfig and sources.ErrSchema.
type SetupError struct {
	Database string
	Problems []Problem
}

// Error lists all problems, one a line.
func (e *SetupError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "postgres: database %q cannot be read as it is:", e.Database)
	for _, p := range e.Problems {
		b.WriteString("\n  - ")
		b.WriteString(p.Error())
	}
	return b.String()
}

// Unwrap returns the problems.
func (e *SetupError) Unwrap() []error {
	errs := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		errs[i] = p
	}
	return errs
}

// sqlState returns the SQLSTATE of a server's error, "" for any other.
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// transient reports whether a new connection may mend an error: the connection was
// lost, or the server is starting, stopping or full.
func transient(err error) bool {
	if errors.Is(err, sources.ErrPermanent) {
		return false
	}
	code := sqlState(err)
	if code == "" {
		return true
	}
	switch code[:2] {
	case "08", "53", "58", "XX":
		return true
	case "57":
		// Cancelled, shut down, crashed or starting; 57P04 is a dropped database.
		return code != "57P04"
	}
	// 55006 is a slot in use, 40xxx a transaction that may be repeated.
	return code == "55006" || code[:2] == "40"
}

// errRepeated marks what three connections in a row have ended with.
var errRepeated = sources.Permanent("again and again")

// repeated counts the failures that a new connection could mend and need not: what cannot
// be decoded for a broken connection may come whole over the next one, and room in TempDir
// may be made.
type repeated struct {
	times int
	at    uint64
}

// repeatedTimes is after how many such failures a stream ends.
const repeatedTimes = 3

// judge returns the error that a connection ended with, or a permanent one in its place.
// received is how far the stream has come: more than before is progress, unless what fails
// is a transaction that others pass by.
func (r *repeated) judge(err error, received uint64) error {
	malformed := errors.Is(err, pgoutput.ErrMalformed) || errors.Is(err, errProtocol)
	room := errors.Is(err, ErrTempDir)
	switch {
	case !malformed && !room:
		r.times = 0
	case malformed && received != r.at:
		r.times = 1
	default:
		r.times++
	}
	r.at = received
	switch {
	case r.times < repeatedTimes:
		return err
	case malformed:
		return fmt.Errorf("postgres: %d connections in a row ended with it; a newer release may know what the"+
			" server sends: %w: %w: %w", r.times, errRepeated, err, sources.ErrDecode)
	}
	return fmt.Errorf("postgres: %d connections in a row ended with it; make room, or name another directory:"+
		" %w: %w", r.times, errRepeated, err)
}
