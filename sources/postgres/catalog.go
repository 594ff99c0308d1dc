package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// server is what Open has to know of the installation.
type server struct {
	version             int // major
	walLevel, encoding  string
	recovery            bool
	database, role      string
	superuser           bool
	mayCreate           bool // CREATE on the database
	bypassRLS           bool
	slots, maxSlots     int
	senders, maxSenders int
	seen                seen // ahead of all that is read from the catalog
}

func readServer(ctx context.Context, c *pgx.Conn) (*server, error) {
	s := &server{version: majorVersion(c.PgConn().ParameterStatus("server_version"))}
	var snapshot string
	err := c.QueryRow(ctx, `SELECT current_setting('wal_level'), current_setting('server_encoding'),
		pg_is_in_recovery(), current_database()::text, current_user::text,
		r.rolsuper, r.rolbypassrls, has_database_privilege(current_database(), 'CREATE'),
		(SELECT count(*)::int FROM pg_replication_slots), current_setting('max_replication_slots')::int,
		(SELECT count(*)::int FROM pg_stat_replication), current_setting('max_wal_senders')::int,
		`+seenSQL+`
		FROM pg_roles r WHERE r.rolname = current_user`).Scan(
		&s.walLevel, &s.encoding, &s.recovery, &s.database, &s.role, &s.superuser, &s.bypassRLS, &s.mayCreate,
		&s.slots, &s.maxSlots, &s.senders, &s.maxSenders, &snapshot)
	if err != nil {
		return nil, fmt.Errorf("postgres: read the server's settings: %w", err)
	}
	s.seen, err = parseSeen(snapshot)
	return s, err
}

// table is a table that was asked for, as the catalog has it.
type table struct {
	req          sources.TableRequest
	oid, file    uint32
	schema, name string
	kind         byte // relkind
	persistence  byte
	identity     byte // relreplident
	rls, forced  bool // row level security is on; and for the owner, too
	owner        bool // our role owns the table
	ownerName    string
	usage        bool    // USAGE on the schema
	estimate     float64 // rows
	columns      []column
	// key is what old tuples can be told by: the columns of the primary key, or of the
	// index that REPLICA IDENTITY USING INDEX names. Empty without.
	key []string
	// virtual says that the identity is FULL, or that of a partition, and takes in a virtual
	// generated column, with which PostgreSQL refuses updates once they are published.
	virtual bool
	// primary is the primary key, whatever the identity.
	primary []string
	// partitions are those that hold rows.
	partitions []partition
	// above are the tables asked for that it is a partition of, at whatever depth.
	above []*table
}

// column is a column with what the catalog says beyond record.Column.
type column struct {
	record.Column
	// altered is its stamp, by stampOf.
	altered    uint32
	generated  byte // s stored, v virtual, 0 neither
	selectable bool
}

// sql returns the table's quoted name.
func (t *table) sql() string { return ident(t.schema, t.name) }

// rows returns the table's quoted name for a query or publication that must not
// include its children. A partitioned table is nothing but its children.
func (t *table) rows() string {
	if t.kind == 'p' {
		return t.sql()
	}
	return "ONLY " + t.sql()
}

// identified reports whether the log tells which row an update or delete is about, and
// updates can be published without PostgreSQL refusing them.
func (t *table) identified() bool {
	return !t.virtual && (t.identity == 'f' || t.identity != 'n' && len(t.key) > 0)
}

// full reports whether old tuples are whole rows, in the table or in a partition of it.
func (t *table) full() bool {
	full := func(p partition) bool { return p.identity == 'f' }
	return t.identity == 'f' || slices.ContainsFunc(t.partitions, full)
}

func (t *table) column(name string) *column {
	for i := range t.columns {
		if t.columns[i].Name == name {
			return &t.columns[i]
		}
	}
	return nil
}

// numbered returns the column of a number, nil if there is none.
func (t *table) numbered(number int16) *column {
	for i := range t.columns {
		if t.columns[i].Number == number {
			return &t.columns[i]
		}
	}
	return nil
}

