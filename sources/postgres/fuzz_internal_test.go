package postgres

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/pgoutput"
	"github.com/tailrace/tailrace/record"
)

// pieces gives at most n bytes a read.
type pieces struct {
	r io.Reader
	n int
}

func (p pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.n)]) }

// anyTable describes every table with an odd id as it is announced.
type anyTable struct{}

func (anyTable) partition(root *record.Relation, _ pgoutput.RelationMessage) (*record.Relation, bool) {
	return root, false
}

func (anyTable) rest(time.Time) {}
func (anyTable) close()         {}

func (anyTable) look(pgoutput.RelationMessage, uint32) (*record.Relation, error) { return nil, nil }

func (anyTable) describe(m pgoutput.RelationMessage, _ uint32) (*record.Relation, bool) {
	if m.OID%2 == 0 {
		return nil, true
	}
	rel := &record.Relation{Schema: m.Schema, Name: m.Name, OID: m.OID}
	for _, c := range m.Columns {
		rel.Columns = append(rel.Columns, record.Column{Name: c.Name})
	}
	return rel, true
}

func newFuzzed(src io.Reader, limit int64, dir string) *receiver {
	s := &session{}
	s.asm = &assembler{source: "s", prefixes: map[string]bool{"p": true}, rels: map[uint32]relation{},
		describe: anyTable{}, cur: &batch{}}
	s.status = newStatusSender(s)
	return &receiver{s: s, w: &wire{src: src, blk: newBlock(blockBytes)},
		spools: newSpools(Config{StreamMemory: limit, TempDir: dir})}
}

// framed is a message of the log as the server frames it.
func framed(msg []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{'d'}, uint32(4+xlogHead+len(msg)))
	b = append(append(b, 'w'), make([]byte, xlogHead-1)...)
	return append(b, msg...)
}

// allocated runs f and returns how many bytes it allocated.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzStream is a server that sends anything: framing, keepalives, transactions whole and
// streamed. Nothing panics, rows fit their tables, and memory follows what has arrived, not
// what a length says.
func FuzzStream(f *testing.F) {
	files, err := filepath.Glob("../../internal/pgoutput/testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no vectors: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var messages []string
		if err := json.Unmarshal(text, &messages); err != nil {
			f.Fatal(err)
		}
		all := []byte{200}
		for _, m := range messages {
			msg, err := hex.DecodeString(m)
			if err != nil {
				f.Fatal(err)
			}
			all = append(all, framed(msg)...)
		}
		f.Add(all)
	}
	f.Add(append([]byte{3, 'd', 0, 0, 0, 22, 'k'}, make([]byte, 17)...))
	f.Add([]byte{9, 'd', 0x40, 0, 0, 0, 'w', 1, 2, 3})                   // 1 GiB
	f.Add([]byte{9, 'd', 0xff, 0xff, 0xff, 0xff, 'w', 1, 2, 3})          // more than there can be
	f.Add([]byte{9, 'E', 0, 0, 0, 12, 'S', 'X', 0, 'M', 'y', 0})         // an error
	f.Add(append([]byte{9}, framed([]byte("S\x00\x00\x00\x07\x01"))...)) // a stream begins
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 2 || len(data) > 1<<16 {
			return
		}
		used := allocated(func() { receiveAll(t, data) })
		if limit := uint64(4<<20 + 200*len(data)); used > limit {
			t.Errorf("%d bytes allocated for %d that arrived", used, len(data))
		}
	})
}

func receiveAll(t *testing.T, data []byte) {
	r := newFuzzed(pieces{bytes.NewReader(data[1:]), int(data[0]) + 1}, 1<<10, t.TempDir())
	defer r.spools.close()
	for {
		ok, err := r.step()
		if r.s.asm.cur.full() || err != nil {
			readRows(t, r.s)
		}
		if err != nil {
			return
		}
		if ok {
			continue
		}
		if _, err := r.w.fill(); err != nil {
			readRows(t, r.s)
			return
		}
		if have := r.w.w - r.w.r; len(r.w.blk.buf) > have+2*blockBytes {
			t.Fatalf("a block of %d bytes for %d", len(r.w.blk.buf), have)
		}
	}
}

