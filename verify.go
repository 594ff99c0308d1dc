package tailrace

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tailrace/tailrace/internal/compare"
	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/serde"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/view"
)

// Check is one comparison of a view with SQL.
type Check struct {
	// View is the view's name.
	View string
	// Database is the name of the source database that the query runs in. It may be
	// left out where the app reads one database only.
	Database string
	// SQL is the query whose result the view should equal, row by row. Its columns have
	// the names of the view's: those of key and value as in a table of a target, "key"
	// and "value" where these are no structs. It runs in a read-only transaction.
	SQL string
}

// Verification is the result of a Check.
type Verification struct {
	View, Database string
	// Position is the one position in the database's log as of which both sides were
	// read.
	Position record.LSN
	// ViewRows and SQLRows count the rows on the two sides.
	ViewRows, SQLRows int
	// Differences are all rows that differ, in the order of their keys; none is
	// what should be.
	Differences []Difference
}

// Difference is a row that a view and SQL do not agree on.
type Difference struct {
	// Key is the row's key, as a JSON object of the key's columns.
	Key string `json:"key"`
	// View and SQL are the row on the two sides, "" where there is none.
	View string `json:"view,omitempty"`
	SQL  string `json:"sql,omitempty"`
	// Columns are those that differ, where both sides have the row.
	Columns []string `json:"columns,omitempty"`
}

// ErrVerify says that a Check cannot be made: the view is not there, its topology
// stands still, or the query (then it is a sources.ErrQuery, too) or its columns do not
// fit. Differences are no error.
var ErrVerify = errors.New("tailrace: verify")

// verifyPause bounds how long the engine may stand still for a verification.
const verifyPause = 30 * time.Second

// Verify compares views of the running app with SQL, all checks of a database at one
// position of its log, while sources, engine and readers go on: the engine stands still
// only for the moment in which the position is pinned. Views are held in memory, one
// at a time. Numbers are compared exactly, and floating-point columns within 1e-12 of
// the larger value.
//
// A table that is truncated or rewritten while the query runs looks empty to it, as
// to any transaction that began before.
func (a *App) Verify(ctx context.Context, checks ...Check) ([]Verification, error) {
	a.mu.Lock()
	eng := a.engine
	a.mu.Unlock()
	if a.cfg.Kafka != nil {
		return nil, fmt.Errorf("%w: it compares with SQL at one position of the database's log, which only direct "+
			"mode has; compare the output topics, or the state with its changelogs (VerifyState)", ErrVerify)
	}
	if eng == nil {
		return nil, fmt.Errorf("%w: the app does not run yet", ErrVerify)
	}
	in, _ := a.cfg.connectors(a.topologies)
	byDatabase := map[string][]int{}
	var order []string
	for i, c := range checks {
		name, err := databaseOf(c, in)
		if err != nil {
			return nil, err
		}
		if byDatabase[name] == nil {
			order = append(order, name)
		}
		byDatabase[name] = append(byDatabase[name], i)
	}
	out := make([]Verification, len(checks))
	for _, name := range order {
		v := verifier{app: a, engine: eng, database: name}
		if err := v.run(ctx, in[name], checks, byDatabase[name], out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// databaseOf finds the database that a check is about.
func databaseOf(c Check, in map[string]sources.Connector) (string, error) {
	name := c.Database
	if name == "" && len(in) == 1 {
		for only := range in {
			name = only
		}
	}
	if _, ok := in[name]; !ok {
		return "", fmt.Errorf("%w: %w: view %q: the app reads no database %q; name one that it reads",
			ErrVerify, sources.ErrConfig, c.View, name)
	}
	return name, nil
}

// verifier makes the checks of one database.
type verifier struct {
	app      *App
	engine   *engine.Engine
	database string
}

func (v *verifier) run(
	ctx context.Context, c sources.Connector, checks []Check, which []int, out []Verification,
) error {
	snapshot, moment, err := v.pin(ctx, c)
	if err != nil {
		return err
	}
	defer moment.Close()
	defer snapshot.Close() //nolint:errcheck // It was only read from.
	for _, i := range which {
		out[i], err = v.check(ctx, snapshot, moment, checks[i])
		if err != nil {
			return fmt.Errorf("%w: view %q: %w", ErrVerify, checks[i].View, err)
		}
	}
	return nil
}

// pin takes database and views as of one position. The engine stands still while the
// database chooses it, so the views cannot be further on.
func (v *verifier) pin(ctx context.Context, c sources.Connector) (sources.Snapshot, *view.Moment, error) {
	pinner, ok := c.(sources.Verifier)
	if !ok {
		return nil, nil, fmt.Errorf("%w: the connector of database %q cannot show it as of a position",
			ErrVerify, v.database)
	}
	ctx, cancel := context.WithTimeout(ctx, verifyPause)
	defer cancel()
	hold, err := v.engine.Hold(ctx, v.database)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrVerify, err)
	}
	defer hold.Release()
	snapshot, err := pinner.SnapshotAt(ctx, sources.SnapshotRequest{
		App: v.app.cfg.App, Database: v.database, Logger: v.app.log,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: database %q: %w", ErrVerify, v.database, err)
	}
	moment, err := hold.At(snapshot.Position())
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%w: views at %s of database %q: %w",
			ErrVerify, record.LSN(snapshot.Position()), v.database, err), snapshot.Close())
	}
	return snapshot, moment, nil
}

// check compares one view.
func (v *verifier) check(
	ctx context.Context, snapshot sources.Snapshot, moment *view.Moment, c Check,
) (Verification, error) {
	out := Verification{View: c.View, Database: v.database, Position: record.LSN(snapshot.Position())}
	port, err := v.app.host.View(c.View)
	if err != nil {
		return out, err
	}
	// The moment's own position may be before the snapshot's, with nothing in between.
	at, all := moment.PositionOf(port).Sources[v.database], moment.Position().Sources[v.database]
	if at < all {
		return out, fmt.Errorf("its topology stands still at %s, the others are at %s; see /readyz for the reason",
			record.LSN(at), record.LSN(all))
	}
	// Before the view is read, which takes longer.
	columns, err := snapshot.Columns(ctx, c.SQL)
	if err != nil {
		return out, err
	}
	key, value := view.TypesOf(port)
	rows := compare.Rows{KeyScalar: serde.IsScalar(key), ValueScalar: serde.IsScalar(value)}
	if err := moment.ExportJSON(ctx, port, rows.AddView); err != nil {
		return out, err
	}
	if err := rows.Prepare(columns); err != nil {
		return out, err
	}
	if err := snapshot.Query(ctx, c.SQL, rows.AddSQL); err != nil {
		return out, err
	}
	viewRows, sqlRows, differ := rows.Result()
	out.ViewRows, out.SQLRows = viewRows, sqlRows
	for _, d := range differ {
		out.Differences = append(out.Differences, Difference(d))
	}
	return out, nil
}
