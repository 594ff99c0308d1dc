package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/file"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

// envReplay makes a process the child of TestReplayKilled: "broken" or "mended"; "refused" is that of
// TestRefusedKilled.
const envReplay = "TAILRACE_CRASH_REPLAY"

type ratioRow struct{ Amount int64 }

// ratioOf fails on 0 as long as it is not mended.
func ratioOf(amount int64) int64 {
	if amount == 0 && os.Getenv(envReplay) == "mended" {
		return -1
	}
	return 100 / amount
}

// runReplayChild is an app with policies on a table and on a stream. Crash points are
// switched on by GET /arm.
func runReplayChild() error {
	dir := os.Getenv(envDir)
	keep := func(record.Context, *topology.Failure) topology.Verdict { return topology.DeadLetter }
	shop := sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: os.Getenv(envSource)}))
	warehouse := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{
		URL: os.Getenv(envWarehouse), CreateTables: true, Lease: time.Second,
	}))
	events := sinks.NewTarget("events", file.Target(file.Config{Path: filepath.Join(dir, "events.jsonl")}))
	b := topology.New("ratios")
	ratios := operators.MapValues(sources.Table[int64, ratioRow](b, shop, "public.items"),
		func(_ int64, r ratioRow) int64 { return ratioOf(r.Amount) }).OnError(keep)
	sinks.View(ratios, "ratios")
	sinks.Table(ratios, warehouse, "ratios")
	sinks.Stream(operators.ToStream("changes", ratios), events, "changes")
	notes := operators.MapStreamValues(sources.Stream[int64, ratioRow](b, shop, "public.notes"),
		func(_ int64, r ratioRow) int64 { return ratioOf(r.Amount) }).OnError(keep)
	sinks.Stream(notes, events, "notes")
	app, err := tailrace.New(tailrace.Config{
		App: "replay", StateDir: filepath.Join(dir, "state"), IdleCommit: time.Hour,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, b.MustBuild())
	if err != nil {
		return err
	}
	return runArmed(app)
}

// runArmed runs an app with its handler, and GET /arm.
func runArmed(app *tailrace.App) error {
	mux := http.NewServeMux()
	mux.Handle("/", app.Handler())
	mux.HandleFunc("/arm", func(w http.ResponseWriter, r *http.Request) {
		if err := failpoint.Enable(r.FormValue("point")+"=exit", ""); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(listener, mux) }() // until the process is killed
	ctx := context.Background()
	go func() {
		if app.WaitReady(ctx) == nil {
			fmt.Println("ready", listener.Addr())
		}
	}()
	return app.Run(ctx)
}

// replayed is the app of TestReplayKilled as its parent sees it.
type replayed struct {
	t      *testing.T
	app    *app
	db, wh *pgservertest.DB
}

// start starts the app with a function that is broken or mended, and returns its address.
func (r *replayed) start(how string) (c *child, addr string) {
	r.t.Helper()
	r.t.Setenv(envReplay, how)
	c = r.app.start(r.t, "")
	select {
	case addr = <-c.ready:
		return c, "http://" + addr
	case <-c.done:
	case <-time.After(60 * time.Second):
		c.dump()
	}
	r.t.Fatalf("the app is not ready:\n%s", c.log)
	return nil, ""
}

func (r *replayed) get(url string) string {
	r.t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %s %s %v", url, resp.Status, body, err)
	}
	return string(body)
}

func (r *replayed) post(url, body string) error {
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// ratio is what the view has for a key now.
func (r *replayed) ratio(addr string, key int) string {
	r.t.Helper()
	var row struct {
		Value json.Number `json:"value"`
	}
	lsn := r.db.String("select pg_current_wal_lsn()")
	body := r.get(fmt.Sprintf("%s/views/ratios/%d?timeout=30s&wait_for=%s", addr, key, lsn))
	if err := json.Unmarshal([]byte(body), &row); err != nil {
		r.t.Fatal(err)
	}
	return row.Value.String()
}

// lines are the ids of a stream's events of a key in the file, with their values.
func (r *replayed) lines(stream string, key int) (ids, values []string) {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.app.dir, "events.jsonl"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		var e struct {
			ID, Stream string
			Key        int
			Value      any
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			r.t.Fatalf("%v in %s", err, line)
		}
		if e.Stream == stream && e.Key == key {
			if change, ok := e.Value.(map[string]any); ok {
				e.Value = change["new"]
			}
			ids, values = append(ids, e.ID), append(values, fmt.Sprint(e.Value))
		}
	}
	return ids, values
}