// A message that is larger than a block and comes in small pieces is not copied with each
// of them.
func TestLargeMessageInPieces(t *testing.T) {
	const size = 8 << 20
	msg := binary.BigEndian.AppendUint32([]byte{'d'}, size-1)
	msg = append(msg, bytes.Repeat([]byte("0123456"), size/7)...)[:size]
	next := []byte{'Z', 0, 0, 0, 5, 'I'}
	var body []byte
	used := allocated(func() {
		w := &wire{src: pieces{io.MultiReader(bytes.NewReader(msg), bytes.NewReader(next)), 4096}, blk: newBlock(1)}
		var err error
		if _, body, err = w.next(); err != nil {
			t.Fatal(err)
		}
		if kind, _, err := w.next(); kind != 'Z' || err != nil {
			t.Errorf("then got %q, %v", kind, err)
		}
	})
	if !bytes.Equal(body, msg[5:]) {
		t.Error("it arrived as something else")
	}
	if used > 6*size {
		t.Errorf("%d bytes allocated for a message of %d", used, size)
	}
}

// readRows takes what there is as a reader does, and looks at all of it.
func readRows(t *testing.T, s *session) {
	out := s.take()
	if out == nil {
		return
	}
	sum := 0
	for _, tx := range out.Txs {
		for _, row := range tx.Rows {
			for _, tuple := range []record.Tuple{row.Old, row.New} {
				if tuple != nil && len(tuple) != len(row.Rel.Columns) {
					t.Errorf("a row of %d columns in a table of %d", len(tuple), len(row.Rel.Columns))
				}
				for _, v := range tuple {
					for _, c := range v.Data {
						sum += int(c)
					}
				}
			}
		}
		for _, m := range tx.Messages {
			sum += len(m.Content)
		}
	}
	_ = sum
	out.Release()
}

// FuzzSpool streams transactions with subtransactions, some rolled back, through memory and
// file. What comes out at the commit is what none of its subtransactions took back.
func FuzzSpool(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 3, 0, 2, 0, 0})
	f.Add([]byte{1, 0, 1, 0, 1, 0, 2, 0, 3, 1, 0, 3, 4, 0})
	f.Add([]byte{1, 1, 1, 0, 2, 0, 3, 5, 0, 0, 1, 0, 3})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) == 0 || len(ops) > 500 {
			return
		}
		limit := int64(1 << 20)
		if ops[0]%2 == 1 {
			limit = 50 // most of it goes to a file
		}
		runSpool(t, ops[1:], newFuzzed(nil, limit, t.TempDir()))
	})
}

// spooled is a message, and the subtransactions that it was written in.
type spooled struct {
	text string
	in   []int
}

