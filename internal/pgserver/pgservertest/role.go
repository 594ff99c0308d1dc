package pgservertest

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Role is a role that may do what docs/postgres-setup.md grants, and nothing else: PUBLIC
// has no rights in its database any more.
type Role struct {
	// Name is the role's.
	Name string
	// URL is how it connects to the database.
	URL string
	// Grants are the statements that give it its rights, beside CREATE ROLE: each a single
	// right on a single object.
	Grants []string
}

// Reader makes the role that the page describes for a source, for these tables.
func (db *DB) Reader(tables ...string) Role {
	db.t.Helper()
	return db.role("reader", "A role with the rights it needs", strings.NewReplacer(
		"orders, customers", strings.Join(tables, ", "), "DATABASE shop", "DATABASE "+db.Name))
}

// Writer makes the role that the page describes for a target that makes its tables.
func (db *DB) Writer() Role {
	db.t.Helper()
	return db.role("writer", "A PostgreSQL target",
		strings.NewReplacer("DATABASE warehouse", "DATABASE "+db.Name))
}

// role runs what the page says under a heading, as superuser, and removes the role when the
// test ends.
func (db *DB) role(kind, heading string, names *strings.Replacer) Role {
	db.t.Helper()
	const password = "canary-0815"
	r := Role{Name: kind + "_" + db.Name}
	db.Exec("REVOKE ALL ON DATABASE "+db.Name+" FROM PUBLIC", "REVOKE ALL ON SCHEMA public FROM PUBLIC")
	for _, sql := range documented(db, heading) {
		sql = names.Replace(sql)
		sql = strings.NewReplacer("ROLE tailrace", "ROLE "+r.Name, "TO tailrace", "TO "+r.Name,
			"'...'", "'"+password+"'").Replace(sql)
		switch {
		case strings.HasPrefix(sql, "CREATE ROLE "):
			db.t.Cleanup(func() { db.Exec("DROP OWNED BY "+r.Name, "DROP ROLE "+r.Name) })
		case strings.HasPrefix(sql, "GRANT "):
			r.Grants = append(r.Grants, single(sql)...)
		default:
			db.t.Fatalf("docs/postgres-setup.md, %q: %s is no grant", heading, sql)
		}
		db.Exec(sql)
	}
	if len(r.Grants) == 0 {
		db.t.Fatalf("docs/postgres-setup.md, %q: no grants", heading)
	}
	u, err := url.Parse(db.URL)
	if err != nil {
		db.t.Fatal(err)
	}
	u.User = url.UserPassword(r.Name, password)
	r.URL = u.String()
	return r
}

// single divides a GRANT into those of one right on one object.
func single(grant string) (out []string) {
	rights, rest, _ := strings.Cut(strings.TrimPrefix(grant, "GRANT "), " ON ")
	objects, role, _ := strings.Cut(rest, " TO ")
	kind := ""
	if k, name, ok := strings.Cut(objects, " "); ok && (k == "DATABASE" || k == "SCHEMA") {
		kind, objects = k+" ", name
	}
	for right := range strings.SplitSeq(rights, ", ") {
		for object := range strings.SplitSeq(objects, ", ") {
			out = append(out, "GRANT "+right+" ON "+kind+object+" TO "+role)
		}
	}
	return out
}

// documented are the statements of the first block of SQL under a heading of the page.
func documented(db *DB, heading string) []string {
	db.t.Helper()
	page, err := readUpwards(filepath.Join("docs", "postgres-setup.md"))
	if err != nil {
		db.t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## "+heading+"\n")
	_, block, _ := strings.Cut(section, "```sql\n")
	block, _, ok := strings.Cut(block, "```")
	if !ok {
		db.t.Fatalf("docs/postgres-setup.md has no SQL under %q", heading)
	}
	var out []string
	for sql := range strings.SplitSeq(block, ";\n") {
		if sql = strings.TrimSpace(sql); sql != "" {
			out = append(out, sql)
		}
	}
	return out
}

// readUpwards reads a file of the repository, from wherever in it the test runs.
func readUpwards(name string) ([]byte, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if !errors.Is(err, fs.ErrNotExist) {
			return data, err
		}
		if filepath.Dir(dir) == dir {
			return nil, err
		}
		dir = filepath.Dir(dir)
	}
}

// Without runs a function while the role lacks one of its grants, or the right to replicate
// where grant is Replication.
func (db *DB) Without(r Role, grant string, run func()) {
	db.t.Helper()
	if grant == Replication {
		db.Exec("ALTER ROLE " + r.Name + " NOREPLICATION")
		defer db.Exec("ALTER ROLE " + r.Name + " REPLICATION")
	} else {
		db.Exec(strings.NewReplacer("GRANT ", "REVOKE ", " TO ", " FROM ").Replace(grant))
		defer db.Exec(grant)
	}
	run()
}

// Replication stands for the right to replicate, which CREATE ROLE gives.
const Replication = "REPLICATION"
