package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/jackc/pgx/v5"
)

// insertSuffix makes the name of the second publication.
const insertSuffix = "_insert"

// maxPublication leaves room for the suffix in PostgreSQL's 63 bytes.
const maxPublication = 63 - len(insertSuffix)

// defaultSlot names an app's slot for a database. Different pairs get different
// names: where the plain form could be that of another pair, a hash follows.
func defaultSlot(app, database string) string {
	plain := func(s string) bool {
		return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
	}
	name := "tailrace_" + app + "_" + database
	if plain(app) && plain(database) && len(name) <= maxPublication {
		return name
	}
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, name)
	sum := sha256.Sum256([]byte(app + "\x00" + database))
	return clean[:min(len(clean), maxPublication-9)] + "_" + hex.EncodeToString(sum[:4])
}

// shortened cuts a name to n bytes without losing what tells it from others.
func shortened(name string, n int) string {
	sum := sha256.Sum256([]byte(name))
	return name[:n-9] + "_" + hex.EncodeToString(sum[:4])
}

// newcomerMark stands between the name of an app's slot and what follows in that of a slot of
// one of its newcomers.
const newcomerMark = "_join_"

// newcomerSlot names the slot of a session beside that of the app joins: the app's own
// default, a hash of who joins, and one of app, database and that. So the slots of an app's
// newcomers are known by their names without knowing who these were, and are never taken
// for those of an app whose name goes on where another's ends.
func newcomerSlot(joins, app, database string) string {
	who := hashed(app)
	return newcomerPrefix(joins, database) + who + "_" + hashed("newcomer", joins, database, who)
}

func newcomerPrefix(joins, database string) string {
	const most = 63 - len(newcomerMark) - 2*8 - 1
	name := defaultSlot(joins, database)
	if len(name) > most {
		name = shortened(name, most)
	}
	return name + newcomerMark
}

// ofNewcomer reports whether a slot's name is that of a newcomer of an app.
func ofNewcomer(slot, joins, database string) bool {
	rest, ok := strings.CutPrefix(slot, newcomerPrefix(joins, database))
	who, check, cut := strings.Cut(rest, "_")
	return ok && cut && check == hashed("newcomer", joins, database, who)
}

// hashed returns eight digits that stand for the words.
func hashed(words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return hex.EncodeToString(sum[:4])
}

// validName reports whether PostgreSQL can have a name as it is.
func validName(s string) bool {
	return s != "" && len(s) <= 63 && !strings.ContainsRune(s, 0)
}

// ident quotes a name for SQL. Every name in every statement of this package goes
// through it; values are parameters, or literal where a command takes none.
func ident(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// literal quotes a string for SQL under standard_conforming_strings, which the
// session sets.
func literal(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, "\x00", ""), "'", "''") + "'"
}
