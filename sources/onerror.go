package sources

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// rowFailure asks a source's error policy about a row that cannot be used. key is the
// row's key as far as it is known.
func rowFailure(
	g *topology.Guard, n *topology.Node, tx *record.Tx, seq uint32, row *record.Row, key any, err error,
) error {
	f := &topology.Failure{Node: n, Key: key, Tx: tx, Err: err}
	ctx := record.Context{Node: n.Name, Time: time.UnixMicro(tx.CommitTime).UTC(), Tx: tx}
	return g.Failed(f, record.Tag{Tx: tx, Seq: seq, Ordinal: row.Ordinal}, ctx, func(l *topology.Letter) {
		l.Key, l.Value = tupleJSON(row.Rel, keyTuple(row), true), tupleJSON(row.Rel, row.New, false)
		l.Time, l.Relation = tx.CommitTime, row.Rel
	})
}

// letterRow is the inserted row that was set aside.
func letterRow(l *topology.Letter) (*record.Row, error) {
	var columns map[string]*string
	if l.Relation == nil {
		return nil, errors.New("sources: the letter says nothing of its table: an earlier release has kept it")
	}
	if err := json.Unmarshal(l.Value, &columns); err != nil {
		return nil, fmt.Errorf("sources: the row that was set aside cannot be read: %w", err)
	}
	row := &record.Row{Rel: l.Relation, Op: record.Insert, Ordinal: l.Tag.Ordinal}
	for _, c := range l.Relation.Columns {
		v := record.Value{Kind: record.Unchanged}
		if text, ok := columns[c.Name]; ok {
			if v.Kind = record.Null; text != nil {
				v = record.Value{Kind: record.Text, Data: []byte(*text)}
			}
		}
		row.New = append(row.New, v)
	}
	return row, nil
}

// tupleJSON is a row, or its key, as an object of its columns in the database's text
// form. A large value that the log leaves out is left out.
func tupleJSON(rel *record.Relation, tuple record.Tuple, keyOnly bool) []byte {
	if tuple == nil {
		return nil
	}
	columns := make(map[string]*string, len(tuple))
	for i, v := range tuple {
		if i >= len(rel.Columns) || keyOnly && !rel.Columns[i].Key || v.Kind == record.Unchanged {
			continue
		}
		columns[rel.Columns[i].Name] = nil
		if v.Kind == record.Text {
			text := string(v.Data)
			columns[rel.Columns[i].Name] = &text
		}
	}
	out, err := json.Marshal(columns)
	if err != nil {
		panic(fmt.Sprintf("sources: strings have JSON: %v", err))
	}
	return out
}
