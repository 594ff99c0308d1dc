package tailrace_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// manyItems is snapshotOnly with so many items.
type manyItems struct {
	snapshotOnly
	n int
}

func (m manyItems) Open(_ context.Context, req sources.OpenRequest) (sources.Session, error) {
	return &manySession{snapshotSession{database: req.Database, done: req.Resume > 0}, m.n}, nil
}

type manySession struct {
	snapshotSession
	n int
}

func (s *manySession) Next(ctx context.Context) (*sources.Batch, error) {
	b, err := s.snapshotSession.Next(ctx)
	if err != nil {
		return nil, err
	}
	p := &b.Txs[0]
	for i := len(p.Rows); i < s.n; i++ {
		row := p.Rows[0]
		row.Ordinal, row.New = uint32(i), slices.Clone(row.New)
		row.New[0] = record.Value{Kind: record.Text, Data: []byte(strconv.Itoa(i))}
		p.Rows = append(p.Rows, row)
	}
	return b, nil
}

// nowhere is a target that cannot be reached.
type nowhere struct{}

func (nowhere) Transactional() bool                           { return true }
func (nowhere) Drop(context.Context, sinks.DropRequest) error { return nil }

func (nowhere) Open(context.Context, sinks.OpenRequest) (sinks.Writer, error) {
	return nil, errors.New("down")
}

// TestSlowReaderOfDeadLetters walks dead letters in several pages, beginning while the
// app runs and going on when it has ended: the loop holds up nobody, and misses none.
func TestSlowReaderOfDeadLetters(t *testing.T) {
	const letters = 2500
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b := topology.New("items")
	in := sources.Stream[int64, item](b, sources.NewDatabase("shop", manyItems{n: letters}),
		"public.items", sources.WithSnapshot[item]())
	set := func(record.Context, *topology.Failure) topology.Verdict { return topology.DeadLetter }
	fails := operators.MapStreamValues(in, func(int64, item) int64 { panic("refused") }).OnError(set)
	sinks.Stream(fails, sinks.NewTarget("out", nowhere{}), "out")
	app, err := tailrace.New(tailrace.Config{App: "letters", StateDir: filepath.Join(t.TempDir(), "state")},
		b.MustBuild())
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- app.Run(running) }()
	if err := app.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	n := 0
	for l, err := range app.DeadLetters(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			if err := app.Destroy(ctx); !errors.Is(err, state.ErrLocked) {
				t.Errorf("destroying an app that runs: %v", err)
			}
			stop()
			select {
			case err := <-ended:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the app cannot end while dead letters are read")
			}
		}
		if l.Ordinal != uint32(n) || l.Error == "" || l.Position != "0/1000" {
			t.Fatalf("letter %d is %+v", n, l)
		}
		n++
	}
	if n != letters {
		t.Errorf("%d letters", n)
	}
	if err := app.Destroy(ctx); err != nil {
		t.Error(err)
	}
}
