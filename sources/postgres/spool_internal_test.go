package postgres

import (
	"encoding/binary"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/tailrace/tailrace/internal/pgoutput"
)

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A transaction of very many subtransactions, as a loop with an exception block in PL/pgSQL
// writes, costs the memory that is allowed and little more, whether they are rolled back or
// not, and brings what those brought that were not.
func TestManySubtransactions(t *testing.T) {
	const subs, limit, xid = 400_000, 256 << 10, 100
	r := newFuzzed(nil, limit, t.TempDir())
	defer r.spools.close()
	before := heap()
	r.streaming = xid
	for i := range uint32(subs) {
		sub := xid + 1 + i
		if err := r.change(pgoutput.Message, append(binary.BigEndian.AppendUint32(nil, sub),
			message(strconv.Itoa(int(i)))...)); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			continue
		}
		abort := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, xid), sub)
		if err := r.change(pgoutput.StreamAbort, abort); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.spools.bytes + r.spools.marks; n > limit || r.spools.marks == 0 {
		t.Errorf("%d bytes are counted, %d of them marks, %d allowed", n, r.spools.marks, limit)
	}
	if used := heap() - before; used > 4*limit {
		t.Errorf("%d bytes are in use, %d allowed", used, limit)
	}
	r.streaming = 0
	if err := r.startReplay(pgoutput.CommitMessage{XID: xid, CommitLSN: 1000, EndLSN: 1008}); err != nil {
		t.Fatal(err)
	}
	for i := uint32(0); r.replay != nil; {
		if err := r.replayStep(); err != nil {
			t.Fatal(err)
		}
		for _, m := range r.s.asm.cur.msgs {
			if string(m.Content) != strconv.Itoa(int(i)) {
				t.Fatalf("got %s, want %d", m.Content, i)
			}
			i += 2
		}
		r.s.asm.cur.msgs = r.s.asm.cur.msgs[:0]
		if r.replay == nil && i != subs {
			t.Errorf("it ended before %d", i)
		}
	}
	if n := r.spools.bytes + r.spools.marks; n != 0 {
		t.Errorf("%d bytes are counted behind it", n)
	}
}

// What cannot go to a file takes the room of what can, but for a part of it.
func TestRolledBackSubtransactionsCount(t *testing.T) {
	const limit, xid = 8000, 100
	dir := t.TempDir()
	r := newFuzzed(nil, limit, dir)
	defer r.spools.close()
	r.streaming = xid
	send := func() {
		for range 100 { // about 2 kB
			if err := r.change(pgoutput.Message, append(binary.BigEndian.AppendUint32(nil, xid),
				message("x")...)); err != nil {
				t.Fatal(err)
			}
		}
	}
	send()
	p := r.spools.byXID[xid]
	if p.inFile != 0 {
		t.Errorf("%d bytes are in a file, of few", p.inFile)
	}
	for i := range uint32(1000) {
		r.spools.abort(xid, xid+(i+1)<<16) // far from each other
	}
	send()
	if len(p.mem) > limit/8 || p.inFile == 0 || r.spools.marks < limit {
		t.Errorf("%d bytes are in memory and %d in a file, beside marks of %d", len(p.mem), p.inFile, r.spools.marks)
	}
	r.spools.abort(xid, xid)
	if n := r.spools.bytes + r.spools.marks; n != 0 {
		t.Errorf("%d bytes are counted behind it", n)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}
