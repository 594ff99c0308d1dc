package postgres

import (
	"fmt"

	"github.com/tailrace/tailrace/sources"
)

// The versions this package is tested with. Later ones are taken as the last.
const minVersion = 14

// checkServer returns what of the installation keeps us from reading.
func checkServer(s *server, cfg Config) []Problem {
	var out []Problem
	add := func(subject, fix, text string, args ...any) {
		out = append(
			out,
			Problem{Subject: subject, Text: fmt.Sprintf(text, args...), Fix: fix, Kind: sources.ErrConfig},
		)
	}
	if s.version < minVersion {
		add("server version", "upgrade the server", "PostgreSQL %d is older than %d", s.version, minVersion)
	}
	if s.walLevel != "logical" {
		add("wal_level", "ALTER SYSTEM SET wal_level = 'logical'; then restart the server",
			"it is %q and has to be \"logical\"", s.walLevel)
	}
	if s.encoding != "UTF8" {
		add("server_encoding", "move the data to a database made WITH (ENCODING 'UTF8', TEMPLATE template0)",
			"it is %q and has to be \"UTF8\"", s.encoding)
	}
	if s.recovery {
		add("server", "connect to the primary (target_session_attrs=read-write in the URL)", "it is a standby")
	}
	if cfg.Failover && s.version < 17 {
		add("Config.Failover", "leave it out", "failover slots need PostgreSQL 17, this is %d", s.version)
	}
	if cfg.LocalOnly && s.version < 16 {
		add("Config.LocalOnly", "leave it out", "origin filters need PostgreSQL 16, this is %d", s.version)
	}
	if s.senders >= s.maxSenders {
		add(
			"max_wal_senders",
			fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d; then restart the server", s.maxSenders+4),
			"all %d are in use",
			s.maxSenders,
		)
	}
	return out
}

// checkSlots returns the problem of a server on which no slot can be made.
func checkSlots(s *server) []Problem {
	if s.slots < s.maxSlots {
		return nil
	}
	return []Problem{{Subject: "max_replication_slots", Kind: sources.ErrConfig,
		Text: fmt.Sprintf("all %d slots are in use", s.maxSlots),
		Fix: fmt.Sprintf("drop one that nobody needs (SELECT slot_name, active FROM pg_replication_slots), or"+
			" ALTER SYSTEM SET max_replication_slots = %d; then restart the server", s.maxSlots+4)}}
}

// checkTables returns what of the tables keeps us from reading them.
func checkTables(s *server, reqs []sources.TableRequest, found map[string]*table) []Problem {
	var out []Problem
	for _, req := range reqs {
		t := found[req.Name]
		if t == nil {
			p := Problem{Subject: "table " + req.Name, Text: fmt.Sprintf("it is not in database %q", s.database),
				Fix: "create it, or correct the name, which is schema.table", Kind: sources.ErrSchema,
				Table: req.Name}
			if len(splits(req.Name)) == 0 {
				p.Text = "the name is not schema.table"
			}
			out = append(out, p)
			continue
		}
		for _, p := range checkTable(s, t) {
			p.Table = req.Name
			out = append(out, p)
		}
		out = append(out, checkAncestors(t)...)
	}
	return out
}

func checkTable(s *server, t *table) []Problem {
	var out []Problem
	add := func(kind error, fix, text string, args ...any) {
		out = append(
			out,
			Problem{Subject: "table " + t.sql(), Text: fmt.Sprintf(text, args...), Fix: fix, Kind: kind},
		)
	}
	if t.kind != 'r' && t.kind != 'p' {
		add(
			sources.ErrConfig,
			"read the tables it is made of",
			"it is a %s: the log has tables only",
			kindName(t.kind),
		)
		return out
	}
	if t.persistence != 'p' {
		add(
			sources.ErrConfig,
			"ALTER TABLE "+t.sql()+" SET LOGGED;",
			"it is unlogged or temporary: its changes are not in the log",
		)
	}
	if t.schema == "pg_catalog" || t.schema == "information_schema" {
		add(sources.ErrConfig, "read a table of your own", "system tables are not in the log")
	}
	for _, name := range without(t.req.Columns, nil) {
		switch c := t.column(name); {
		case c == nil:
			add(sources.ErrSchema, "add the column, or correct the field's db tag", "it has no column %q", name)
		case c.generated == 'v':
			add(sources.ErrSchema, "compute it in the topology, or make it STORED",
				"column %q is a virtual generated column, which is not in the log", name)
		case c.generated == 's' && s.version < 18:
			add(sources.ErrSchema, "compute it in the topology, or fill it by a trigger",
				"column %q is generated, which is in the log from PostgreSQL 18 on; this is %d", name, s.version)
		}
	}
	out = append(out, checkIdentity(t)...)
	out = append(out, checkPartitions(t)...)
	return append(out, checkRights(s, t)...)
}

