package tailrace_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

var items = &record.Relation{Schema: "public", Name: "items", Columns: []record.Column{
	{Name: "id", Type: "bigint", TypeOID: 20, TypeMod: -1, Key: true, NotNull: true},
	{Name: "name", Type: "text", TypeOID: 25, TypeMod: -1, NotNull: true},
}}

type item struct{ Name string }

// snapshotOnly is a database that holds ten items and never changes.
type snapshotOnly struct{}

func (snapshotOnly) Drop(context.Context, sources.DropRequest) error { return nil }

func (snapshotOnly) Open(_ context.Context, req sources.OpenRequest) (sources.Session, error) {
	return &snapshotSession{database: req.Database, done: req.Resume > 0}, nil
}

type snapshotSession struct {
	database string
	done     bool
}

func (s *snapshotSession) System() string { return "fake" }
func (s *snapshotSession) Close() error   { return nil }
func (s *snapshotSession) Ack(uint64)     {}

func (s *snapshotSession) Relations() map[string]*record.Relation {
	return map[string]*record.Relation{items.String(): items}
}

func (s *snapshotSession) Next(ctx context.Context) (*sources.Batch, error) {
	if s.done {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.done = true
	tx := sources.TxRows{
		Tx: &record.Tx{Source: s.database, Position: 0x1000, CommitTime: 1, Snapshot: true}, Last: true,
	}
	for i := range 10 {
		tx.Rows = append(tx.Rows, record.Row{Rel: items, Op: record.Insert, Ordinal: uint32(i), New: record.Tuple{
			{Kind: record.Text, Data: []byte(strconv.Itoa(i))}, {Kind: record.Text, Data: []byte("item")},
		}})
	}
	return &sources.Batch{Txs: []sources.TxRows{tx}}, nil
}

// planForm is the topologies of an app: "shop" counts items, "other" is on another
// database and "more" on the same one.
func planForm(form string) []*topology.Topology {
	shop := sources.NewDatabase("shop", snapshotOnly{})
	build := func(name string, db *sources.Database, version int) *topology.Topology {
		b := topology.New(name)
		in := sources.Table[int64, item](b, db, "public.items")
		sinks.View(
			operators.Aggregate("count", operators.GroupBy(in, func(_ int64, i item) string { return i.Name }),
				aggregate.Count[item](), operators.NodeVersion(version)),
			name+"-counts",
		)
		return b.MustBuild()
	}
	var out []*topology.Topology
	for _, part := range strings.Split(form, "+") {
		switch part {
		case "shop":
			out = append(out, build("shop", shop, 0))
		case "shop2":
			out = append(out, build("shop", shop, 2))
		case "more":
			out = append(out, build("more", shop, 0))
		case "other":
			out = append(out, build("other", sources.NewDatabase("stock", snapshotOnly{}), 0))
		}
	}
	return out
}

// TestPlan runs apps and compares what they say of their state with
// testdata/plan.txt; -rewrite writes it.
func TestPlan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	app := func(form string) *tailrace.App {
		a, err := tailrace.New(tailrace.Config{App: "planned", StateDir: dir}, planForm(form)...)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	text := func(p *tailrace.Plan, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		out := strings.ReplaceAll(p.String(), dir, "STATE")
		return out + "rebuilds " + strconv.FormatBool(
			p.Rebuilds(),
		) + ", loses " + strconv.FormatBool(
			p.Loses(),
		) + "\n"
	}
	datadriven.RunTest(
		t,
		filepath.Join("testdata", "plan.txt"),
		func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "plan":
				return text(app(d.CmdArgs[0].Key).Plan(ctx))
			case "read":
				return text(tailrace.ReadState(ctx, dir))
			case "run": // and asks the app while it runs and afterwards
				a := app(d.CmdArgs[0].Key)
				run, stop := context.WithCancel(ctx)
				done := make(chan error, 1)
				go func() { done <- a.Run(run) }()
				if err := a.WaitReady(ctx); err != nil {
					t.Fatal(err)
				}
				if _, err := tailrace.ReadState(ctx, dir); !errors.Is(err, state.ErrLocked) {
					t.Errorf("the directory of a running app is read: %v", err)
				}
				w := httptest.NewRecorder()
				a.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/plan", nil))
				// State of a topology that is gone may go while it is looked at.
				if got := w.Body.String(); !strings.Contains(got, "topology shop: keep") {
					t.Errorf("over HTTP the plan is %s", got)
				}
				stop()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				return text(a.Plan(ctx))
			}
			return "unknown command"
		},
	)
	other, err := tailrace.New(tailrace.Config{App: "other", StateDir: dir}, planForm("shop")...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Plan(ctx); !errors.Is(err, state.ErrMismatch) {
		t.Errorf("another app's directory gives %v", err)
	}
}
