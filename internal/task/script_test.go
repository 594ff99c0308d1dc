package task_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// TestScripts runs the sessions in testdata. -rewrite writes what comes out.
//
//	new NAME [one-step]      a task of a topology of topologies_test.go, empty state
//	begin POSITION [time=SECONDS] [snapshot]
//	rows                     a line a row: insert TABLE column=value ..., update, delete
//	                         (key columns), move TABLE column=old column=value ...,
//	                         truncate TABLE, message PREFIX CONTENT, alone PREFIX
//	                         CONTENT (a message outside of a transaction)
//	end                      the transaction ends
//	time SECONDS             a heartbeat, within a transaction
//	step
//	seal                     shows what Ready holds
//	committed                applies what was sealed and tells the task
//	rollback
//	crash                    a new task from what is committed
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &session{t: t}
		datadriven.RunTest(t, path, s.run)
	})
}

type session struct {
	t       *testing.T
	top     *topology.Topology
	oneStep bool
	parts   int // 0: it runs whole
	db      state.DB
	task    *task.Task
	ids     map[string]uint32
	tx      *record.Tx
	rows    uint32
	ready   *task.Ready
	saved   task.Checkpoint
	drops   map[string]int
	rels    map[string]*record.Relation
}

func (s *session) run(t *testing.T, d *datadriven.TestData) string {
	out, err := s.command(d)
	if err != nil {
		out += s.describe(err)
	}
	if out == "" {
		return "ok\n"
	}
	return out
}

func (s *session) command(d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "new":
		s.top = topologies[d.CmdArgs[0].Key]()
		s.oneStep = d.HasArg("one-step")
		s.db, s.ids, s.saved = state.NewMemory(), map[string]uint32{}, task.Checkpoint{}
		s.rels = map[string]*record.Relation{}
		return "", s.open()
	case "begin":
		lsn, err := record.ParseLSN(d.CmdArgs[0].Key)
		s.tx, s.rows = &record.Tx{Source: "shop", Position: uint64(lsn), Snapshot: d.HasArg("snapshot")}, 0
		var seconds int64
		if d.HasArg("time") {
			d.ScanArgs(s.t, "time", &seconds)
		}
		s.tx.CommitTime = seconds * 1e6
		s.task.Begin(s.tx)
		return "", err
	case "rows":
		return "", s.feed(strings.Split(strings.TrimSpace(d.Input), "\n"))
	case "end":
		return "", s.task.End(s.tx)
	case "time":
		seconds, err := strconv.ParseInt(d.CmdArgs[0].Key, 10, 64)
		s.task.AdvanceTime("shop", seconds*1e6)
		return "", err
	case "step":
		return "", s.task.Step()
	case "seal":
		return s.seal()
	case "committed":
		return "", s.commit()
	case "rollback":
		s.task.Rollback()
		clear(s.drops)
		return "", nil
	case "crash":
		return "", s.open()
	}
	return "", fmt.Errorf("unknown command %q", d.Cmd)
}

func (s *session) open() (err error) {
	s.drops = map[string]int{}
	s.task, err = task.New(task.Config{
		Topology: s.top, Env: &state.Env{DB: s.db}, Checkpoint: s.saved, OneStep: s.oneStep,
		Partitions: s.parts,
		StoreID: func(store string) uint32 {
			if _, ok := s.ids[store]; !ok {
				s.ids[store] = uint32(16 + len(s.ids))
			}
			return s.ids[store]
		},
		Drop: func(n *topology.Node, reason string, count int) { s.drops[n.Name+": "+reason] += count },
	})
	return err
}

// testLine is where a panic came from.
var testLine = regexp.MustCompile(`(\w+_test\.go):\d+`)

// describe prints an error with what a Failure knows beside its message.
func (s *session) describe(err error) string {
	out := "error: " + testLine.ReplaceAllString(err.Error(), "$1:N") + "\n"
	if f := (*topology.Failure)(nil); errors.As(err, &f) {
		out += fmt.Sprintf("  node %s, key %v, user function: %v\n",
			f.Node.Name, f.Key, errors.Is(err, topology.ErrUserFunction))
	}
	return out
}

func (s *session) feed(lines []string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		ordinal := s.rows
		s.rows++
		if words[0] == "message" || words[0] == "alone" {
			m := record.Message{
				Prefix: words[1], Content: []byte(words[2]), Ordinal: ordinal, Transactional: words[0] == "message",
			}
			if err := s.task.Message(s.tx, m); err != nil {
				return err
			}
			continue
		}
		row, err := s.row(words)
		if err != nil {
			return err
		}
		row.Ordinal = ordinal
		if err := s.task.Rows(s.tx, []record.Row{row}); err != nil {
			return err
		}
	}
	return nil
}

