package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

func itoa(n int) string { return strconv.Itoa(n) }

// everyChange reads a snapshot and a transaction of each kind, then goes on elsewhere.
func everyChange(r *reader) {
	awkward := Value("tab\tline\nback\\slash żółć '\"")
	r.Commit(Change{Table: Accounts, Op: Fill, ID: 1, To: 1000})
	r.Commit(Change{Table: Accounts, Op: Insert, ID: 1001, Name: awkward})
	s := r.open()
	for _, name := range []string{Accounts, Entries} {
		if rel := s.Relations()[r.Table(name)]; rel == nil || len(rel.Columns) < 3 {
			r.Errorf("the relation of %s is %v", name, rel)
		}
	}
	m := NewModel(r.T)
	r.until(s, m, func() bool { return len(m.Commits) > 0 })
	if m.Snapshot != 1001 || len(m.Commits) != 1 {
		r.Fatalf("the snapshot has %d rows and %d transactions", m.Snapshot, len(m.Commits))
	}
	r.same(m)
	for _, changes := range [][]Change{
		{{Table: Accounts, Op: Insert, ID: 2001, Name: awkward, Note: Value("")}},
		{{Table: Accounts, Op: SetName, ID: 2001, Name: Value("other")}},
		{{Table: Accounts, Op: SetName, ID: 2001}}, // to NULL
		{{Table: Accounts, Op: SetName, ID: 2001, Name: awkward}},
		{{Table: Accounts, Op: Move, ID: 2001, To: 3001}},
		{{Table: Accounts, Op: Delete, ID: 5}},
		{ // several tables, and a row that is gone again
			{Table: Entries, Op: Insert, ID: 1}, {Table: Accounts, Op: Insert, ID: 7777},
			{Table: Accounts, Op: Delete, ID: 7777}, {Table: Entries, Op: SetName, ID: 1, Name: Value("x")},
		},
		{ // keys change places
			{Table: Accounts, Op: Move, ID: 10, To: 9999}, {Table: Accounts, Op: Move, ID: 11, To: 10},
			{Table: Accounts, Op: Move, ID: 9999, To: 11},
		},
		{{Table: Accounts, Op: Truncate}, {Table: Accounts, Op: Insert, ID: 1, Name: Value("after")}},
	} {
		before := len(m.Commits)
		r.Commit(changes...)
		r.until(s, m, func() bool { return len(m.Commits) > before })
		r.same(m)
	}
}

// unchangedValues has an update leave out a value that is too large for the log to repeat.
func unchangedValues(r *reader) {
	big := Value(strings.Repeat("0123456789", 2000))
	s := r.open()
	m := NewModel(r.T)
	r.Commit(Change{Table: Accounts, Op: Insert, ID: 1, Name: Value("a"), Note: big})
	r.Commit(Change{Table: Accounts, Op: SetName, ID: 1, Name: Value("b")})
	r.Commit(Change{Table: Accounts, Op: Move, ID: 1, To: 2})
	r.Commit(Change{Table: Accounts, Op: SetName, ID: 2})
	r.fence(s, m)
	r.same(m)
	r.Commit(Change{Table: Accounts, Op: SetNote, ID: 2})
	r.fence(s, m)
	r.same(m)
}

// write commits random changes to rows of its own until the end of the context.
func (r *reader) write(ctx context.Context, writer int) (commits int) {
	rng := rand.New(rand.NewPCG(7, uint64(writer)))
	there := map[int]bool{}
	for ; ctx.Err() == nil; commits++ {
		id := writer*10_000 + 5000 + rng.IntN(300)
		c := Change{Table: Accounts, ID: id, Name: Value(itoa(rng.IntN(1000)))}
		switch free := writer*10_000 + 6000 + rng.IntN(300); {
		case !there[id]:
			c.Op, there[id] = Insert, true
		case rng.IntN(4) == 0:
			c.Op = Delete
			delete(there, id)
		case rng.IntN(4) == 0 && !there[free]:
			c.Op, c.To, there[free] = Move, free, true
			delete(there, id)
		default:
			c.Op = SetName
		}
		r.Commit(c)
	}
	return commits
}

// writers runs a few until the returned function is called.
func (r *reader) writers() (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	counts := make([]int, 3)
	for i := range counts {
		group.Go(func() { counts[i] = r.write(ctx, 10+i) })
	}
	return func() (n int) {
		cancel()
		group.Wait()
		for _, c := range counts {
			n += c
		}
		return n
	}
}

