package apptest

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

// canary begins whatever must not be told.
const canary = "canary-"

// passwords are those of the databases that apps under test read.
var passwords sync.Map

// untold fails a test whose app writes a password or a canary into its log, at any level.
type untold struct{ t *testing.T }

func (u untold) Write(line []byte) (int, error) {
	text := string(line)
	if strings.Contains(text, canary) {
		u.t.Errorf("the log tells: %s", text)
	}
	passwords.Range(func(password, _ any) bool {
		if strings.Contains(text, password.(string)) {
			u.t.Error("the log tells the password of a database")
		}
		return true
	})
	return len(line), nil
}

// watched is a logger that reads along.
func watched(t *testing.T, log *slog.Logger) *slog.Logger {
	if log == nil {
		log = slog.Default()
	}
	return slog.New(slog.NewMultiHandler(log.Handler(),
		slog.NewJSONHandler(untold{t}, &slog.HandlerOptions{Level: slog.LevelDebug})))
}

type note struct {
	Text string
	At   time.Time
}

// telling is an app over rows, a role and a token that can be told from anything else.
func telling(t *testing.T, db, wh *pgservertest.DB) (cfg tailrace.Config, topo *topology.Topology) {
	t.Helper()
	role := "told_" + db.Name
	db.Exec("create table notes (id text primary key, text text not null, at timestamptz not null)",
		"create role "+role+" superuser login password '"+canary+"password'",
		"insert into notes values ('"+canary+"key', '"+canary+"value', now())")
	t.Cleanup(func() {
		for _, d := range []*pgservertest.DB{db, wh} {
			d.Exec("reassign owned by " + role + " to postgres")
		}
		db.Exec("drop role " + role)
	})
	wh.Exec("create table notes (key text primary key, text text not null check (length(text) < 20), " +
		"at timestamptz not null)")
	as := func(url string) string {
		_, rest, _ := strings.Cut(url, "@")
		return "postgres://" + role + ":" + canary + "password@" + rest
	}
	b := topology.New("notes")
	notes := sources.Table[string, note](b, sources.NewDatabase("shop",
		postgres.Source(postgres.Config{URL: as(db.URL)})), "public.notes")
	sinks.View(notes, "notes")
	checked := operators.MapValues(notes, func(_ string, n note) note {
		if strings.HasPrefix(n.Text, canary+"bad") {
			panic("unlucky")
		}
		return n
	})
	sinks.View(checked.OnError(func(record.Context, *topology.Failure) topology.Verdict {
		return topology.DeadLetter
	}), "checked")
	sinks.Table(notes, sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: as(wh.URL)})), "notes")
	topo, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return tailrace.Config{App: "told", StateDir: t.TempDir() + "/state", Token: canary + "token",
		Addr: "127.0.0.1:0"}, topo
}

// TestNothingIsTold runs an app into failures: none of its secrets and rows is in its log
// at any level, in its errors, its metrics, or what it answers to those without the token,
// before the failures, after them and at its end. With the token, rows are where they
// belong and nowhere else.
func TestNothingIsTold(t *testing.T) {
	db, wh := pgservertest.New(t), pgservertest.New(t)
	cfg, topo := telling(t, db, wh)
	app := start(t, cfg, topo)
	if err := app.app.WaitReady(deadline(t)); err != nil {
		t.Fatal(err, app.stop())
	}
	untold := func(where, text string) {
		t.Helper()
		if at := strings.Index(text, canary); at >= 0 {
			t.Errorf("%s tells: %.300s", where, text[max(0, at-150):])
		}
	}
	ask := func(path, token string) (int, string) {
		t.Helper()
		url := "http://" + app.app.Addr().String() + path
		r, err := http.NewRequestWithContext(deadline(t), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, fmt.Sprint(resp.Header) + string(body)
	}
	// Whether an answer has rows, for those who may read them.
	paths := map[string]bool{"/metrics": false, "/readyz": false, "/livez": false, "/plan": false,
		"/plan?format=json": false, "/views": false, "/views/notes": true, "/deadletters": true}
	look := func(when string, letters bool) {
		t.Helper()
		untold(when+": the status", fmt.Sprintf("%+v", app.app.Status()))
		for path, rows := range paths {
			status, body := ask(path, canary+"token")
			if status != http.StatusOK {
				t.Errorf("%s: %s answers %d: %s", when, path, status, body)
			}
			if path == "/deadletters" {
				rows = letters
			}
			if !rows {
				untold(when+": "+path, body)
			} else if !strings.Contains(body, canary+"key") {
				t.Errorf("%s: %s has no rows: %s", when, path, body)
			}
			if strings.Contains(body, canary+"token") || strings.Contains(body, canary+"password") {
				t.Errorf("%s: %s tells a secret: %s", when, path, body)
			}
			want := http.StatusUnauthorized
			if path == "/readyz" || path == "/livez" {
				want = http.StatusOK
			}
			status, body = ask(path, "wrong")
			if untold(when+": "+path+" without the token", body); status != want {
				t.Errorf("%s: %s answers %d without the token", when, path, status)
			}
		}
	}
	await.That(t, "the target is open", func() bool { return len(app.app.Status().Targets) == 0 })
	look("at first", false)
	// A connection that is lost, and a function that fails.
	db.Exec("select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database()",
		"insert into notes values ('"+canary+"key-2', '"+canary+"bad', now())")
	await.That(t, "the dead letter", func() bool { return len(app.app.Status().Degraded) > 0 })
	look("with a dead letter", true)
	// A row that the target refuses, and one that cannot be read: either ends the app.
	db.Exec("insert into notes values ('"+canary+"key-3', '"+canary+"value and far more than twenty', now())",
		"insert into notes values ('"+canary+"key-4', '"+canary+"value', 'infinity')")
	end := app.wait(t)
	if !errors.Is(end, sources.ErrDecode) && !errors.Is(end, sinks.ErrRejected) {
		t.Errorf("got %v", end)
	}
	untold("the end", fmt.Sprintf("%v %+v", end, app.app.Status()))
	for path, want := range map[string]int{"/metrics": 200, "/livez": 503, "/readyz": 503} {
		answer := httptest.NewRecorder()
		app.app.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if untold("at the end "+path, answer.Body.String()); answer.Code != want {
			t.Errorf("at the end %s answers %d", path, answer.Code)
		}
	}
}