var ops = map[string]record.Op{
	"insert": record.Insert, "update": record.Update, "delete": record.Delete,
	"move": record.Update, "truncate": record.Truncate,
}

// row parses a row; a column that is not given is NULL, one given as ? unchanged.
func (s *session) row(words []string) (record.Row, error) {
	op, ok := ops[words[0]]
	columns, known := tables[words[1]]
	if !ok || !known {
		return record.Row{}, fmt.Errorf("cannot read %q", strings.Join(words, " "))
	}
	if s.rels[words[1]] == nil {
		rel := &record.Relation{Schema: "public", Name: words[1]}
		for i, c := range columns {
			rel.Columns = append(rel.Columns, record.Column{Name: c, Key: i == 0})
		}
		s.rels[words[1]] = rel
	}
	r := record.Row{Rel: s.rels[words[1]], Op: op}
	if op == record.Truncate {
		return r, nil
	}
	values := words[2:]
	if words[0] == "move" || words[0] == "delete" {
		r.OldKind, r.Old = record.OldKey, tuple(columns, values[:1])
		values = values[1:]
	}
	if op != record.Delete {
		r.New = tuple(columns, values)
	}
	return r, nil
}

func tuple(columns, values []string) record.Tuple {
	t := make(record.Tuple, len(columns))
	for _, v := range values {
		name, value, _ := strings.Cut(v, "=")
		i := slices.Index(columns, name)
		if t[i] = (record.Value{Kind: record.Text, Data: []byte(value)}); value == "?" {
			t[i] = record.Value{Kind: record.Unchanged}
		}
	}
	return t
}

// seal prints an epoch: its transactions, what of each store changes, what sinks put
// out, and the checkpoint.
func (s *session) seal() (string, error) {
	ready, err := s.task.Seal()
	if err != nil {
		return "", err
	}
	s.ready = ready
	var b strings.Builder
	for _, tx := range ready.Txs {
		fmt.Fprintf(&b, "tx %s\n", record.LSN(tx.Position))
	}
	writes, deletes := map[string]int{}, map[string]int{}
	err = ready.Changelog(func(store string, _, value []byte) error {
		if value == nil {
			deletes[store]++
		} else {
			writes[store]++
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	for _, store := range slices.Sorted(maps.Keys(s.ids)) {
		if writes[store]+deletes[store] > 0 {
			fmt.Fprintf(&b, "store %s: %d written, %d deleted\n", store, writes[store], deletes[store])
		}
	}
	for _, n := range s.top.Nodes() {
		if err := ready.Outputs(n, func(o task.Output) error { return printOutput(&b, o) }); err != nil {
			return "", err
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s.drops)) {
		fmt.Fprintf(&b, "dropped %s %d\n", k, s.drops[k])
	}
	fmt.Fprintf(&b, "at %s", ready.Checkpoint.Positions)
	for _, n := range slices.Sorted(maps.Keys(ready.Checkpoint.StreamTimes)) {
		at := time.UnixMicro(ready.Checkpoint.StreamTimes[n]).UTC()
		fmt.Fprintf(&b, ", %s is at %s", n, at.Format(time.TimeOnly))
	}
	timers := ready.Timers()
	for _, n := range slices.Sorted(maps.Keys(timers)) {
		fmt.Fprintf(&b, ", %s waits for %s", n, time.UnixMicro(timers[n]).UTC().Format(time.TimeOnly))
	}
	return b.String() + "\n", nil
}

func printOutput(b *strings.Builder, o task.Output) error {
	if o.Event {
		fmt.Fprintf(b, "%s: event of transaction %d, row %d, path %x: %s %s\n", o.Node.Name, o.Seq,
			binary.BigEndian.Uint32(o.Tag), o.Tag[4:], o.Key, o.Value[8:])
		return nil
	}
	columns, deleted, err := o.Node.Sink.(*sinks.Spec).Row(o.Value, nil)
	if err != nil {
		return err
	}
	verb := "upsert"
	if deleted {
		verb = "delete"
	}
	fmt.Fprintf(b, "%s: %s %s\n", o.Node.Name, verb, strings.Join(strs(columns), " "))
	return nil
}

func strs(columns [][]byte) []string {
	out := make([]string, len(columns))
	for i, c := range columns {
		if out[i] = string(c); c == nil {
			out[i] = "NULL"
		}
	}
	return out
}

func (s *session) commit() error {
	batch := s.db.NewBatch()
	for _, store := range s.ready.Stores {
		if err := store.Flush(batch); err != nil {
			return err
		}
	}
	if err := s.db.Commit(batch, true); err != nil {
		return err
	}
	s.saved = s.ready.Checkpoint
	s.task.Committed(s.saved)
	clear(s.drops)
	return nil
}