// handOver opens a source while others write: the model fails on an insert of a row that
// is there, and on a change of one that is not.
func handOver(r *reader) {
	r.Commit(Change{Table: Accounts, Op: Fill, ID: 1, To: 10_000})
	stop := r.writers()
	defer stop()
	s := r.open()
	m := NewModel(r.T)
	r.until(s, m, func() bool { return len(m.Commits) >= 100 })
	stop()
	r.fence(s, m)
	r.same(m)
	if m.Snapshot < 10_000 {
		r.Errorf("the snapshot has %d rows", m.Snapshot)
	}
}

// largeTransaction is more than a session's bounds: it comes in pieces and ends once.
func largeTransaction(r *reader) {
	s := r.open()
	m := NewModel(r.T)
	r.fence(s, m)
	commits := len(m.Commits)
	r.Commit(Change{Table: Accounts, Op: Fill, ID: 1, To: 60_000}, Change{Table: Accounts, Op: Delete, ID: 7})
	r.fence(s, m)
	r.same(m)
	if n := len(m.Commits) - commits; n != 2 { // with the fence's
		r.Errorf("%d transactions, want 2", n)
	}
}

// resume continues after each transaction in turn: what comes is what follows it.
func resume(r *reader) {
	s := r.open()
	m := NewModel(r.T)
	r.fence(s, m)
	first := len(m.Commits) - 1
	s.Ack(m.Commits[first]) // The frontier may be further on.
	for i := range 8 {
		r.Commit(Change{Table: Accounts, Op: Insert, ID: i}, Change{Table: Entries, Op: Insert, ID: i})
	}
	r.fence(s, m)
	r.close(s)
	for i := first; i < len(m.Commits)-1; i++ {
		r.resume(s, m.Commits[i])
		again := r.open()
		var positions []uint64
		for len(positions) < len(m.Commits)-1-i {
			r.next(again, func(b *sources.Batch) {
				for _, tx := range b.Txs {
					if tx.Tx.Snapshot {
						r.Fatal("a session that resumes brings a snapshot")
					}
					if tx.Last {
						positions = append(positions, tx.Tx.Position)
					}
				}
			})
		}
		if !slices.Equal(positions, m.Commits[i+1:]) {
			r.Errorf("after %s came %v, want %v", record.LSN(m.Commits[i]), positions, m.Commits[i+1:])
		}
		r.close(again)
	}
}

// acknowledgement moves with Ack and never before it, also where a reader knows more.
func acknowledgement(r *reader) {
	s := r.open()
	m := NewModel(r.T)
	r.fence(s, m)
	s.Ack(m.Position)
	acked := m.Position
	confirmed := func() uint64 {
		if r.Confirmed == nil {
			return 0
		}
		return r.Confirmed()
	}
	for i := range 20 {
		r.Commit(Change{Table: Accounts, Op: Insert, ID: i})
		r.fence(s, m)
		if at := confirmed(); at > acked {
			r.Fatalf("%s is confirmed, %s was acknowledged", record.LSN(at), record.LSN(acked))
		}
	}
	s.Ack(m.Position)
	s.Ack(acked) // Positions do not go back.
	if r.Confirmed != nil {
		r.eventually("the acknowledgement reaches the source", func() bool { return confirmed() >= m.Position })
	}
	r.Commit(Change{Table: Accounts, Op: SetName, ID: 1, Name: Value("later")})
	r.resume(s, m.Position)
	r.close(s)
	s.Ack(m.Position + 1<<20) // After Close it does nothing.
	s = r.open()
	r.fence(s, m)
	r.same(m)
}

// memory holds batches back while further ones are read.
func memory(r *reader) {
	r.Commit(Change{Table: Accounts, Op: Fill, ID: 1, To: 5000})
	s := r.open()
	m := NewModel(r.T)
	type held struct {
		b    *sources.Batch
		text []string
	}
	var all []held
	look := func(b *sources.Batch) (lines []string) {
		for _, tx := range b.Txs {
			for i := range tx.Rows {
				row := &tx.Rows[i]
				lines = append(lines, fmt.Sprint(tx.Tx.XID, row.Op, row.Ordinal, Text(row.Old), Text(row.New)))
			}
		}
		return lines
	}
	check := func(h held) {
		if !slices.Equal(look(h.b), h.text) {
			r.Error("a batch has changed before its release")
		}
		if h.b.Release != nil {
			h.b.Release()
		}
	}
	for i := 0; r.row(m, Entries, 30) == nil || m.Open != nil; i++ {
		if i < 30 {
			r.Commit(Change{Table: Entries, Op: Insert, ID: i + 1, Name: Value(strings.Repeat(itoa(i), 100))})
		}
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		b, err := s.Next(ctx)
		cancel()
		if err != nil {
			r.Fatal(err)
		}
		m.Apply(b)
		if all = append(all, held{b, look(b)}); len(all) == 4 {
			check(all[1]) // not in the order in which they came
			check(all[0])
			all = all[2:]
		}
	}
	for _, h := range all {
		check(h)
	}
	r.same(m)
}

