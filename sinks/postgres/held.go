package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// What a table holds was written by all epochs up to the progress row's, so it must still be
// the table that they were written to: one that was dropped and made again, or a column of it,
// has lost what came before, and nothing that comes later brings it back. The progress row
// keeps which table and columns each output has been written to, as a whole and from then on:
// the oid, and the numbers of its columns, which are never given twice.

// missing is a column that is not there in what heldAs returns.
const missing = "-"

// heldAs is what tells a table, and the columns that an output writes, from any that are made
// again under their names.
func (t *table) heldAs(oid uint32, cols []catalogColumn) string {
	var b strings.Builder
	b.WriteString(strconv.FormatUint(uint64(oid), 10))
	for i := range t.columns {
		number := missing
		if j := slices.IndexFunc(cols, func(k catalogColumn) bool { return k.name == t.columns[i].name }); j >= 0 {
			number = strconv.Itoa(cols[j].number)
		}
		b.WriteString(" " + number)
	}
	return b.String()
}

// heldKey names an output in the progress row.
func (t *table) heldKey() string { return strconv.FormatUint(uint64(t.id), 10) }

// loadHeld reads what the outputs have been written to, where that is of moment: nothing is if
// all rows come anew, or the row says nothing of tables.
func (w *writer) loadHeld(ctx context.Context) error {
	var value []byte
	err := w.conn.QueryRow(ctx, "SELECT held FROM "+w.progress.sql()+" WHERE app = $1 AND target = $2 "+
		"AND incarnation = $3 AND seq IS NOT NULL", w.app, w.target, w.incarnation).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	held := map[string]string{}
	if err == nil {
		err = json.Unmarshal(value, &held)
	}
	for _, t := range w.tables {
		was, ok := held[t.heldKey()]
		switch {
		case len(held) == 0 || t.whole || t.events:
		case ok:
			t.was = was
		default:
			t.was = missing
		}
	}
	return w.wrap("reading the progress row", nil, err)
}

// checkHeld refuses a table that is not the one that was written to; with oid 0 there is none.
// An output whose whole content is on its way may have any.
func (w *writer) checkHeld(t *table, oid uint32, p *problems) (ok bool) {
	if t.was == "" || t.was == t.made {
		return true
	}
	was, now := strings.Fields(t.was), strings.Fields(t.made)
	if oid != 0 && slices.Contains(now, missing) {
		return true // which the table's own check has said
	}
	what := "is not the one that the output was written to until now, whose rows it lacks"
	switch {
	case oid == 0:
		p.addf("output %q: there is no table %s, and the rows that were written until now are not to be had "+
			"again; %s", t.output, t.name.sql(), t.remedyAnew())
		return false
	case len(was) == len(now) && was[0] == now[0]:
		var columns []string
		for i := range t.columns {
			if was[i+1] != now[i+1] {
				columns = append(columns, quote(t.columns[i].name))
			}
		}
		what = "has columns that were made again, so that the rows of before lack their values: " +
			strings.Join(columns, ", ")
	}
	p.addf("output %q: table %s %s; %s. If it holds all rows, as after a restore from a dump, run: "+
		"UPDATE %s SET held = '{}' WHERE app = %s AND target = %s", t.output, t.name.sql(), what, t.remedyAnew(),
		w.progress.sql(), literal(w.app), literal(w.target))
	return true
}

func (t *table) remedyAnew() string {
	return "raise the Version of the output's topology (topology.Version), and all rows are written anew"
}

// heldNow are the tables as they are, but for those whose whole content is on its way.
func (w *writer) heldNow() map[string]string {
	held := map[string]string{}
	for _, t := range w.tables {
		if !t.whole && !t.events {
			held[t.heldKey()] = t.made
		}
	}
	return held
}

// heldSQL fails unless each name is that of the table it was; see advanceSQL.
const heldSQL = "SELECT 1 / (count(*) = 0)::int " +
	"FROM pg_catalog.jsonb_each_text($1::jsonb) AS e (name, oid) " +
	"WHERE pg_catalog.to_regclass(e.name)::oid::text IS DISTINCT FROM e.oid"

// demandHeld has a transaction fail where a table is another one than when the target was
// opened: nothing else would tell, since its name is all that the statements know.
func (t *transaction) demandHeld() error {
	oids := map[string]string{}
	for _, tab := range t.w.tables {
		if !tab.events {
			oids[tab.name.sql()], _, _ = strings.Cut(tab.made, " ")
		}
	}
	if len(oids) == 0 {
		return nil
	}
	param, err := json.Marshal(oids)
	if err != nil {
		return err
	}
	t.queue(nil, heldSQL, param)
	return nil
}

// replaced says which tables made heldSQL fail.
func (w *writer) replaced(ctx context.Context) error {
	if _, err := w.conn.Exec(ctx, "ROLLBACK"); err != nil {
		return w.wrap("rolling back", nil, err)
	}
	p := problems{}
	for _, t := range w.tables {
		oid, err := w.relation(ctx, t.name, &problems{})
		if err != nil {
			return err
		}
		if was, _, _ := strings.Cut(t.made, " "); !t.events && was != strconv.FormatUint(uint64(oid), 10) {
			p.addf("table %s was dropped, or another has its name, while it is written; restore it, or restart to "+
				"see every difference", t.name.sql())
		}
	}
	if len(p.list) == 0 { // It is back by now.
		return fmt.Errorf("sinks/postgres: target %q: a table was away while it is written", w.target)
	}
	return p.err(w.target)
}

// holds notes, in the transaction that writes a table as a whole, what is written to.
func (t *transaction) holds(ctx context.Context, tab *table) error {
	w := t.w
	oid, err := w.relation(ctx, tab.name, &problems{})
	if err != nil {
		return err
	}
	cols, err := w.catalogColumns(ctx, oid)
	if err != nil {
		return err
	}
	tab.made, tab.whole = tab.heldAs(oid, cols), false
	_, err = w.conn.Exec(ctx, "UPDATE "+w.progress.sql()+
		" SET held = held || pg_catalog.jsonb_build_object($5::text, $6::text)"+ours,
		w.app, w.target, w.incarnation, w.session, tab.heldKey(), tab.made)
	return w.wrap("noting the table", tab, err)
}
