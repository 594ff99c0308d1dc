package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// SnapshotAt implements sources.Verifier. A temporary replication slot is the one thing
// in PostgreSQL that ties a snapshot to a position of the log: it exports the snapshot
// that holds exactly what was committed before its consistent point. The slot goes as
// soon as the snapshot has been taken over.
func (c *connector) SnapshotAt(ctx context.Context, req sources.SnapshotRequest) (sources.Snapshot, error) {
	cfg, err := c.cfg.withDefaults(req.App, req.Database)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, sources.ErrConfig)
	}
	conn, err := parseURL(cfg.URL, cfg.silence)
	if err != nil {
		return nil, err
	}
	log := req.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	detached := context.WithoutCancel(ctx)
	repl, err := connectReplication(ctx, conn)
	if err != nil {
		return nil, err
	}
	defer repl.Close(detached) // which drops the slot
	name, point, err := exportSnapshot(ctx, repl, log)
	if err != nil {
		return nil, err
	}
	// The user's query is to find tables as it does in psql.
	delete(conn.RuntimeParams, "search_path")
	s := &verifySnapshot{point: point}
	if s.conn, err = connect(ctx, conn); err != nil {
		return nil, err
	}
	if err := importSnapshot(ctx, s.conn.PgConn(), name); err != nil {
		s.conn.Close(detached)
		return nil, err
	}
	return s, nil
}

// exportSnapshot makes a temporary slot and exports its snapshot, which lives as long
// as the connection has nothing else to do.
func exportSnapshot(
	ctx context.Context,
	c *pgconn.PgConn,
	log *slog.Logger,
) (name string, point uint64, err error) {
	var id [8]byte
	rand.Read(id[:])
	slot := "tailrace_verify_" + hex.EncodeToString(id[:])
	slow := time.AfterFunc(5*time.Second, func() {
		log.Warn("waiting for transactions that are open, to pin a position for the verification")
	})
	defer slow.Stop()
	res, err := pglogrepl.ParseCreateReplicationSlot(
		c.Exec(ctx, "CREATE_REPLICATION_SLOT "+ident(slot)+" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT"))
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (transactions that stay open keep a position from being pinned:"+
				" see pg_stat_activity.xact_start)", ctx.Err())
		}
		return "", 0, fmt.Errorf("postgres: pin a position for the verification: %w", err)
	}
	lsn, err := record.ParseLSN(res.ConsistentPoint)
	return res.SnapshotName, uint64(lsn), err
}

// verifySnapshot is a transaction that sees the exported snapshot.
type verifySnapshot struct {
	point uint64
	conn  *pgx.Conn
}

// Position is the slot's consistent point.
func (s *verifySnapshot) Position() uint64 { return s.point }

// derived makes a subquery of a query, which may end in a semicolon or a comment.
func derived(columns, query string) string {
	query = strings.TrimRight(strings.TrimSpace(query), "; \t\n")
	return "SELECT " + columns + " FROM (" + query + "\n) AS q"
}

// Columns implements sources.Snapshot. The server parses the query as it was given, so
// that what it says of a mistake is about the user's text and its place in it.
func (s *verifySnapshot) Columns(ctx context.Context, query string) ([]record.Column, error) {
	parsed, err := s.conn.Prepare(ctx, "", query)
	if err != nil {
		return nil, queryError(err)
	}
	if len(parsed.ParamOIDs) > 0 {
		return nil, fmt.Errorf("postgres: the SQL of the verification has parameters: write their values: %w",
			sources.ErrQuery)
	}
	var out []record.Column
	for _, f := range parsed.Fields {
		c := record.Column{Name: f.Name, TypeOID: f.DataTypeOID, TypeMod: f.TypeModifier}
		out = append(out, c)
	}
	// The server tells only here whether what has columns is a query, which SHOW, EXPLAIN
	// and RETURNING are not.
	if _, err := s.conn.Prepare(ctx, "", derived("*", query)); err != nil && sqlState(err) == "42601" ||
		len(out) == 0 {
		return nil, fmt.Errorf("postgres: the SQL of the verification is no query: begin it with SELECT, WITH, "+
			"VALUES or TABLE: %w", sources.ErrQuery)
	} else if err != nil {
		return nil, queryError(err)
	}
	for i := range out {
		err := s.conn.QueryRow(ctx, "SELECT format_type($1::oid, NULL)", out[i].TypeOID).Scan(&out[i].Type)
		if err != nil {
			return nil, fmt.Errorf("postgres: name of type %d: %w", out[i].TypeOID, err)
		}
	}
	return out, nil
}

// Query implements sources.Snapshot. The objects are those of to_json.
func (s *verifySnapshot) Query(ctx context.Context, query string, row func(object []byte) error) error {
	rows, err := s.conn.Query(ctx, derived("row_to_json(q)::text", query))
	if err != nil {
		return queryError(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.RawValues()[0]); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return queryError(err)
	}
	return nil
}

// queryError tells the user's mistakes from the server's state. 55P03 is a lock that
// somebody else holds.
func queryError(err error) error {
	if code := sqlState(err); code == "" || code == "55P03" || transient(err) {
		return fmt.Errorf("postgres: the SQL of the verification: %w", err)
	}
	return fmt.Errorf("postgres: the SQL of the verification%s: %w: %w", place(err), err, sources.ErrQuery)
}

// place says where in the query an error is, "" if the server does not tell.
func place(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Position > 0 {
		return fmt.Sprintf(" at character %d", pg.Position)
	}
	return ""
}

// Close ends the transaction.
func (s *verifySnapshot) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.conn.Close(ctx)
}

var _ sources.Verifier = (*connector)(nil)
