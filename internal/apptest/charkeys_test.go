package apptest

import (
	"errors"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// TestCharKeysJoinAsInSQL joins tables by char(n) of different lengths, as keys, as a
// foreign key and with a varchar, with SQL as the oracle: after the snapshot, and after
// changes, moves and deletions.
func TestCharKeysJoinAsInSQL(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec("create domain code as char(8)",
		"create table a (k char(5) primary key, v char(4))",
		"create table b (k code primary key, v varchar(9))",
		"create table c (id int primary key, k varchar(8), r char(3))",
		"insert into a values ('x', 'v'), ('y  ', 'w '), ('z', null), ('  s', ' q')",
		"insert into b values ('x', 'v  '), ('y', 'w'), ('  s', 'q'), ('only', 'b')",
		"insert into c values (1, 'x', 'x'), (2, 'x ', 'y'), (3, null, null), (4, 'zz', 's')")
	type valued struct{ V *string }
	type row struct{ K, R *string }
	type pair struct{ A, B *string }
	type foreign struct {
		K string  `json:"fk"`
		A *string `json:"a"`
	}
	text := func(s *string) string {
		if s == nil {
			return "?"
		}
		return *s
	}
	top := topology.New("char")
	shop := pgSource("shop", db)
	a := sources.Table[string, valued](top, shop, "public.a")
	b := sources.Table[string, valued](top, shop, "public.b")
	c := sources.Table[int32, row](top, shop, "public.c")
	sinks.View(operators.Join("keys", a, b, func(a, b valued) pair { return pair{a.V, b.V} }), "keys")
	joined := func(name string, fk func(row) string) {
		sinks.View(operators.JoinForeignKey(name, c, a, fk,
			func(c row, a valued) foreign { return foreign{fk(c), a.V} }), name)
	}
	joined("by-char", func(c row) string { return text(c.R) })
	joined("by-varchar", func(c row) string { return text(c.K) })
	topo, err := top.Build()
	if err != nil {
		t.Fatal(err)
	}
	app := start(t, tailrace.Config{App: "char", StateDir: t.TempDir() + "/state"}, topo)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	verify := func(when string, rows ...int) {
		t.Helper()
		results, err := app.app.Verify(deadline(t),
			tailrace.Check{View: "keys", SQL: "select a.k as key, a.v as a, b.v as b from a join b on a.k = b.k"},
			tailrace.Check{View: "by-char",
				SQL: "select c.id as key, c.r as fk, a.v as a from c join a on c.r = a.k"},
			tailrace.Check{View: "by-varchar",
				SQL: "select c.id as key, c.k as fk, a.v as a from c join a on c.k = a.k::text"})
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		for i, r := range results {
			if r.ViewRows != rows[i] || r.SQLRows != rows[i] || len(r.Differences) > 0 {
				t.Errorf("%s: %+v; want %d rows that are equal", when, r, rows[i])
			}
		}
	}
	verify("after the snapshot", 3, 2, 1)
	db.Exec("update a set v = 'new' where k = 'x'", "update b set k = 'z  ' where k = 'y'",
		"update a set k = 'only ' where k = 'y'", "delete from b where k = '  s'",
		"insert into c values (5, 'only', 'z'), (6, 'only ', 'z  ')")
	verify("after changes", 3, 3, 2)
}

// TestKeysOfUnequalTexts reads tables by keys whose equal values can have different
// texts: the app does not start, and says what to do.
func TestKeysOfUnequalTexts(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec("create type money_of as (amount numeric, currency text)",
		"create type span as range (subtype = float8)", "create domain wide as span",
		"create table composite (k money_of primary key)", "create table numbers (k numrange primary key)",
		"create table own (k wide primary key)", "create table whole (k int4range primary key)",
		"insert into composite values ('(1.0,x)')", "insert into numbers values ('[1.0,2)')")
	for table, says := range map[string]string{
		"composite": "composite type public.money_of", "numbers": "is numrange, a range",
		"own": "is public.span, a range", "whole": "",
	} {
		b := topology.New(table)
		type keyOnly struct{ K string }
		sinks.View(sources.Table[string, keyOnly](b, pgSource("shop", db), "public."+table), table)
		topo, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		app := start(t, tailrace.Config{App: table, StateDir: t.TempDir() + "/state"}, topo)
		if says == "" {
			if err := app.app.WaitReady(deadline(t)); err != nil {
				t.Errorf("%s: %v", table, err)
			}
			continue
		}
		err = app.wait(t)
		if !errors.Is(err, sources.ErrSchema) || !strings.Contains(err.Error(), says) ||
			!strings.Contains(err.Error(), "columns of their own") {
			t.Errorf("%s: %v; want one that says %q", table, err, says)
		}
	}
}
