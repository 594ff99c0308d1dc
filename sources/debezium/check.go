package debezium

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/record"
)

// Problem is something that a connector does to a table which its records do not show.
type Problem struct {
	// Table and Column name the place, Column is "" for the whole table and Table for all.
	Table, Column string
	// Lost is the operation that is not sent, "" where it is not that.
	Lost string
	// Reason says what goes wrong, Remedy what mends it.
	Reason, Remedy string
}

// String is the problem on one line.
func (p Problem) String() string {
	at := p.Table
	if p.Column != "" {
		at += "." + p.Column
	}
	if at != "" {
		at += ": "
	}
	return at + p.Reason + "; " + p.Remedy
}

// Check finds what a connector with this configuration (as Kafka Connect's REST
// interface returns it) does to tables without a trace in the records: values that are
// replaced, left out or cut, operations that are not sent, keys that are wrong. The
// tables are those of ReadCatalog. Only columns that are read are looked at. The error
// says which option cannot be understood.
func Check(tables []Table, config map[string]string) ([]Problem, error) {
	modes, err := ModesOf(config)
	if err != nil {
		return nil, err
	}
	c := &checker{modes: modes, config: config}
	c.connector()
	for i := range tables {
		t := &tables[i]
		c.table(t)
		for j := range t.Columns {
			if col := &t.Columns[j]; t.reads(col.Name) || col.Key {
				c.column(t, col)
			}
		}
	}
	return c.problems, nil
}

type checker struct {
	modes    Modes
	config   map[string]string
	problems []Problem
}

func (c *checker) add(t *Table, col *Column, reason, remedy string) {
	p := Problem{Reason: reason, Remedy: remedy}
	if t != nil {
		p.Table = t.Name
	}
	if col != nil {
		p.Column = col.Name
	}
	c.problems = append(c.problems, p)
}

// flattening returns the alias of an ExtractNewRecordState transform, "" without.
func (c *checker) flattening() string {
	for alias := range strings.SplitSeq(c.config["transforms"], ",") {
		alias = strings.TrimSpace(alias)
		if strings.HasSuffix(c.config["transforms."+alias+".type"], ".ExtractNewRecordState") {
			return alias
		}
	}
	return ""
}

// connector looks at what concerns all tables.
func (c *checker) connector() {
	skipped, ok := c.config["skipped.operations"]
	if !ok {
		skipped = "t"
	}
	for letter, op := range map[string]string{"c": "INSERT", "u": "UPDATE", "d": "DELETE", "t": "TRUNCATE"} {
		if slices.Contains(strings.Split(strings.ReplaceAll(skipped, " ", ""), ","), letter) {
			c.problems = append(c.problems, Problem{Lost: op, Reason: op + " is not sent",
				Remedy: "set skipped.operations=none"})
		}
	}
	slices.SortFunc(c.problems, func(a, b Problem) int { return strings.Compare(a.Lost, b.Lost) })
	alias := c.flattening()
	if alias == "" {
		return
	}
	option := "transforms." + alias + ".delete.tombstone.handling.mode"
	mode := c.config[option]
	old := c.config["transforms."+alias+".delete.handling.mode"]
	drops := mode == "drop" ||
		mode == "" && old == "drop" && c.config["transforms."+alias+".drop.tombstones"] != "false"
	if drops || (mode == "" || mode == "tombstone") && old == "" && c.config["tombstones.on.delete"] == "false" {
		c.problems = append(c.problems, Problem{Lost: "DELETE", Reason: "deletes are not sent",
			Remedy: "set " + option + "=rewrite, or tombstone with tombstones.on.delete=true"})
	}
}

// table looks at a table's key.
func (c *checker) table(t *Table) {
	key := keyOption(c.config, t.Name)
	var identity []string
	for i := range t.Columns {
		if t.Columns[i].Key {
			identity = append(identity, t.Columns[i].Name)
		}
	}
	switch {
	case key != nil && t.Identity != record.IdentityFull && !slices.Equal(slices.Sorted(slices.Values(key)),
		slices.Sorted(slices.Values(identity))):
		c.add(t, nil, "message.key.columns names columns whose old values the log does not hold, so deletes carry "+
			"made-up keys", "ALTER TABLE ... REPLICA IDENTITY FULL")
	case key == nil && len(t.PrimaryKey) == 0 && !t.InsertsOnly:
		c.add(
			t,
			nil,
			"the table has no primary key: its records have no key, or that of a unique index whose columns "+
				"may be NULL",
			"add a primary key, or set message.key.columns and REPLICA IDENTITY FULL",
		)
	case key == nil && t.Identity == record.IdentityIndex && !slices.Equal(identity, t.PrimaryKey):
		c.add(t, nil, "under REPLICA IDENTITY USING INDEX deletes carry a made-up primary key, and changes of the "+
			"primary key leave the old row", "ALTER TABLE ... REPLICA IDENTITY DEFAULT, or set message.key.columns")
	}
	if t.Partitioned && c.config["publication.autocreate.mode"] != "filtered" {
		c.add(
			t,
			nil,
			"with a publication FOR ALL TABLES the snapshot reads a partitioned table twice, from the root "+
				"and from the leaves",
			"publish the table by name, with publish_via_partition_root",
		)
	}
	if t.Identity == record.IdentityNothing && !t.InsertsOnly {
		c.add(
			t,
			nil,
			"with REPLICA IDENTITY NOTHING the server refuses updates and deletes once they are published",
			"ALTER TABLE ... REPLICA IDENTITY DEFAULT",
		)
	}
}