// TestReplayKilled kills the app at each point between the replay of dead letters and the
// end of its commit. Afterwards the letters are either all there, and the row is parked, or
// have been replayed, once; in the end all is as if nothing had failed.
func TestReplayKilled(t *testing.T) {
	r := &replayed{t: t, db: pgservertest.New(t), wh: pgservertest.New(t)}
	r.app = &app{dir: t.TempDir(), source: r.db.URL, warehouse: r.wh.URL}
	r.db.Exec("create table items (id bigint primary key, amount bigint not null)",
		"create table notes (id bigint primary key, amount bigint not null)")
	r.wh.Exec("create table ratios (key bigint primary key, value bigint not null)")
	for i, c := range []struct{ point, letters string }{
		{failpoint.Replaying, "stay"}, {failpoint.BatchSync, "stay"}, {failpoint.BatchApplied, "either"},
		{failpoint.BeforeAck, "go"}, {failpoint.AfterAck, "go"},
	} {
		r.round(i+1, c.point, c.letters)
	}
}

func (r *replayed) round(key int, point, letters string) {
	t := r.t
	c, addr := r.start("broken")
	r.db.Exec(fmt.Sprintf("insert into items values (%d, 5)", key),
		fmt.Sprintf("update items set amount = 0 where id = %d", key),
		fmt.Sprintf("insert into notes values (%d, 0)", key))
	if got := r.ratio(addr, key); got != "20" {
		t.Errorf("%s: the parked key has %s", point, got)
	}
	if n := strings.Count(r.get(addr+"/deadletters"), "\n"); n != 2 {
		t.Fatalf("%s: %d letters:\n%s", point, n, c.log)
	}
	c.kill(t)
	c, addr = r.start("mended")
	if got := r.ratio(addr, key); got != "20" {
		t.Errorf("%s: after a restart the parked key has %s", point, got)
	}
	// Waits until the start, and all positions, are durable.
	_ = r.post(addr+"/deadletters/drop", `{"ids":["none"]}`)
	r.get(addr + "/arm?point=" + point)
	_ = r.post(addr+"/deadletters/replay", `{"all":true}`) // the app dies over it, with or without an answer
	c.exited(t, point)
	c, addr = r.start("mended")
	defer c.kill(t)
	left := strings.Count(r.get(addr+"/deadletters"), "\n")
	got := r.ratio(addr, key)
	if !(left == 2 && got == "20" && letters != "go" || left == 0 && got == "-1" && letters != "stay") {
		t.Errorf("%s: %d letters are left, the row is %s", point, left, got)
	}
	if err := r.post(addr+"/deadletters/replay", `{"all":true}`); err != nil {
		t.Fatal(err)
	}
	if left := r.get(addr + "/deadletters"); left != "" || r.ratio(addr, key) != "-1" {
		t.Errorf("%s: in the end the row is %s, letters:\n%s", point, r.ratio(addr, key), left)
	}
	r.delivered(point, key)
}

// delivered compares what the targets have of a key: each event once, and the row.
func (r *replayed) delivered(point string, key int) {
	var changes, notes []string
	if !await.Within(20*time.Second, func() bool {
		_, changes = r.lines("changes", key)
		_, notes = r.lines("notes", key)
		return slices.Equal(changes, []string{"20", "-1"}) && slices.Equal(notes, []string{"-1"})
	}) {
		r.t.Errorf("%s: the file has the changes %q and the notes %q", point, changes, notes)
	}
	ids, _ := r.lines("changes", key)
	more, _ := r.lines("notes", key)
	ids = append(ids, more...)
	if slices.Sort(ids); len(slices.Compact(slices.Clone(ids))) != len(ids) {
		r.t.Errorf("%s: events share an id: %q", point, ids)
	}
	sql := fmt.Sprintf("select coalesce((select value::text from ratios where key = %d), 'nothing')", key)
	if !await.Within(20*time.Second, func() bool { return r.wh.String(sql) == "-1" }) {
		r.t.Errorf("%s: the target has %s", point, r.wh.String(sql))
	}
}