func runSpool(t *testing.T, ops []byte, r *receiver) {
	const xid = 100
	defer r.spools.close()
	var (
		stack   []int // subtransactions that are open
		inside  = map[int][]int{}
		subs    int
		aborted = map[int]bool{}
		sent    []spooled
	)
	abort := func(subxid int) {
		if err := r.change(pgoutput.StreamAbort, binary.BigEndian.AppendUint32(
			binary.BigEndian.AppendUint32(nil, xid), uint32(subxid))); err != nil {
			t.Fatal(err)
		}
	}
	r.streaming = xid
	for i, op := range ops {
		switch op % 5 {
		case 0: // a message
			sub := xid
			if n := len(stack); n > 0 {
				sub = xid + stack[n-1]
			}
			text := fmt.Sprint(i) + strings.Repeat("x", int(op)/5)
			sent = append(sent, spooled{text, slices.Clone(stack)})
			body := binary.BigEndian.AppendUint32(nil, uint32(sub))
			body = append(body, 1, 0, 0, 0, 0, 0, 0, 0, 0, 'p', 0)
			body = append(binary.BigEndian.AppendUint32(body, uint32(len(text))), text...)
			if err := r.change(pgoutput.Message, body); err != nil {
				t.Fatal(err)
			}
		case 1: // a subtransaction begins
			subs++
			for _, s := range stack {
				inside[s] = append(inside[s], subs)
			}
			stack = append(stack, subs)
		case 2: // and ends well: it is its parent's now
			if n := len(stack); n > 0 {
				stack = stack[:n-1]
			}
		case 3: // or is rolled back, with those that were in it
			n := len(stack)
			if n == 0 {
				continue
			}
			top := stack[n-1]
			stack = stack[:n-1]
			for _, s := range append(slices.Clone(inside[top]), top) {
				if !aborted[s] {
					aborted[s] = true
					abort(xid + s)
				}
			}
		}
	}
	var want []string
	for _, m := range sent {
		if !slices.ContainsFunc(m.in, func(s int) bool { return aborted[s] }) {
			want = append(want, m.text)
		}
	}
	r.streaming = 0
	commit := binary.BigEndian.AppendUint32(nil, xid)
	commit = append(commit, 0)
	commit = binary.BigEndian.AppendUint64(commit, 1000)
	commit = binary.BigEndian.AppendUint64(commit, 1008)
	commit = binary.BigEndian.AppendUint64(commit, 0)
	if err := r.change(pgoutput.StreamCommit, commit); err != nil {
		t.Fatal(err)
	}
	for r.replay != nil {
		if err := r.replayStep(); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, m := range r.s.asm.cur.msgs {
		got = append(got, string(m.Content))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(r.spools.byXID) != 0 || r.spools.bytes != 0 || r.spools.marks != 0 {
		t.Errorf("%d transactions and %d+%d bytes are kept", len(r.spools.byXID), r.spools.bytes, r.spools.marks)
	}
}

// FuzzCopyRow reads rows of a snapshot: anything at all without a panic, and what PostgreSQL
// would write of values as those values.
func FuzzCopyRow(f *testing.F) {
	f.Add([]byte("a\tb\\tc\t\\N\n"), byte(3))
	f.Add([]byte("\\\\\t\\"), byte(2))
	f.Add([]byte("\\N\x00\xff\t"), byte(1))
	f.Fuzz(func(t *testing.T, data []byte, columns byte) {
		n := int(columns) % 8
		at, dst := make([]int, n), make(record.Tuple, n)
		for i := range at {
			at[i] = n - 1 - i
		}
		if err := copyRow(bytes.Clone(data), at, dst); err == nil && n > 0 &&
			bytes.Count(bytes.TrimSuffix(data, []byte("\n")), []byte("\t")) > n {
			t.Errorf("%q is read as %d columns", data, n)
		}
		if n == 0 {
			return
		}
		// The values that data holds, cut at its zero bytes; those that are empty are NULL.
		values := bytes.SplitN(data, []byte{0}, n)
		for len(values) < n {
			values = append(values, nil)
		}
		var line []byte
		for i, v := range values {
			if i > 0 {
				line = append(line, '\t')
			}
			if len(v) == 0 {
				line = append(line, `\N`...)
				continue
			}
			line = append(line, copyEscapes.Replace(string(v))...)
		}
		if err := copyRow(append(line, '\n'), at, dst); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for i, v := range values {
			got := dst[at[i]]
			if null := got.Kind == record.Null; null != (len(v) == 0) || !null && !bytes.Equal(got.Data, v) {
				t.Errorf("%q is read as %q", v, got.Data)
			}
		}
	})
}

// copyEscapes is what COPY writes, as the manual says.
var copyEscapes = strings.NewReplacer(`\`, `\\`, "\b", `\b`, "\f", `\f`, "\n", `\n`, "\r", `\r`,
	"\t", `\t`, "\v", `\v`)
