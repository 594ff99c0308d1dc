package apptest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// The bank: money moves between accounts of two tables, a transfer is one
// transaction of up to 20,000 rows, and the total of both never changes.
const (
	bankAccounts = 12_000 // in each table
	bankTotal    = 2 * bankAccounts * 1000
	bankSchema   = `
create table left_accounts (id int primary key, branch int not null, cents bigint not null);
create table right_accounts (id int primary key, branch int not null, cents bigint not null);
insert into left_accounts select i, i % 16, 1000 from generate_series(1, 12000) i;
insert into right_accounts select i, i % 16, 1000 from generate_series(1, 12000) i;`
	// bankMemory is the app's budget: a transfer of bankSpills accounts in each table is
	// larger, so what it writes goes to scratch space.
	bankMemory = 256 << 10
	bankSpills = 2000
	// bankLease is short, so that the target is free soon after its writer was killed.
	bankLease = time.Second
)

type account struct {
	Branch int32
	Cents  int64
}

type balance struct {
	Cents int64 `db:"cents"`
}

// bank is the topology and its views: the branches of each table, whose totals add up to
// the same at any one position, and those of both, whose total is the same by itself.
type bank struct {
	topology          *topology.Topology
	left, right, both *view.View[int32, balance]
}

func newBank(url, warehouse string) (*bank, error) {
	b := topology.New("bank")
	db := sources.NewDatabase("bank", postgres.Source(postgres.Config{URL: url}))
	target := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{
		URL: warehouse, CreateTables: true, Lease: bankLease,
	}))
	out := &bank{}
	branches := func(name string) topology.Table[int32, balance] {
		t := operators.Aggregate(name+"-branches",
			operators.GroupBy(sources.Table[int32, account](b, db, "public."+name+"_accounts"),
				func(_ int32, a account) int32 { return a.Branch }),
			aggregate.Sum(func(a account) int64 { return a.Cents }))
		m := operators.MapValues(t, func(_ int32, cents int64) balance { return balance{cents} })
		sinks.Table(m, target, name+"_branches")
		return m
	}
	left, right := branches("left"), branches("right")
	out.left, out.right = sinks.View(left, "left"), sinks.View(right, "right")
	out.both = sinks.View(operators.Join("both-branches", left, right,
		func(l, r balance) balance { return balance{l.Cents + r.Cents} }), "both")
	var err error
	out.topology, err = b.Build()
	return out, err
}

// config is that of the bank's app in a round: epochs and partitions are others in each.
func (b *bank) config(dir string, round int) tailrace.Config {
	return tailrace.Config{
		App: "bank", StateDir: dir, EpochRows: 1 + round%3*20, Partitions: []int{4, 1, 16}[round%3],
		Memory: bankMemory,
	}
}

// transfer moves money from left to right and back, n rows of each.
func transfer(r *rand.Rand, n int) string {
	from, amount := 1+r.IntN(bankAccounts-n+1), 1+r.IntN(50)
	back := 1 + r.IntN(bankAccounts-n+1)
	return fmt.Sprintf(`begin;
update left_accounts set cents = cents - %d where id between %d and %d;
update right_accounts set cents = cents + %d where id between %d and %d;
update left_accounts set branch = (branch + %d) %% 16 where id = %d;
commit;`, amount, from, from+n-1, amount, back, back+n-1, r.IntN(16), from)
}

// The environment of a process that runs the bank and is killed.
const (
	envBankSource    = "TAILRACE_BANK_SOURCE"
	envBankWarehouse = "TAILRACE_BANK_WAREHOUSE"
	envBankDir       = "TAILRACE_BANK_DIR"
	envBankRound     = "TAILRACE_BANK_ROUND"
)

// runBank is that process. It tells its address when its views can be read.
func runBank() error {
	b, err := newBank(os.Getenv(envBankSource), os.Getenv(envBankWarehouse))
	if err != nil {
		return err
	}
	round, err := strconv.Atoi(os.Getenv(envBankRound))
	if err != nil {
		return err
	}
	cfg := b.config(os.Getenv(envBankDir), round)
	cfg.Addr, cfg.Logger = "127.0.0.1:0", slog.New(slog.NewTextHandler(os.Stderr, nil))
	app, err := tailrace.New(cfg, b.topology)
	if err != nil {
		return err
	}
	ctx := context.Background()
	go func() {
		if app.WaitReady(ctx) == nil {
			fmt.Println("ready", app.Addr())
		}
	}()
	return app.Run(ctx)
}
