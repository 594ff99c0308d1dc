package walsender

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// result is what a statement answers.
type result struct {
	fields []pgproto3.FieldDescription
	rows   [][][]byte // nil where the statement has none
	copied bool       // lines are the rows of a COPY
	lines  []string
}

// none answers with rows of which there are none.
func none() *result { return &result{rows: [][][]byte{}} }

// row is one row; the types of its columns are those of the values.
func row(values ...any) *result { return none().add(values...) }

func (r *result) add(values ...any) *result {
	var out [][]byte
	r.fields = nil
	for i, v := range values {
		oid, text := uint32(25), []byte(fmt.Sprint(v))
		switch v := v.(type) {
		case bool:
			oid, text = 16, []byte(strconv.FormatBool(v)[:1])
		case int64:
			oid = 20
		case int16:
			oid = 21
		case int32:
			oid = 23
		case float64:
			oid = 701
		case []string: // nil is NULL, and nothing else is asked for
			oid, text = 1009, nil
		}
		r.fields = append(r.fields, pgproto3.FieldDescription{
			Name: []byte(strconv.Itoa(i)), DataTypeOID: oid, DataTypeSize: -1, TypeModifier: -1,
		})
		out = append(out, text)
	}
	r.rows = append(r.rows, out)
	return r
}

func lsn(n uint64) string { return fmt.Sprintf("%X/%X", n>>32, uint32(n)) }

// array reads an array of what needs no quotes, or has no commas.
func array(text string) (out []string) {
	for v := range strings.SplitSeq(strings.Trim(text, "{}"), ",") {
		if v != "" {
			out = append(out, strings.Trim(v, `"`))
		}
	}
	return out
}

// altered is the transaction that made all tables.
const altered = 700

// query is a statement that is known by a part of it.
type query struct {
	part   string
	answer func(b *backend, sql string, args []string) (*result, error)
}

func says(values ...any) func(*backend, string, []string) (*result, error) {
	return func(*backend, string, []string) (*result, error) { return row(values...), nil }
}

func nothing(*backend, string, []string) (*result, error) { return none(), nil }

func done(*backend, string, []string) (*result, error) { return &result{}, nil }

// queries are all that is known. The first one that fits answers.
var queries = []query{
	{"current_setting('wal_level')", (*backend).settings},
	{"AS w(s, t, i)", (*backend).findTables},
	{"pg_partition_ancestors(t.id", nothing},
	{"a.attnotnull OR (SELECT y.typnotnull", (*backend).columns},
	{"AND attisdropped", nothing},
	{"FROM pg_publication p WHERE", (*backend).publications},
	{"FROM pg_publication_tables t", (*backend).members},
	{"FROM pg_replication_slots WHERE slot_name", (*backend).slotRow},
	{"pg_drop_replication_slot(", (*backend).dropSlot},
	{"pg_try_advisory_lock(", (*backend).lock},
	{"IS DISTINCT FROM pg_relation_filenode", nothing},
	{"coalesce(pg_relation_filenode($1", says(int64(1))},
	{"pg_relation_size(c.oid)", (*backend).size},
	{"FROM pg_locks", says("")},
	{"EXISTS (SELECT FROM pg_catalog.pg_stat_activity", says(false)},
	{"FROM pg_stat_activity WHERE pid", nothing},
	{"pg_control_system()", says("7000000000000000001/shop")},
	{"pg_export_snapshot()", (*backend).export},
	{"pg_current_snapshot()", func(b *backend, _ string, _ []string) (*result, error) {
		return row(b.s.snapshot()), nil
	}},
	{"(pg_current_wal_lsn() - '0/0')", func(b *backend, _ string, _ []string) (*result, error) {
		return row(int64(b.s.head)), nil
	}},
	{"SELECT pg_catalog.pg_is_in_recovery()", says(false)},
	{"pg_catalog.pg_backend_pid()", func(b *backend, _ string, _ []string) (*result, error) {
		return row(b.pid), nil
	}},
	{"IDENTIFY_SYSTEM", func(b *backend, _ string, _ []string) (*result, error) {
		return row("7000000000000000001", int32(1), lsn(b.s.head), "shop"), nil
	}},
	{"CREATE_REPLICATION_SLOT ", (*backend).createSlot},
	{"SET TRANSACTION SNAPSHOT ", (*backend).importSnapshot},
	{"CREATE PUBLICATION ", (*backend).createPublication},
	{"COMMENT ON PUBLICATION ", (*backend).comment},
	{"COPY (SELECT ", (*backend).copyOut},
	{" LIMIT 0", nothing},
	{"SET ", done},
	{"BEGIN", (*backend).begin},
	{"begin", (*backend).begin},
	{"SAVEPOINT ", done},
	{"COMMIT", (*backend).commit},
	{"commit", (*backend).commit},
	{"ROLLBACK", (*backend).rollback},
	{"rollback", (*backend).rollback},
}

