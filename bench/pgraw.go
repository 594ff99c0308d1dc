package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// size is a backlog: so many transactions of so many changes.
type size struct{ txs, changes int }

func (s size) String() string { return fmt.Sprintf("%d tx x %d", s.txs, s.changes) }

// sizes is a flag: "200000x1,10000x100".
type sizes []size

func (s *sizes) String() string {
	var parts []string
	for _, x := range *s {
		parts = append(parts, fmt.Sprintf("%dx%d", x.txs, x.changes))
	}
	return strings.Join(parts, ",")
}

// Set is for the flag package.
func (s *sizes) Set(text string) error {
	*s = nil
	for part := range strings.SplitSeq(text, ",") {
		txs, changes, found := strings.Cut(part, "x")
		n, errTxs := strconv.Atoi(txs)
		m, errChanges := strconv.Atoi(changes)
		if !found || errTxs != nil || errChanges != nil || n < 1 || m < 1 {
			return fmt.Errorf("%q is not like 10000x100, transactions x changes", part)
		}
		*s = append(*s, size{n, m})
	}
	return nil
}

func backlogFlag(flags *flag.FlagSet) *sizes {
	backlog := &sizes{{200_000, 1}, {10_000, 100}}
	flags.Var(backlog, "backlog", "sizes of the backlog, `transactions x changes`, comma-separated")
	return backlog
}

func pgrawFlags(flags *flag.FlagSet) runner { return backlogWorkload(flags, pgraw) }

// backlogWorkload runs one for each size of backlog that is asked for.
func backlogWorkload(
	flags *flag.FlagSet, run func(ctx context.Context, env *environment, shop *shop, size size) error,
) runner {
	backlog := backlogFlag(flags)
	return func(ctx context.Context, env *environment) error {
		shop, err := newShop(ctx, env)
		if err != nil {
			return err
		}
		defer shop.close()
		for _, size := range *backlog {
			if err := run(ctx, env, shop, size); err != nil {
				return err
			}
		}
		return nil
	}
}

// pgraw writes one backlog and reads it several times. Nothing is confirmed, so the
// server sends it anew each time; the writers have stopped.
func pgraw(ctx context.Context, env *environment, shop *shop, size size) error {
	const slot = "pgraw"
	if err := shop.createSlot(ctx, slot); err != nil {
		return err
	}
	before := time.Now()
	if err := shop.work(ctx, size.txs, size.changes); err != nil {
		return err
	}
	fmt.Fprintf(env.out, "  backlog %v written in %.1f s\n", size, time.Since(before).Seconds())
	for range env.runs {
		r, err := receiveBacklog(ctx, env, shop, slot, size)
		if err != nil {
			return err
		}
		env.report.add(r)
	}
	return shop.dropSlot(ctx, slot)
}

func receiveBacklog(
	ctx context.Context, env *environment, shop *shop, slot string, size size,
) (result, error) {
	r := result{Case: size.String()}
	if err := shop.awaitFree(ctx, slot); err != nil {
		return r, err
	}
	raw, err := dialRaw(ctx, shop, slot)
	if err != nil {
		return r, err
	}
	defer raw.close()
	m, err := env.startMeter()
	if err != nil {
		return r, err
	}
	if err := raw.start(ctx); err != nil {
		return r, err
	}
	for raw.commits < size.txs {
		if err := raw.next(); err != nil {
			return r, fmt.Errorf("after %d of %d transactions: %w", raw.commits, size.txs, err)
		}
	}
	m.stop(&r)
	r.Records = raw.changes
	r.OtherCPU = raw.serverCPU()
	if want := int64(size.txs) * int64(size.changes); r.Records != want {
		return r, fmt.Errorf("received %d changes, wrote %d", r.Records, want)
	}
	return r, nil
}
