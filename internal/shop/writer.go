package shop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Writers change a shop: each in a connection of its own, so that transactions
// overlap, wait for each other and sometimes fail.
type Writers struct {
	// URL is the shop's database. Required.
	URL string
	// Count is how many write at the same time. Defaults to 4.
	Count int
	// Rate is how many transactions they begin per second, together. Defaults to
	// 50; negative is as many as they can.
	Rate int
	// Seed makes the choices of each writer repeatable. Defaults to 0.
	Seed uint64

	committed, rolledBack atomic.Int64
	following             atomic.Bool
}

// Follow says that the outbox is being followed: from then on transactions send events,
// and half of them delete their events themselves. Before, nobody would see such an
// event, and one that stays would be enriched as of the moment the follower comes.
func (w *Writers) Follow() { w.following.Store(true) }

// Committed is how many transactions have committed so far.
func (w *Writers) Committed() int64 { return w.committed.Load() }

// RolledBack is how many were rolled back, on purpose or by a deadlock.
func (w *Writers) RolledBack() int64 { return w.rolledBack.Load() }

// Run writes until ctx ends, which is no error. The transactions at work then are
// finished, so what is in the database afterwards is final.
func (w *Writers) Run(ctx context.Context) error {
	count, rate := w.Count, w.Rate
	if count <= 0 {
		count = 4
	}
	if rate == 0 {
		rate = 50
	}
	var tick <-chan time.Time
	if rate > 0 {
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		tick = ticker.C
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var writers sync.WaitGroup
	for i := range count {
		writers.Go(func() {
			if err := w.write(ctx, i, tick); err != nil {
				cancel(err)
			}
		})
	}
	writers.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err,
		context.DeadlineExceeded) {
		return err
	}
	return nil
}

// write is one writer.
func (w *Writers) write(ctx context.Context, i int, tick <-chan time.Time) error {
	// Detached: a transaction at work is finished when ctx ends.
	detached := context.WithoutCancel(ctx)
	c, err := pgx.Connect(ctx, w.URL)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("shop: %w", err)
	}
	defer c.Close(detached)
	r := rand.New(rand.NewPCG(w.Seed, uint64(i)))
	for {
		if tick != nil {
			select {
			case <-tick:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		err := w.transaction(detached, c, r)
		var pg *pgconn.PgError
		switch {
		case err == nil:
			w.committed.Add(1)
		case errors.Is(err, errGiveUp):
			w.rolledBack.Add(1)
		case errors.As(err, &pg) && (pg.Code == "40P01" || pg.Code == "23505"):
			// A deadlock, or another writer has just taken the new key.
			w.rolledBack.Add(1)
		default:
			return fmt.Errorf("shop: %w", err)
		}
	}
}

// errGiveUp rolls a transaction back that has written already.
var errGiveUp = errors.New("shop: the customer has changed their mind")

// change is a transaction at work.
type change struct {
	pgx.Tx
	r *rand.Rand
	// sends says that it writes events.
	sends bool
}

// action is one kind of transaction, with how often it is chosen.
type action struct {
	weight int
	do     func(context.Context, *change) error
}

var actions = []action{
	{30, place}, {25, advance}, {15, changeLines}, {6, moveToCustomer}, {6, moveLine},
	{6, renameCustomer}, {5, deleteOrder}, {2, renumberOrder}, {2, newCustomer}, {1, deleteCustomer},
	{1, renumberCustomer}, {1, renameProduct},
}

// transaction does one to three things together.
func (w *Writers) transaction(ctx context.Context, c *pgx.Conn, r *rand.Rand) error {
	return pgx.BeginFunc(ctx, c, func(inner pgx.Tx) error {
		tx := &change{Tx: inner, r: r, sends: w.following.Load()}
		for range 1 + r.IntN(3) {
			if err := choose(r)(ctx, tx); err != nil {
				return err
			}
		}
		if r.IntN(50) == 0 {
			return errGiveUp
		}
		if !tx.sends {
			return nil
		}
		if err := settle(ctx, tx); err != nil {
			return err
		}
		if r.IntN(2) == 0 {
			return empty(ctx, tx)
		}
		return nil
	})
}

func choose(r *rand.Rand) func(context.Context, *change) error {
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	n := r.IntN(total)
	for _, a := range actions {
		if n -= a.weight; n < 0 {
			return a.do
		}
	}
	return place
}