// execute answers a statement. s.mu is held.
func (b *backend) execute(sql string, args []string) (*result, error) {
	for _, q := range queries {
		if strings.Contains(sql, q.part) {
			return q.answer(b, sql, args)
		}
	}
	return nil, b.s.puzzled("a statement that is not known: %s", sql)
}

func (b *backend) begin(string, []string) (*result, error) {
	b.inTx = true
	return &result{}, nil
}

func (b *backend) commit(string, []string) (*result, error) {
	for _, do := range b.commits {
		do()
	}
	return b.rollback("", nil)
}

func (b *backend) rollback(string, []string) (*result, error) {
	b.inTx, b.at, b.commits = false, 0, nil
	return &result{}, nil
}

// does does something, with the transaction if there is one.
func (b *backend) does(do func()) (*result, error) {
	if b.inTx {
		b.commits = append(b.commits, do)
	} else {
		do()
	}
	return &result{}, nil
}

// snapshot is what a transaction would see now. s.mu is held.
func (s *Server) snapshot() string {
	oldest, running := s.xid+1, []string(nil)
	for _, tx := range s.open {
		oldest = min(oldest, tx.XID)
		running = append(running, strconv.FormatUint(uint64(tx.XID), 10))
	}
	return fmt.Sprintf("%d:%d:%s", oldest, s.xid+1, strings.Join(running, ","))
}

func (b *backend) settings(string, []string) (*result, error) {
	slots, senders := int32(0), int32(0)
	if b.s.slot != nil {
		slots = 1
	}
	return row("logical", "UTF8", false, "shop", "tailrace", false, false, true, slots, int32(10), senders,
		int32(10), b.s.snapshot()), nil
}

func (b *backend) findTables(_ string, args []string) (*result, error) {
	out := none()
	names, asked := array(args[1]), array(args[2])
	for i, schema := range array(args[0]) {
		n, err := strconv.Atoi(asked[i])
		if err != nil {
			return nil, err
		}
		for _, t := range b.s.tables {
			if schema != "public" || t.Name != names[i] {
				continue
			}
			identity := "d"
			if t.Full {
				identity = "f"
			}
			out.add(int32(n), int64(t.OID), schema, t.Name, "r", "p", identity, false, false, true, "tailrace",
				true, float64(0), int64(1))
		}
	}
	return out, nil
}

func (c *Column) typeOID() int64 {
	if c.Int {
		return 20
	}
	return 25
}

func (c *Column) typeName() string {
	if c.Int {
		return "bigint"
	}
	return "text"
}

func (b *backend) columns(_ string, args []string) (*result, error) {
	out := none()
	for _, t := range b.s.tables {
		if !slices.Contains(array(args[0]), fmt.Sprint(t.OID)) {
			continue
		}
		for i, c := range t.Columns {
			out.add(int64(t.OID), c.Name, c.typeName(), c.typeOID(), int32(-1), true, "", true, "", i == 0, false,
				"", int32(0), int16(i+1), int64(altered), int32(b.s.xid-altered), "")
		}
	}
	return out, nil
}

func (b *backend) publications(_ string, args []string) (*result, error) {
	out := none()
	for i, p := range b.s.pubs {
		if slices.Contains(array(args[0]), p.name) {
			out.add(int64(9000+i), p.name, p.comment, "tailrace", true, false,
				true, !p.insertOnly, !p.insertOnly, !p.insertOnly, true, false)
		}
	}
	return out, nil
}

func (b *backend) members(_ string, args []string) (*result, error) {
	out := none()
	for _, p := range b.s.pubs {
		if !slices.Contains(array(args[0]), p.name) {
			continue
		}
		for _, t := range b.s.tables {
			if slices.Contains(p.tables, t.Name) {
				out.add(p.name, int64(t.OID), fmt.Sprint("r", t.OID), "public", t.Name, []string(nil), "",
					[]string(nil))
			}
		}
	}
	return out, nil
}

var (
	named    = regexp.MustCompile(`PUBLICATION "(\w+)"`)
	member   = regexp.MustCompile(`"public"\."(\w+)"`)
	remark   = regexp.MustCompile(` IS '(.*)'`)
	exported = regexp.MustCompile(`SNAPSHOT '([^']+)'`)
	slotName = regexp.MustCompile(`SLOT "(\w+)"`)
	copies   = regexp.MustCompile(`COPY \(SELECT (.*) FROM ONLY "public"\."(\w+)" WHERE (.*)\) TO STDOUT`)
	from     = regexp.MustCompile(`ctid >= '\((\d+),0\)'`)
	to       = regexp.MustCompile(`ctid < '\((\d+),0\)'`)
)