// lostConnection cuts the connections again and again while others write.
func lostConnection(r *reader) {
	if r.Cut == nil {
		return // A source without connections has none to lose.
	}
	s := r.open()
	m := NewModel(r.T)
	r.fence(s, m)
	stop := r.writers()
	defer stop()
	for range 5 {
		commits, lost := len(m.Commits), r.reconnected.Load()
		r.until(s, m, func() bool { return len(m.Commits) > commits+10 })
		s.Ack(m.Position)
		r.Cut()
		r.until(s, m, func() bool { return r.reconnected.Load() > lost })
	}
	stop()
	r.fence(s, m)
	r.same(m)
}

// endOfSession ends a Next that waits, by its context; the session goes on until Close.
func endOfSession(r *reader) {
	s := r.open()
	m := NewModel(r.T)
	r.fence(s, m)
	ctx, cancel := context.WithCancel(r.Context())
	ended := make(chan error)
	go func() {
		for {
			b, err := s.Next(ctx)
			if err != nil {
				ended <- err
				return
			}
			m.Apply(b) // What moves the frontier may come at any time.
			if b.Release != nil {
				b.Release()
			}
		}
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		r.Errorf("a Next whose context ended returns %v", err)
	}
	r.Commit(Change{Table: Accounts, Op: Insert, ID: 1})
	r.fence(s, m)
	r.same(m)
	r.close(s)
	_ = s.Close() // again is no harm
	short, end := context.WithTimeout(r.Context(), patience)
	defer end()
	for {
		b, err := s.Next(short)
		if err != nil {
			if short.Err() != nil {
				r.Error("Next waits although the session is closed")
			}
			break
		}
		if b.Release != nil {
			b.Release()
		}
	}
}

// drop removes what Open made, and may be repeated: what was there is a first start again.
func drop(r *reader) {
	req := sources.DropRequest{App: App, Database: Database, Logger: r.req.Logger}
	if err := r.Connector.Drop(r.Context(), req); err != nil {
		r.Errorf("before the first start: %v", err)
	}
	r.Commit(Change{Table: Accounts, Op: Insert, ID: 1})
	s := r.open()
	m := NewModel(r.T)
	r.fence(s, m)
	s.Ack(m.Position)
	r.close(s)
	for range 2 {
		r.eventually("Drop succeeds once nobody reads", func() bool {
			err := r.Connector.Drop(r.Context(), req)
			if err != nil && !errors.Is(err, sources.ErrInUse) {
				r.Fatal(err)
			}
			return err == nil
		})
	}
	r.resume(s, m.Position)
	if _, err := r.tryOpen(); !errors.Is(err, sources.ErrDataGap) {
		r.Errorf("a state whose source was dropped: got %v", err)
	}
	r.req.Resume, r.req.System = 0, ""
	s = r.open()
	m = NewModel(r.T)
	r.fence(s, m)
	r.same(m)
	if m.Snapshot != 2 { // with the first fence
		r.Errorf("the new snapshot has %d rows", m.Snapshot)
	}
}

// refusals are told by sentinels before anything is read.
func refusals(r *reader) {
	refused := func(what string, want error) {
		r.Helper()
		if _, err := r.tryOpen(); !errors.Is(err, want) {
			r.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	good := slices.Clone(r.req.Tables)
	r.req.Tables[0].Name = r.Table("nowhere")
	refused("a table that is not there", sources.ErrSchema)
	r.req.Tables = slices.Clone(good)
	r.req.Tables[0].Columns = append(slices.Clone(good[0].Columns), "nothing")
	refused("a column that is not there", sources.ErrSchema)
	r.req.Tables = good
	s := r.open()
	m := NewModel(r.T)
	r.fence(s, m)
	s.Ack(m.Position)
	r.resume(s, m.Position)
	refused("a second reader", sources.ErrInUse)
	r.close(s)
	r.req.System = "another/installation"
	refused("another system", sources.ErrWrongSystem)
	r.resume(s, m.Position)
	r.fence(r.open(), m) // what was refused has done no harm
	r.same(m)
}
