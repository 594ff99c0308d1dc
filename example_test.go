package tailrace_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

type account struct {
	Branch string
	Cents  int64
}

// What each branch of a bank holds: SELECT branch, sum(cents) FROM accounts GROUP BY
// branch, kept up to date, and read by the program that keeps it.
func Example() {
	b := topology.New("holdings")
	bank := sources.NewDatabase("bank", postgres.Source(postgres.Config{URL: os.Getenv("BANK_URL")}))
	accounts := sources.Table[int64, account](b, bank, "public.accounts")
	holdings := operators.Aggregate("per-branch",
		operators.GroupBy(accounts, func(_ int64, a account) string { return a.Branch }),
		aggregate.Sum(func(a account) int64 { return a.Cents }))
	held := sinks.View(holdings, "holdings")
	topo, err := b.Build()
	if err != nil {
		log.Fatal(err) // everything that is wrong with it
	}

	app, err := tailrace.New(tailrace.Config{App: "holdings", StateDir: "holdings-state"}, topo)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() {
		if app.WaitReady(ctx) != nil {
			return
		}
		cents, ok, at, err := held.Get(ctx, "Hamburg")
		fmt.Println(cents, ok, at, err)
	}()
	if err := app.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