// part returns what a pattern found.
func part(p *regexp.Regexp, sql string) string {
	if m := p.FindStringSubmatch(sql); m != nil {
		return m[1]
	}
	return ""
}

func (b *backend) createPublication(sql string, _ []string) (*result, error) {
	p := &publication{name: part(named, sql), insertOnly: !strings.Contains(sql, "update")}
	for _, m := range member.FindAllStringSubmatch(sql, -1) {
		p.tables = append(p.tables, m[1])
	}
	return b.does(func() { b.s.pubs = append(b.s.pubs, p) })
}

func (b *backend) comment(sql string, _ []string) (*result, error) {
	name, text := part(named, sql), part(remark, sql)
	return b.does(func() {
		for _, p := range b.s.pubs {
			if p.name == name {
				p.comment = text
			}
		}
	})
}

func (b *backend) slotRow(_ string, args []string) (*result, error) {
	l := b.s.slot
	if l == nil || l.name != args[0] {
		return none(), nil
	}
	status, restart := "reserved", l.confirmed
	if l.lost {
		status = "lost"
	}
	for _, tx := range b.s.open {
		restart = min(restart, tx.begun)
	}
	pid := int32(0)
	if l.active() {
		pid = l.pid
	}
	return row("pgoutput", "shop", true, l.active(), pid, lsn(restart), lsn(l.confirmed), status, "",
		lsn(b.s.head)), nil
}

func (l *slot) active() bool { return l.reader != nil || time.Now().Before(l.until) }

func (b *backend) dropSlot(_ string, args []string) (*result, error) {
	l := b.s.slot
	switch {
	case l == nil || l.name != args[0]:
		return nil, &fault{"42704", "replication slot does not exist"}
	case l.active():
		return nil, &fault{"55006", "replication slot is active"}
	}
	b.s.slot = nil
	return row(""), nil
}

func (b *backend) createSlot(sql string, _ []string) (*result, error) {
	if b.s.slot != nil {
		return nil, &fault{"42710", "replication slot already exists"}
	}
	point := b.s.head
	b.s.slot = &slot{name: part(slotName, sql), point: point, confirmed: point, written: point}
	if b.s.slot.name == "" {
		b.s.slot.name = strings.Fields(sql)[1]
	}
	name := fmt.Sprintf("slot-%d", b.pid)
	b.s.exports[name] = point
	return row(b.s.slot.name, lsn(point), name, "pgoutput"), nil
}

func (b *backend) export(string, []string) (*result, error) {
	name := fmt.Sprintf("again-%d", b.pid)
	b.s.exports[name] = b.at
	return row(name, time.Now().UnixMicro()), nil
}

func (b *backend) importSnapshot(sql string, _ []string) (*result, error) {
	at, ok := b.s.exports[part(exported, sql)]
	if !ok {
		return nil, &fault{"22023", "invalid snapshot identifier"}
	}
	b.inTx, b.at = true, at
	return &result{}, nil
}

func (b *backend) lock(_ string, args []string) (*result, error) {
	holder := b.s.locks[args[0]]
	if holder == nil {
		b.s.locks[args[0]] = b
	}
	return row(holder == nil || holder == b), nil
}

// perPage is how many rows are in a page of a table.
const perPage = 7

func (b *backend) size(_ string, args []string) (*result, error) {
	for _, t := range b.s.tables {
		if fmt.Sprint(t.OID) == args[0] {
			pages := int64(len(b.s.rows(t, b.at))/perPage + 1)
			return row("public", t.Name, "r", float64(perPage*pages), pages, pages, true), nil
		}
	}
	return none(), nil
}

// copyOut gives the rows in a range of a table's pages, as of the snapshot.
func (b *backend) copyOut(sql string, _ []string) (*result, error) {
	m := copies.FindStringSubmatch(sql)
	if m == nil {
		return nil, b.s.puzzled("a copy that is not known: %s", sql)
	}
	i := slices.IndexFunc(b.s.tables, func(t *Table) bool { return t.Name == m[2] })
	if i < 0 {
		return nil, &fault{"42P01", "no such table"}
	}
	t := b.s.tables[i]
	first, _ := strconv.Atoi(part(from, m[3]))
	last, err := strconv.Atoi(part(to, m[3]))
	if err != nil {
		last = 1 << 30
	}
	out := &result{copied: true}
	for n, r := range b.s.rows(t, b.at) {
		if n/perPage < first || n/perPage >= last {
			continue
		}
		var values []string
		for name := range strings.SplitSeq(m[1], ", ") {
			c := slices.IndexFunc(t.Columns, func(c Column) bool { return `"`+c.Name+`"` == name })
			if c < 0 {
				return nil, &fault{"42703", "no such column"}
			}
			values = append(values, r[c])
		}
		out.lines = append(out.lines, strings.Join(values, "\t")+"\n")
	}
	return out, nil
}
