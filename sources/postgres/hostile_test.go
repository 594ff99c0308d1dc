package postgres_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// damage changes one byte of the log's stream, or one length, in its after-th message.
type damage struct {
	rng    *rand.Rand
	after  int
	lie    uint32 // the length that the message is given; 0 lets chance decide
	struck atomic.Bool
}

// piece is a faultproxy.Trigger.
func (d *damage) piece(p []byte) int {
	for i := 0; i+6 <= len(p) && !d.struck.Load(); i++ {
		// The head of a CopyData that holds a part of the log, or a keepalive.
		if p[i] != 'd' || p[i+1] != 0 || p[i+5] != 'w' && p[i+5] != 'k' {
			continue
		}
		if d.after--; d.after > 0 {
			continue
		}
		d.struck.Store(true)
		length := p[i+1 : i+5]
		n := binary.BigEndian.Uint32(length)
		if d.lie != 0 {
			binary.BigEndian.PutUint32(length, d.lie)
			return faultproxy.Pass
		}
		if d.rng.IntN(2) == 0 {
			lies := []uint32{0, 3, 4, n - 1, n + 1, n + 1000, 1 << 30, 1<<31 - 1, 1<<32 - 1}
			binary.BigEndian.PutUint32(length, lies[d.rng.IntN(len(lies))])
			return faultproxy.Pass
		}
		p[i+d.rng.IntN(min(len(p)-i, int(n)+1))] ^= 1 << d.rng.IntN(8)
	}
	return faultproxy.Pass
}

// TestHostileServer reads a stream in which lengths lie and bytes are wrong. The session
// ends with an error that has a name, or goes on over another connection; it neither
// panics nor takes the memory that a length asks for, and the truth is read afterwards.
// Not in parallel: it measures memory.
func TestHostileServer(t *testing.T) {
	f := newFixture(t)
	proxy, err := faultproxy.New(f.db.Server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int, pad text)")
	f.cfg.URL = through(f.db.URL, proxy.Addr())
	f.cfg.MonitorInterval = time.Hour
	f.want("public.t", "id;x,pad")
	s := f.open()
	m := sourcetest.NewModel(t)
	f.readTo(s, m, f.head())
	f.resume(s, m.Position)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		f.exec("INSERT INTO t SELECT $1 + i, 0, repeat('p', 100) FROM generate_series(1, 5) i", 5*i)
		f.exec("UPDATE t SET x = x + 1 WHERE id % 7 = 0")
	}
	// More than is read at once, so that room is made for a message that is said to be longer.
	f.exec("INSERT INTO t SELECT -i, 0, repeat('p', 100) FROM generate_series(1, 3000) i")
	head := f.head()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	ends := map[string]int{}
	const seeds = 16
	for seed := range uint64(seeds) {
		d := &damage{rng: rand.New(rand.NewPCG(seed, 1)), after: 1 + int(seed*seed)%200}
		if seed == 0 {
			d.lie = 1 << 30
		}
		f.cfg.Streaming = seed%2 == 0
		proxy.CutWhen(faultproxy.ToClient, d.piece)
		ends[f.readDamaged(proxy, d, head)]++
		proxy.CutWhen(faultproxy.ToClient, nil)
	}
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > seeds*(16<<20) {
		t.Errorf("%d bytes allocated in %d sessions", used, seeds)
	}
	if ends["reconnected"] == 0 || ends["unhurt"] == seeds {
		t.Errorf("the sessions ended so: %v", ends)
	}
	t.Log(ends)
	s = f.open()
	f.readTo(s, m, head)
	f.same(m, "public.t", "id", "x", "pad")
}

// readDamaged reads one session up to a position and says what became of it. It
// acknowledges nothing, since it cannot believe what it reads.
func (f *fixture) readDamaged(proxy *faultproxy.Proxy, d *damage, head uint64) string {
	f.t.Helper()
	lost := f.obs.count()
	s, err := f.tryOpen()
	if err != nil {
		f.t.Fatal(err)
	}
	defer s.Close()
	position := uint64(0)
	for waits := 0; ; {
		ctx, cancel := context.WithTimeout(f.t.Context(), 80*time.Millisecond)
		b, err := s.Next(ctx)
		waited := ctx.Err() != nil
		cancel()
		switch {
		case err != nil && waited && waits < 200:
			// It may wait for the rest of a message that is shorter than it says: a server
			// that hangs would do as much.
			if waits++; d.struck.Load() && waits%10 == 1 {
				proxy.Cut()
			}
			continue
		case err != nil:
			f.named(err)
			return "ended"
		}
		for _, tx := range b.Txs {
			if tx.Last {
				position = max(position, tx.Tx.Position)
			}
		}
		position = max(position, b.Idle)
		b.Release()
		switch {
		case position < head:
		case f.obs.count() > lost:
			return "reconnected"
		case d.struck.Load():
			return "unhurt" // a byte of a row, which nobody can tell
		default:
			f.t.Error("the stream was not damaged")
			return "missed"
		}
	}
}

// named checks that an error is one of those that a session is documented to end with.
func (f *fixture) named(err error) {
	f.t.Helper()
	for _, known := range []error{sources.ErrDecode, sources.ErrSchema, sources.ErrDataGap, sources.ErrConfig,
		sources.ErrWrongSystem, sources.ErrInUse, postgres.ErrTempDir} {
		if errors.Is(err, known) {
			return
		}
	}
	f.t.Errorf("the session ended with %v", err)
}
