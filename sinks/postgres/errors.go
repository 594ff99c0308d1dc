package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/internal/pgtls"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
)

// SchemaError says all that is wrong with the tables of a target, each with the SQL
// that mends it. errors.Is(err, sinks.ErrTargetSchema) holds.
type SchemaError struct {
	Target   string
	Problems []string
}

// Error lists the problems.
func (e *SchemaError) Error() string {
	return fmt.Sprintf("sinks/postgres: target %q: tables do not fit the result:\n  - %s",
		e.Target, strings.Join(e.Problems, "\n  - "))
}

// Is reports that the error is sinks.ErrTargetSchema.
func (e *SchemaError) Is(target error) bool { return target == sinks.ErrTargetSchema }

// RejectedError says which table refuses which row, and by which rule. Its message holds
// no value of the row. errors.Is(err, sinks.ErrRejected) holds.
type RejectedError struct {
	Target, Table string
	// KeyColumns names the table's key columns.
	KeyColumns string
	// Key is the row's key as text, in order of KeyColumns, and of an event its id; nil
	// where no row alone is to blame, or it was not found within 5 s. Like the key of a
	// topology.Failure it is not part of the message.
	Key []string
	// Positions says up to where in the sources the epoch of the row goes; nil where it
	// was not found.
	Positions record.Positions
	// Code is the SQLSTATE. Constraint and Column name what was violated, where the
	// server tells.
	Code, Constraint, Column string
}

// Error names the place and the remedy.
func (e *RejectedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sinks/postgres: target %q: table %s (key %s) refuses a row: %s (SQLSTATE %s)",
		e.Target, e.Table, e.KeyColumns, conditionName(e.Code), e.Code)
	if e.Constraint != "" {
		fmt.Fprintf(&b, ", constraint %q", e.Constraint)
	}
	if e.Column != "" {
		fmt.Fprintf(&b, ", column %q", e.Column)
	}
	if len(e.Positions) > 0 {
		fmt.Fprintf(&b, ", in the epoch at %s", e.Positions)
	}
	b.WriteString("; the server's log names the row. Nothing of the epoch was written: ")
	b.WriteString(rejectedRemedy(e.Code))
	return b.String()
}

func rejectedRemedy(code string) string {
	switch code {
	case "23503":
		return "make the foreign key DEFERRABLE if both tables are of this target, or drop it; then start again"
	case "23505":
		return "drop the unique constraint beside the key, or make it DEFERRABLE; then start again"
	case "54000":
		return "a value is too long for an index of the table: shorten it in the source, or drop the index if " +
			"it is not the key's; then start again"
	case "22021", "22P05":
		return "the target cannot hold such text, as \\x00 or what its encoding lacks: mend it in the source, or " +
			"take it out by a MapValues before the sink and raise the topology's Version"
	}
	return "widen the column, or drop or change the constraint or trigger; then start again"
}

// Is reports that the error is sinks.ErrRejected.
func (e *RejectedError) Is(target error) bool { return target == sinks.ErrRejected }

func conditionName(code string) string {
	switch code {
	case "23502":
		return "not_null_violation"
	case "23503":
		return "foreign_key_violation"
	case "23505":
		return "unique_violation"
	case "23514":
		return "check_violation"
	case "23P01":
		return "exclusion_violation"
	case "22001":
		return "string_data_right_truncation"
	case "22003":
		return "numeric_value_out_of_range"
	case "22021":
		return "character_not_in_repertoire"
	case "22P02":
		return "invalid_text_representation"
	case "22P05":
		return "untranslatable_character"
	case "54000":
		return "program_limit_exceeded"
	case "P0001":
		return "raised by a trigger"
	}
	return "constraint or data exception"
}

// problems collects what is wrong, to be reported at once.
type problems struct{ list []string }

func (p *problems) add(err error) {
	if err != nil {
		p.list = append(p.list, err.Error())
	}
}

func (p *problems) addf(format string, args ...any) {
	p.list = append(p.list, fmt.Errorf(format, args...).Error())
}

func (p *problems) err(target string) error {
	if len(p.list) == 0 {
		return nil
	}
	return &SchemaError{Target: target, Problems: p.list}
}

// errorClass says what the caller can do about a server's error.
type errorClass uint8

const (
	temporary errorClass = iota // try again later
	misshapen                   // a table was changed under us
	rejected                    // a row breaks a rule, and will again
)

// classify sorts by SQLSTATE. What is not known to be lasting is temporary: trying
// again with backoff loses nothing.
func classify(e *pgconn.PgError) errorClass {
	switch e.Code {
	case "42P01", "42703", "42704", "42804", "42846", "42P10", "42883", "42501", "42809", "428C9",
		"3F000", "0A000", "26000", "42P07":
		return misshapen
	case "P0001", "P0004", "44000":
		return rejected
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "22", "23", "54":
		return rejected
	}
	return temporary
}

// connectError says why there is no session. What the server or its certificate refuses
// is a matter of configuration; all else may pass.
func (w *writer) connectError(err error) error {
	var remedy string
	var pg *pgconn.PgError
	switch {
	case !errors.As(err, &pg):
		remedy = pgtls.Remedy(err)
	case strings.HasPrefix(pg.Code, "28"):
		remedy = "check user, password and pg_hba.conf"
	case pg.Code == "3D000":
		remedy = "name the right database in the URL, or run: CREATE DATABASE " + quote(w.conf.Database)
	case pg.Code == "42501":
		remedy = fmt.Sprintf("run: GRANT CONNECT ON DATABASE %s TO %s", quote(w.conf.Database), quote(w.conf.User))
	}
	if remedy != "" {
		return fmt.Errorf("sinks/postgres: target %q: %w: %s: %w", w.target, err, remedy, sinks.ErrConfig)
	}
	return fmt.Errorf("sinks/postgres: target %q: connecting to %s:%d: %w", w.target, w.conf.Host,
		w.conf.Port, err)
}

// wrap gives an error of the session its place. t is the table that was written, nil
// where it was none. Messages of the server are passed on only where they cannot carry
// a value of a row.
func (w *writer) wrap(doing string, t *table, err error) error {
	var pg *pgconn.PgError
	if err == nil || !errors.As(err, &pg) {
		if err == nil || errors.Is(err, sinks.ErrFenced) {
			return err
		}
		return fmt.Errorf("sinks/postgres: target %q: %s: %w", w.target, doing, err)
	}
	switch class := classify(pg); {
	case class == rejected && t != nil:
		return &RejectedError{
			Target: w.target, Table: t.name.sql(), KeyColumns: t.keyNames(),
			Code: pg.Code, Constraint: pg.ConstraintName, Column: pg.ColumnName,
		}
	case class == rejected:
		// A deferred constraint speaks up at the commit, when the table is the server's
		// to name.
		return &RejectedError{
			Target: w.target, Table: pg.TableName, Code: pg.Code, KeyColumns: "see the table",
			Constraint: pg.ConstraintName, Column: pg.ColumnName,
		}
	case class == misshapen:
		p := problems{}
		place := "progress table " + w.progress.sql()
		if t != nil {
			place = "table " + t.name.sql()
		}
		p.addf("%s was changed while it is written, or a right was taken away: %s (SQLSTATE %s); "+
			"restore it, or restart to see every difference", place, pg.Message, pg.Code)
		return p.err(w.target)
	}
	return fmt.Errorf("sinks/postgres: target %q: %s: %w", w.target, doing, err)
}
