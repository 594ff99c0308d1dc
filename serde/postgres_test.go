package serde

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
)

// session is a connection under the settings that sources use, speaking the
// simple protocol, so that every value comes as its type's output function has it.
type session struct {
	t    *testing.T
	conn *pgconn.PgConn
}

func openSession(t *testing.T) session {
	t.Helper()
	db := pgservertest.New(t)
	cfg, err := pgx.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"datestyle": "ISO", "intervalstyle": "postgres",
		"timezone":           "UTC",
		"extra_float_digits": "3", "bytea_output": "hex", "client_encoding": "UTF8"} {
		cfg.RuntimeParams[name] = value
	}
	conn, err := pgconn.ConnectConfig(t.Context(), &cfg.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return session{t, conn}
}

func (s session) try(sql string) ([][][]byte, error) {
	results, err := s.conn.Exec(s.t.Context(), sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var rows [][][]byte
	for _, r := range results {
		rows = append(rows, r.Rows...)
	}
	return rows, nil
}

func (s session) query(sql string) [][][]byte {
	s.t.Helper()
	rows, err := s.try(sql)
	if err != nil {
		s.t.Fatalf("%.200s: %v", sql, err)
	}
	return rows
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// noEquality are the types that PostgreSQL cannot compare.
var noEquality = map[string]bool{"json": true, "xml": true, "point": true, "box": true, "polygon": true,
	"circle": true, "box[]": true}

// TestLiteralsComeBack asks a real PostgreSQL for the text of each literal, takes
// it through the Go type, and asks whether what comes back is the same value.
func TestLiteralsComeBack(t *testing.T) {
	s := openSession(t)
	s.query(`CREATE TYPE mood AS ENUM ('sad', 'so-so', 'very happy');
		CREATE DOMAIN positive AS integer CHECK (value > 0);
		CREATE TYPE pair AS (a integer, b text);
		CREATE TYPE textrange AS RANGE (subtype = text, collation = "C");
		CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree;`)
	trips := 0
	for _, c := range literalCases {
		for _, literal := range c.literals {
			value := fmt.Sprintf("%s::%s", quote(literal), c.sqlType)
			text := string(s.query("SELECT " + value)[0][0])
			for _, trip := range c.trips {
				trips++
				out, err := trip.run(c.sqlType, text)
				if err != nil {
					t.Errorf("%s %.60q as %s: %v", c.sqlType, literal, trip.goType, err)
					continue
				}
				s.same(c, trip, value, text, out, trip.exact)
				if strings.HasPrefix(trip.goType, "record.") && trip.exact && !strings.Contains(trip.goType, "[") &&
					out != text {
					t.Errorf("%s %.60q as %s: written as %.60q", c.sqlType, text, trip.goType, out)
				}
			}
		}
	}
	t.Logf("%d round trips", trips)
}

// same asks whether out is the value that text was.
func (s session) same(c literalCase, trip trip, value, text, out string, exact bool) {
	s.t.Helper()
	back := fmt.Sprintf("%s::%s", quote(out), c.sqlType)
	check := fmt.Sprintf("SELECT %s IS NOT DISTINCT FROM %s, %s", back, value, back)
	if noEquality[c.sqlType] {
		check = fmt.Sprintf("SELECT true, %s", back)
		exact = true
	}
	rows, err := s.try(check)
	switch {
	case err != nil:
		s.t.Errorf("%s %.60q as %s: PostgreSQL does not read %.60q: %v", c.sqlType, text, trip.goType, out, err)
	case string(rows[0][0]) != "t":
		s.t.Errorf("%s %.60q as %s: came back as another value, %.60q", c.sqlType, text, trip.goType, out)
	case exact && string(rows[0][1]) != text:
		s.t.Errorf("%s %.60q as %s: came back with another text, %.60q", c.sqlType, text, trip.goType, rows[0][1])
	}
}