// readable returns what a snapshot selects: the columns asked for and the key.
func (t *table) readable() map[string]bool {
	want := map[string]bool{}
	for _, names := range [][]string{t.req.Columns, t.req.KeyColumns, t.key} {
		for _, n := range names {
			want[n] = true
		}
	}
	return want
}

// splits returns the ways to read schema.table: names may contain dots, so there may
// be several, of which the catalog knows one.
func splits(name string) [][2]string {
	var ways [][2]string
	for i := range len(name) {
		if name[i] == '.' && i > 0 && i+1 < len(name) {
			ways = append(ways, [2]string{name[:i], name[i+1:]})
		}
	}
	return ways
}

// readTables looks the tables up. A table that is not there is left out.
func readTables(ctx context.Context, c *pgx.Conn, reqs []sources.TableRequest) (map[string]*table, error) {
	var schemas, names []string
	var asked []int
	for i, req := range reqs {
		for _, way := range splits(req.Name) {
			if validName(way[0]) && validName(way[1]) {
				schemas, names, asked = append(schemas, way[0]), append(names, way[1]), append(asked, i)
			}
		}
	}
	tables := map[string]*table{}
	if len(asked) == 0 {
		return tables, nil
	}
	rows, err := c.Query(ctx, `SELECT w.i::int, c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text,
		c.relpersistence::text, c.relreplident::text, c.relrowsecurity, c.relforcerowsecurity,
		pg_has_role(c.relowner, 'USAGE'), pg_get_userbyid(c.relowner)::text, has_schema_privilege(n.oid, 'USAGE'), greatest(c.reltuples, 0)::float8,
		coalesce(pg_relation_filenode(c.oid), 0)::int8
		FROM unnest($1::text[], $2::text[], $3::int[]) AS w(s, t, i)
		JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t
		WHERE c.relkind NOT IN ('i', 'I', 'S', 'c', 't')`, schemas, names, asked)
	if err != nil {
		return nil, fmt.Errorf("postgres: read the catalog: %w", err)
	}
	byOID := map[uint32]*table{}
	for rows.Next() {
		var i int
		var oid, file int64
		var kind, persistence, identity string
		t := &table{}
		if err := rows.Scan(&i, &oid, &t.schema, &t.name, &kind, &persistence, &identity, &t.rls, &t.forced,
			&t.owner, &t.ownerName, &t.usage, &t.estimate, &file); err != nil {
			return nil, fmt.Errorf("postgres: read the catalog: %w", err)
		}
		t.oid, t.file = uint32(oid), uint32(file)
		t.kind, t.persistence, t.identity = kind[0], persistence[0], identity[0]
		t.req = reqs[i]
		tables[t.req.Name], byOID[t.oid] = t, t
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("postgres: read the catalog: %w", err)
	}
	if err := readPartitions(ctx, c, byOID); err != nil {
		return nil, err
	}
	if err := readAncestors(ctx, c, byOID); err != nil {
		return nil, err
	}
	return tables, readColumns(ctx, c, byOID)
}

