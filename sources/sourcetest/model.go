package sourcetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// Model is the oracle of a session: the tables as its reader has them, kept by the rules
// that a reader relies on. Keys are those of the identity, and what an update leaves out is
// the row's last value. It holds batches to the contract while it applies them.
type Model struct {
	T testing.TB
	// Tables are the rows by table, key and column; a NULL has no entry. The key is the
	// text of the key's columns, each followed by "|".
	Tables map[string]map[string]map[string]string
	// Events are the rows as they came, one line each.
	Events []string
	// Commits are the positions of the transactions that ended, in order.
	Commits []uint64
	// Messages are the logical messages, as prefix=content.
	Messages []string
	// Snapshot counts the rows of snapshots.
	Snapshot int
	// Position is what has been read whole; Open is the transaction at work, nil between
	// two.
	Position uint64
	Open     *record.Tx

	ordinal int64
}

// NewModel returns the oracle of a reader that has nothing yet.
func NewModel(t testing.TB) *Model {
	return &Model{T: t, Tables: map[string]map[string]map[string]string{}}
}

// Apply checks the contract of batches and applies one.
func (m *Model) Apply(b *sources.Batch) {
	m.T.Helper()
	for _, tx := range b.Txs {
		if m.Open != nil && m.Open != tx.Tx {
			m.T.Fatalf("transaction %d begins inside transaction %d", tx.Tx.XID, m.Open.XID)
		}
		if m.Open == nil {
			m.ordinal = -1
		}
		m.Open = tx.Tx
		for i := range tx.Rows {
			if int64(tx.Rows[i].Ordinal) <= m.ordinal {
				m.T.Fatalf("ordinal %d after %d", tx.Rows[i].Ordinal, m.ordinal)
			}
			m.ordinal = int64(tx.Rows[i].Ordinal)
			m.row(tx.Tx, &tx.Rows[i])
		}
		for _, msg := range tx.Messages {
			m.Messages = append(m.Messages, msg.Prefix+"="+string(msg.Content))
		}
		if tx.Last {
			m.end(tx.Tx)
		}
	}
	if b.Idle != 0 && m.Open == nil {
		m.Position = max(m.Position, b.Idle)
	}
}

// end ends a transaction: positions ascend, and stand behind the commit.
func (m *Model) end(tx *record.Tx) {
	if tx.Position <= m.Position {
		m.T.Fatalf("position %s after %s", record.LSN(tx.Position), record.LSN(m.Position))
	}
	if tx.CommitStart >= tx.Position {
		m.T.Fatalf("the commit begins at %s and ends at %s", record.LSN(tx.CommitStart), record.LSN(tx.Position))
	}
	m.Position, m.Open = tx.Position, nil
	m.Commits = append(m.Commits, tx.Position)
}

func (m *Model) row(tx *record.Tx, r *record.Row) {
	name := r.Rel.String()
	table := m.Tables[name]
	if table == nil {
		table = map[string]map[string]string{}
		m.Tables[name] = table
	}
	m.Events = append(m.Events, fmt.Sprintf("%s %s old=%s new=%s", r.Op, name, Text(r.Old), Text(r.New)))
	if tx.Snapshot {
		m.Snapshot++
	}
	switch r.Op {
	case record.Truncate:
		clear(table)
	case record.Delete:
		if _, ok := table[key(r.Rel, r.Old)]; !ok && key(r.Rel, r.Old) != "" {
			m.T.Errorf("delete of a row that is not there: %s %s", name, Text(r.Old))
		}
		delete(table, key(r.Rel, r.Old))
	default:
		m.put(table, r)
	}
}

// put applies an insert or update.
func (m *Model) put(table map[string]map[string]string, r *record.Row) {
	k := key(r.Rel, r.New)
	old := k
	if r.OldKind != record.OldNone {
		old = key(r.Rel, r.Old)
	}
	last := table[old]
	if (last == nil) != (r.Op == record.Insert) && k != "" {
		m.T.Errorf("%s of %s %s with last value %v", r.Op, r.Rel, k, last)
	}
	row := map[string]string{}
	for i, v := range r.New {
		col := r.Rel.Columns[i].Name
		switch v.Kind {
		case record.Text:
			row[col] = string(v.Data)
		case record.Unchanged:
			if value, ok := last[col]; ok {
				row[col] = value
			}
		}
	}
	if k == "" {
		k = fmt.Sprintf("#%d", len(table))
	}
	delete(table, old)
	table[k] = row
}

func key(rel *record.Relation, tuple record.Tuple) string {
	var b strings.Builder
	for i, c := range rel.Columns {
		if c.Key {
			b.WriteString(string(tuple[i].Data) + "|")
		}
	}
	return b.String()
}

// Text is the readable form of a tuple.
func Text(t record.Tuple) string {
	parts := make([]string, len(t))
	for i, v := range t {
		switch v.Kind {
		case record.Null:
			parts[i] = "NULL"
		case record.Unchanged:
			parts[i] = "UNCHANGED"
		default:
			parts[i] = string(v.Data)
		}
	}
	return "(" + strings.Join(parts, ",") + ")"
}
