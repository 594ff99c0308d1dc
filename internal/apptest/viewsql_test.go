package apptest

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/view"
)

func TestMain(m *testing.M) {
	if os.Getenv(envBankDir) != "" {
		if err := runBank(); err != nil {
			fmt.Fprintln(os.Stderr, "bank:", err)
			os.Exit(1)
		}
		return
	}
	pgservertest.Main(m)
}

// transactions is how many transactions the single-writer test compares.
func transactions() int {
	if n, err := strconv.Atoi(os.Getenv("TAILRACE_TEST_TRANSACTIONS")); err == nil {
		return n
	}
	return 1000
}

// run starts an app and stops it at the end of the test.
func run(t *testing.T, cfg tailrace.Config, s *Shop) *tailrace.App {
	t.Helper()
	app, err := tailrace.New(cfg, s.Topology)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("app: %v", err)
		}
	})
	return app
}

// TestViewEqualsSQL compares, after each of many random transactions of one writer,
// all views and all sink tables with what SQL says on the source. The app has the documented
// rights only.
func TestViewEqualsSQL(t *testing.T) {
	db, wh := pgservertest.New(t), pgservertest.New(t)
	db.Exec(ShopSchema)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range 50 { // so that the snapshot has something
		db.Exec(RandomTx(r, int64(-i-1)))
	}
	tables := []string{"customers", "orders", "lines", "pair_a", "pair_b"}
	db.Exec("create publication tailrace_viewsql_shop for table " + strings.Join(tables, ", "))
	s, err := NewShop(
		sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: db.Reader(tables...).URL,
			ManagePublication: postgres.PublicationNever})),
		sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: wh.Writer().URL, CreateTables: true})), nil)
	if err != nil {
		t.Fatal(err)
	}
	app := run(t, tailrace.Config{App: "viewsql", StateDir: t.TempDir() + "/state", OneTransaction: true}, s)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := app.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	waitForSink(t, wh)
	for i := range transactions() {
		tx := RandomTx(r, int64(i+1))
		db.Exec(tx)
		at := waitForNow(ctx, t, db, s)
		compareViews(ctx, t, db, s)
		compareSink(ctx, t, db, wh, "viewsql", at)
		if t.Failed() {
			t.Fatalf("after transaction %d: %s", i, tx)
		}
	}
}

// waitForNow waits until the views show everything that is committed.
func waitForNow(ctx context.Context, t *testing.T, db *pgservertest.DB, s *Shop) record.LSN {
	t.Helper()
	lsn := written(t, db)
	if err := s.Docs.WaitFor(ctx, record.Positions{"shop": lsn}); err != nil {
		t.Fatalf("waiting for %s: %v", record.LSN(lsn), err)
	}
	return record.LSN(lsn)
}

func text[T any](valid bool, v T) string {
	if !valid {
		return pgservertest.Null
	}
	return fmt.Sprint(v)
}

func compareViews(ctx context.Context, t *testing.T, db *pgservertest.DB, s *Shop) {
	t.Helper()
	m, err := view.At(ctx, s.Docs, s.Regions, s.Pairs, s.Sums)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var docs, regions, pairs [][]string
	rows := s.Docs.At(m).Range(ctx, view.Span[int64]{})
	for id, d := range rows.All() {
		docs = append(docs, []string{fmt.Sprint(id), d.Status, text(d.Customer.Valid, d.Customer.V),
			fmt.Sprint(d.NoteLen), fmt.Sprint(d.BioLen), fmt.Sprint(d.Lines), fmt.Sprint(d.Cents)})
	}
	for k, v := range s.Regions.At(m).Range(ctx, view.Span[sql.Null[string]]{}).All() {
		regions = append(regions, []string{text(k.Valid, k.V), fmt.Sprint(v.Lines), fmt.Sprint(v.Cents)})
	}
	for k, v := range s.Pairs.At(m).Range(ctx, view.Span[int64]{}).All() {
		pairs = append(pairs, []string{fmt.Sprint(k), fmt.Sprint(v.Stamp)})
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	sameRows(t, "docs", docs, db.Strings(DocsSQL))
	sameRows(t, "regions", regions, db.Strings(RegionsSQL))
	sameRows(t, "pairs", pairs, db.Strings(PairsSQL))
	compareSums(t, "sums", sumRows(ctx, s, m), db.Strings(SumsSQL))
}

// sinkTables is what the target's tables hold in one snapshot, and the position that
// they stand for.
type sinkTables struct {
	at                record.LSN
	docs, pairs, sums [][]string
}

// readSinkTables reads tables and progress in one transaction.
func readSinkTables(t *testing.T, wh *pgservertest.DB, app string) sinkTables {
	t.Helper()
	var s sinkTables
	for _, row := range wh.Strings(`begin isolation level repeatable read read only;
		select 'at', coalesce(max(positions->>'shop'), '0/0') from tailrace_progress where app = '` + app + `';
		select 'docs', key, status, customer, note_len, bio_len, lines, cents from docs order by key;
		select 'pairs', key, stamp from pairs order by key;
		select 'sums', key, weight, qty from sums order by key;
		commit`) {
		switch row[0] {
		case "at":
			at, err := record.ParseLSN(row[1])
			if err != nil {
				t.Error(err)
			}
			s.at = at
		case "docs":
			s.docs = append(s.docs, row[1:])
		case "pairs":
			s.pairs = append(s.pairs, row[1:])
		case "sums":
			s.sums = append(s.sums, row[1:])
		}
	}
	return s
}

// waitForSink waits until the target's tables are there.
func waitForSink(t *testing.T, wh *pgservertest.DB) {
	t.Helper()
	await.That(t, "the target's tables", func() bool {
		return wh.String("select to_regclass('docs') is null or to_regclass('pairs') is null or "+
			"to_regclass('sums') is null") == "f"
	})
}

// compareSink compares the target's tables with SQL once its progress covers a
// position.
func compareSink(
	ctx context.Context, t *testing.T, db, wh *pgservertest.DB, app string, at record.LSN,
) {
	t.Helper()
	docs, pairs, sums := db.Strings(DocsSQL), db.Strings(PairsSQL), db.Strings(SumsSQL)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	var got sinkTables
	for ctx.Err() == nil {
		// A transaction that changes nothing for the target does not move its progress,
		// so the rows decide; the progress tells what they stand for.
		got = readSinkTables(t, wh, app)
		if got.at >= at || slices.EqualFunc(got.docs, docs, slices.Equal) &&
			slices.EqualFunc(got.pairs, pairs, slices.Equal) && sumsDiffer(got.sums, sums) == "" {
			break
		}
		<-poll.C
	}
	sameRows(t, "sink docs", got.docs, docs)
	sameRows(t, "sink pairs", got.pairs, pairs)
	compareSums(t, "sink sums", got.sums, sums)
}

func sameRows(t *testing.T, what string, got, want [][]string) {
	t.Helper()
	if slices.EqualFunc(got, want, slices.Equal) {
		return
	}
	t.Errorf("%s: %d rows, SQL has %d", what, len(got), len(want))
	for i := range max(len(got), len(want)) {
		var g, w []string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if !slices.Equal(g, w) {
			t.Errorf("%s: row %d: got %v, SQL %v", what, i, g, w)
			return
		}
	}
}