// columnsQuery reads the columns of tables whose ids it is given: for each what describes
// it, whether it is in the primary key and in the replica identity's index, the type under
// its domain, whether that is composite or a range, and what tells that its values have
// been written anew.
const columnsQuery = `SELECT a.attrelid::int8, a.attname::text, format_type(a.atttypid, a.atttypmod),
		a.atttypid::int8, a.atttypmod, a.attnotnull OR (SELECT y.typnotnull FROM pg_type y WHERE y.oid = a.atttypid),
		a.attgenerated::text,
		has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
		coalesce((SELECT l.collname::text FROM pg_collation l WHERE l.oid = a.attcollation
			AND NOT l.collisdeterministic), ''),
		coalesce(a.attnum = ANY (p.indkey::int2[]), false), coalesce(a.attnum = ANY (r.indkey::int2[]), false),
		coalesce((WITH RECURSIVE d AS (SELECT y.typtype, y.typbasetype, y.typtypmod FROM pg_type y WHERE y.oid = a.atttypid
			UNION ALL SELECT y.typtype, y.typbasetype, CASE WHEN d.typtypmod = -1 THEN y.typtypmod ELSE d.typtypmod END
			FROM d JOIN pg_type y ON y.oid = d.typbasetype WHERE d.typtype = 'd' AND y.typtype = 'd')
			SELECT format_type(d.typbasetype, d.typtypmod) FROM d JOIN pg_type b ON b.oid = d.typbasetype
			WHERE d.typtype = 'd' AND b.typtype <> 'd'), ''),
		coalesce((WITH RECURSIVE d AS (SELECT y.typtype, y.typbasetype FROM pg_type y WHERE y.oid = a.atttypid
			UNION ALL SELECT y.typtype, y.typbasetype FROM d JOIN pg_type y ON y.oid = d.typbasetype WHERE d.typtype = 'd')
			SELECT ascii(d.typtype::text) FROM d WHERE d.typtype IN ('c', 'r', 'm')), 0),
		a.attnum, a.xmin::text::int8, age(a.xmin),
		coalesce((WITH RECURSIVE d AS (SELECT a.atttypid AS id
			UNION SELECT u.id FROM d JOIN pg_type y ON y.oid = d.id,
				LATERAL (VALUES (y.typbasetype), (y.typelem)) AS u(id) WHERE u.id <> 0)
			SELECT string_agg(v.oid || '=' || v.enumlabel || chr(10), '' ORDER BY v.oid)
			FROM d JOIN pg_enum v ON v.enumtypid = d.id), '')
		FROM pg_attribute a
		LEFT JOIN pg_index p ON p.indrelid = a.attrelid AND p.indisprimary AND p.indimmediate AND p.indisvalid
		LEFT JOIN pg_index r ON r.indrelid = a.attrelid AND r.indisreplident AND r.indisvalid
		WHERE a.attrelid = ANY ($1::int8[]::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
		ORDER BY a.attrelid, a.attnum`

// readColumns fills in columns and keys.
func readColumns(ctx context.Context, c *pgx.Conn, tables map[uint32]*table) error {
	oids := make([]int64, 0, len(tables))
	for oid := range tables {
		oids = append(oids, int64(oid))
	}
	rows, err := c.Query(ctx, columnsQuery, oids)
	if err != nil {
		return fmt.Errorf("postgres: read the columns: %w", err)
	}
	replica := map[uint32][]string{}
	for rows.Next() {
		var rel, typeOID, stamp int64
		var generated string
		var inPrimary, inReplica bool
		var age int32
		col := column{}
		if err := rows.Scan(&rel, &col.Name, &col.Type, &typeOID, &col.TypeMod, &col.NotNull, &generated,
			&col.selectable, &col.Collation, &inPrimary, &inReplica, &col.Base, &col.Kind, &col.Number,
			&stamp, &age, &col.Labels); err != nil {
			return fmt.Errorf("postgres: read the columns: %w", err)
		}
		t := tables[uint32(rel)]
		col.TypeOID, col.Stamp, col.altered = uint32(typeOID), uint32(stamp), stampOf(uint32(stamp), age)
		if generated != "" {
			col.generated = generated[0]
		}
		if inPrimary {
			t.primary = append(t.primary, col.Name)
		}
		if inReplica {
			replica[t.oid] = append(replica[t.oid], col.Name)
		}
		t.columns = append(t.columns, col)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("postgres: read the columns: %w", err)
	}
	for oid, t := range tables {
		switch t.identity {
		case 'i':
			t.key = replica[oid]
		case 'd', 'f':
			t.key = t.primary
		}
		for i := range t.columns {
			t.virtual = t.virtual || t.full() && t.columns[i].generated == 'v'
			t.columns[i].Key = contains(t.key, t.columns[i].Name)
		}
	}
	return nil
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// relation describes a table as the log will, once it is published with these
// columns. A generated column is in the log only where the publication says so.
func (t *table) relation(withGenerated bool, published []string) *record.Relation {
	r := &record.Relation{
		Schema: t.schema, Name: t.name, OID: t.oid, File: t.file, Identity: identityOf(t.identity),
	}
	for _, col := range t.columns {
		if col.generated != 0 && !(withGenerated && col.generated == 's') {
			continue
		}
		if published != nil && !contains(published, col.Name) {
			continue
		}
		r.Columns = append(r.Columns, col.Column)
	}
	return r
}

func names(list []string) string { return strings.Join(list, ", ") }