// column looks at what happens to a column's values.
func (c *checker) column(t *Table, col *Column) {
	typ := parseSQLType(col.sqlName())
	if c.filtered(t, col) {
		return
	}
	w := c.modes.wireOf(col)
	if w == nil {
		c.add(
			t,
			col,
			"the connector leaves out columns of type "+col.Type,
			"set include.unknown.datatypes=true, or "+
				"leave the column out of the topology",
		)
		return
	}
	conv, err := convOf(w, col, &c.modes)
	if err != nil {
		c.add(t, col, err.Error(), "leave the column out of the topology")
		return
	}
	if conv.lossy != "" {
		c.add(t, col, conv.lossy, "or accept it with Config.AcceptLossy")
	}
	if col.Generated {
		c.add(t, col, "a generated column is in snapshots but not in what follows", "leave it out of the topology")
	}
	if col.HasDefault && !col.NotNull && c.config["value.converter.replace.null.with.default"] != "false" {
		c.add(t, col, "a NULL is written as the column's default", "set "+
			"value.converter.replace.null.with.default=false, or make the column NOT NULL")
	}
	c.byType(t, col, typ)
	c.toasted(t, col, typ)
}

// byType looks at values that some types lose.
func (c *checker) byType(t *Table, col *Column, typ sqlType) {
	switch {
	case typ.dims > 0 && (col.Dims > 1 || typ.dims > 1):
		c.add(t, col, "arrays of several dimensions become nulls or names of Java objects",
			"leave the column out of the topology")
	case typ.dims > 0 && (col.Enum || typ.base == "ltree"):
		c.add(t, col, "an array with a NULL in it is written as NULL", "see that no element is NULL")
	case typ.dims > 0:
		c.add(
			t,
			col,
			"the bounds of an array that does not begin at 1, and its dimensions if it has several, are lost",
			"see that the column has none of these",
		)
	case typ.base == "numeric" && c.modes.Decimal == "precise":
		c.add(
			t,
			col,
			"NaN and the infinities are written as NULL, and stop the connector if the column is NOT NULL",
			"set decimal.handling.mode=string",
		)
	case typ.base == "time without time zone" && c.modes.Time == "isostring":
		c.add(t, col, "24:00:00 is written as 00:00:00", "set time.precision.mode=adaptive")
	case typ.base == "timestamp without time zone" && c.modes.Time == "nanoseconds":
		c.add(
			t,
			col,
			"timestamps before 1677 and after 2262 are written as NULL",
			"set time.precision.mode=adaptive",
		)
	case typ.base == "date" && c.flattening() != "" && c.config["snapshot.mode"] != "no_data":
		c.add(
			t,
			col,
			"dates before 1582-10-15 are of another calendar in snapshots, which flattened records do not "+
				"tell",
			"set add.fields=op",
		)
	}
}

// toasted looks at large values that an update leaves alone: some types have no
// placeholder for them.
func (c *checker) toasted(t *Table, col *Column, typ sqlType) {
	if !col.Toastable || t.Identity == record.IdentityFull {
		return
	}
	lost := false
	switch typ.base {
	case "numeric":
		lost = typ.dims > 0 || c.modes.Decimal != "string"
	case "smallint":
		lost = typ.dims > 0
	case "bit varying", "bit":
		lost = true
	case "bytea":
		lost = c.modes.Binary != "bytes"
	}
	if lost {
		c.add(t, col, "a large value that an update leaves alone is written as NULL",
			"ALTER TABLE ... REPLICA IDENTITY FULL, or ALTER COLUMN ... SET STORAGE PLAIN")
	}
}

// filtered looks at the connector's own changes of values.
func (c *checker) filtered(t *Table, col *Column) bool {
	name := t.Name + "." + col.Name
	for _, option := range slices.Sorted(maps.Keys(c.config)) {
		list := c.config[option]
		switch {
		case strings.HasPrefix(option, "column.mask.") || strings.HasPrefix(option, "column.truncate."):
			if matches(list, name) {
				c.add(t, col, fmt.Sprintf("%s changes the values", option), "leave the column out of the topology")
			}
		case option == "column.exclude.list" && matches(list, name),
			option == "column.include.list" && !matches(list, name) && !col.Key:
			c.add(t, col, option+" leaves the column out", "leave it out of the topology, too")
			return true
		}
	}
	return false
}

// matches reports whether one of a list of regular expressions is a name as a whole.
func matches(list, name string) bool {
	for pattern := range strings.SplitSeq(list, ",") {
		re, err := regexp.Compile("(?i)^(?:" + strings.TrimSpace(pattern) + ")$")
		if err == nil && re.MatchString(name) {
			return true
		}
	}
	return false
}
