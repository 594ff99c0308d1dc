package apptest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/view"
)

// bankLog is a log of transfers, the snapshot first.
func bankLog(r *rand.Rand, accounts, transfers int) *scripted {
	db := &scripted{name: "bank", relations: map[string]*record.Relation{
		"public.left_accounts":  relation("left_accounts", "id", "branch", "cents"),
		"public.right_accounts": relation("right_accounts", "id", "branch", "cents"),
	}}
	for _, rel := range db.relations {
		for i := range 2 {
			rel.Columns[i].Type, rel.Columns[i].TypeOID = "integer", 23
		}
	}
	left, right := make([]account, accounts), make([]account, accounts)
	var rows []record.Row
	row := func(op record.Op, table string, id int, a account) {
		tuple := record.Tuple{}
		for _, v := range []any{id, a.Branch, a.Cents} {
			tuple = append(tuple, record.Value{Kind: record.Text, Data: fmt.Append(nil, v)})
		}
		rows = append(rows, record.Row{
			Rel: db.relations["public."+table], Op: op, New: tuple, Ordinal: uint32(len(rows)),
		})
	}
	commit := func(snapshot bool) {
		n := uint64(len(db.log) + 1)
		tx := &record.Tx{
			Source: "bank", Position: n * 16, CommitStart: n*16 - 8, CommitTime: int64(n), Snapshot: snapshot,
		}
		if snapshot {
			tx.CommitStart = 0
		}
		db.log = append(db.log, sources.TxRows{Tx: tx, Rows: rows, Last: true})
		rows = nil
	}
	for i := range accounts {
		left[i], right[i] = account{int32(i % 16), 1000}, account{int32(i % 16), 1000}
		row(record.Insert, "left_accounts", i, left[i])
		row(record.Insert, "right_accounts", i, right[i])
	}
	commit(true)
	for i := range transfers {
		n := 1 + r.IntN(10)
		if i%50 == 49 {
			n = accounts/4 + r.IntN(accounts*3/4)
		}
		amount, from, back := int64(1+r.IntN(50)), r.IntN(accounts-n+1), r.IntN(accounts-n+1)
		for id := from; id < from+n; id++ {
			left[id].Cents -= amount
			row(record.Update, "left_accounts", id, left[id])
		}
		for id := back; id < back+n; id++ {
			right[id].Cents += amount
			row(record.Update, "right_accounts", id, right[id])
		}
		left[from].Branch = (left[from].Branch + int32(r.IntN(16))) % 16
		row(record.Update, "left_accounts", from, left[from])
		commit(false)
	}
	return db
}

// TestScriptedBank is TestNeverTorn over a log that is there from the start, so that
// epochs follow each other as fast as they can, in partitions and beyond the budget.
func TestScriptedBank(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	const accounts = 3000
	for _, partitions := range []int{1, 4, 16} {
		db := bankLog(r, accounts, 800)
		db.piece, db.pieces = 1+r.IntN(2000), 1+r.IntN(100)
		b, err := newBank("", "")
		if err != nil {
			t.Fatal(err)
		}
		cfg := b.config(filepath.Join(t.TempDir(), "state"), r.IntN(3))
		cfg.Partitions, cfg.Memory, cfg.Logger = partitions, int64(32<<10)<<r.IntN(4), slog.New(slog.DiscardHandler)
		cfg.Bind("bank", db)
		target := newRemembered("bank")
		reached := target.wait(db.end())
		cfg.BindTarget("warehouse", target)
		app := start(t, cfg, b.topology)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if err := app.app.WaitReady(ctx); err != nil {
			t.Fatal(err, app.stop())
		}
		epochs := followTotal(ctx, t, b, db.end(), 2*accounts*1000)
		select {
		case <-reached:
		case <-ctx.Done():
			t.Error("the target does not get there")
		}
		cancel()
		if err := app.stop(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d partitions, %d bytes, %d epochs", partitions, cfg.Memory, epochs)
	}
}

// followTotal watches the view of both sides up to a position: its total is the same after
// each epoch. It returns how many there were.
func followTotal(ctx context.Context, t *testing.T, b *bank, until uint64, want int64) (epochs int) {
	t.Helper()
	rows := map[int32]int64{}
	for e, err := range b.both.Watch(ctx, view.WithRows()) {
		if err != nil {
			t.Error(err)
			return epochs
		}
		switch e.Kind {
		case view.EventReset:
			clear(rows)
		case view.EventChange:
			delete(rows, e.Change.Key)
			if e.Change.HasNew() {
				rows[e.Change.Key] = e.Change.New.Cents
			}
		case view.EventEpoch:
			total := int64(0)
			for _, cents := range rows {
				total += cents
			}
			if epochs++; total != want {
				t.Errorf("torn: the total at %v is %d, not %d", e.Position, total, want)
				return epochs
			}
			if e.Position.Sources["bank"] >= until {
				return epochs
			}
		}
	}
	t.Error("the view does not get there")
	return epochs
}