func kindName(k byte) string {
	switch k {
	case 'v':
		return "view"
	case 'm':
		return "materialized view"
	case 'f':
		return "foreign table"
	}
	return fmt.Sprintf("relation of kind %q", k)
}

const virtualText = "which takes in a virtual generated column: PostgreSQL cannot publish its updates, " +
	"and refuses them while they are to be"

// checkIdentity holds the key of the Go type against what old tuples carry.
func checkIdentity(t *table) []Problem {
	problem := func(kind error, fix, text string, args ...any) []Problem {
		return []Problem{{Subject: "table " + t.sql(), Text: fmt.Sprintf(text, args...), Fix: fix, Kind: kind}}
	}
	if missing := missingColumns(t); len(missing) > 0 {
		return problem(
			sources.ErrSchema,
			"add the column, or correct the key's db tags",
			"it has no column %s for the key",
			names(missing),
		)
	}
	if !t.req.Changes {
		return nil
	}
	alter := "ALTER TABLE " + t.sql() + " "
	switch {
	case t.virtual && t.identity == 'f':
		return problem(sources.ErrConfig, alter+"REPLICA IDENTITY DEFAULT;", "its replica identity is FULL, %s",
			virtualText)
	case t.identity == 'n':
		return problem(sources.ErrConfig, alter+"REPLICA IDENTITY DEFAULT;",
			"its replica identity is NOTHING, so the log doesn't tell which row an update or delete is about")
	case t.identity == 'i' && len(t.key) == 0:
		return problem(
			sources.ErrConfig,
			alter+"REPLICA IDENTITY DEFAULT;",
			"the index of its replica identity was dropped, so the log doesn't tell which row"+
				" an update or delete is about",
		)
	case len(t.key) == 0:
		return problem(sources.ErrConfig, alter+"ADD PRIMARY KEY (...); or read it as an append-only stream",
			"it has no primary key (one that is not deferrable), so updates and deletes cannot be followed")
	}
	if len(t.req.KeyColumns) == 0 {
		// The key type is a single value: the reader checks it against the relation.
		return nil
	}
	if len(without(t.key, t.req.KeyColumns)) > 0 || len(without(t.req.KeyColumns, t.key)) > 0 {
		what := "primary key"
		if t.identity == 'i' {
			what = "replica identity index"
		}
		return problem(sources.ErrSchema, "make the key type's columns those",
			"its %s is (%s), the key type has (%s)", what, names(t.key), names(t.req.KeyColumns))
	}
	return nil
}

func missingColumns(t *table) []string {
	var out []string
	for _, n := range without(t.req.KeyColumns, t.req.Columns) {
		if t.column(n) == nil {
			out = append(out, n)
		}
	}
	return out
}

// checkRights returns what our role must be granted to read the snapshot.
func checkRights(s *server, t *table) []Problem {
	if !t.req.Snapshot {
		return nil
	}
	var out []Problem
	add := func(fix, text string, args ...any) {
		out = append(out, Problem{Subject: "table " + t.sql(), Text: fmt.Sprintf(text, args...), Fix: fix,
			Kind: sources.ErrConfig})
	}
	if !t.usage {
		add(
			"GRANT USAGE ON SCHEMA "+ident(t.schema)+" TO "+ident(s.role)+";",
			"role %q may not use its schema",
			s.role,
		)
	}
	var denied []string
	want := t.readable()
	for _, c := range t.columns {
		if want[c.Name] && !c.selectable {
			denied = append(denied, c.Name)
		}
	}
	if len(denied) > 0 {
		add("GRANT SELECT ON "+t.sql()+" TO "+ident(s.role)+";", "role %q may not read %s", s.role, names(denied))
	}
	if t.rls && !s.superuser && !s.bypassRLS && (!t.owner || t.forced) {
		fix := "ALTER ROLE " + ident(s.role) + " BYPASSRLS;"
		if t.owner {
			fix += " or ALTER TABLE " + t.sql() + " NO FORCE ROW LEVEL SECURITY;"
		}
		add(
			fix,
			"row level security would hide rows of the snapshot from role %q"+
				" that the log has",
			s.role,
		)
	}
	return out
}
