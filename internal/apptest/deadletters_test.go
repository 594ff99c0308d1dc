package apptest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// severity refuses what it does not know.
type severity string

func (s *severity) UnmarshalText(text []byte) error {
	*s = severity(text)
	if *s != "low" && *s != "high" {
		return errors.New("unknown severity")
	}
	return nil
}

func (s severity) MarshalText() ([]byte, error) { return []byte(s), nil }

type alarm struct {
	Severity severity
	Cents    int64
}

// TestDeadLetters reads an outbox of a real database with rows that cannot be decoded
// and rows that a function panics on: the others come out, these are kept with their
// positions, across a restart and a rebuild of the state.
func TestDeadLetters(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec("create table alarms (id bigint primary key, severity text not null, cents bigint not null)")
	dir := filepath.Join(t.TempDir(), "state")
	target := newRemembered("shop")
	run := func(version int, write ...string) started {
		t.Helper()
		b := topology.New("alarms", topology.Version(version))
		set := func(record.Context, *topology.Failure) topology.Verdict { return topology.DeadLetter }
		in := sources.Stream[int64, alarm](b, pgSource("shop", db), "public.alarms").OnError(set)
		sinks.Stream(
			operators.MapStreamValues(in, func(_ int64, a alarm) int64 { return 100 / a.Cents }).OnError(set),
			sinks.NewTarget("out", target),
			"ratios",
		)
		app := start(t, tailrace.Config{App: "letters", StateDir: dir}, b.MustBuild())
		if err := app.app.WaitReady(deadline(t)); err != nil {
			t.Fatal(err, app.stop())
		}
		db.Exec(write[:len(write)-1]...)
		before := written(t, db)
		reached := target.wait(before + 1)
		db.Exec(write[len(write)-1])
		if err := app.app.WaitFor(deadline(t), head(t, db)); err != nil {
			t.Fatal(err, app.app.Status())
		}
		select {
		case <-reached:
		case <-deadline(t).Done():
			t.Fatal("the target takes nothing")
		}
		return app
	}
	letters := func(a *tailrace.App) []string {
		t.Helper()
		var out []string
		for l, err := range a.DeadLetters(context.Background()) {
			if err != nil {
				t.Fatal(err)
			}
			if at, err := record.ParseLSN(l.Position); err != nil || at == 0 || l.XID == 0 || l.CommitTime == 0 {
				t.Errorf("the letter does not tell its transaction: %+v", l)
			}
			text, _, _ := strings.Cut(l.Error, ": ")
			out = append(out, fmt.Sprintf("%s %s %s (%s)", l.Node, l.Key, l.Value, text))
		}
		return out
	}
	first := run(0, "insert into alarms values (1, 'low', 5), (2, 'dire', 7), (3, 'high', 0), (4, 'high', 4)",
		"insert into alarms values (5, 'low', 50)")
	want := []string{
		`shop/public.alarms {"id":"2"} {"cents":"7","id":"2","severity":"dire"} (sources)`,
		`map-values#1 3 {"severity":"high","cents":0} (topology)`,
	}
	if got := letters(first.app); !slices.Equal(got, want) {
		t.Errorf("the letters are %q, want %q", got, want)
	}
	w := httptest.NewRecorder()
	first.app.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/deadletters?limit=1", nil))
	if body := w.Body.String(); strings.Count(body, "\n") != 1 || !strings.Contains(body, `"severity":"dire"`) {
		t.Errorf("over HTTP the first letter is %q", body)
	}
	w = httptest.NewRecorder()
	first.app.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, node := range []string{"shop/public.alarms", "map-values#1"} {
		line := `tailrace_records_dropped_total{app="letters",node="` + node + `",reason="dead-letter",topology="alarms"} 1`
		if !strings.Contains(w.Body.String(), line) {
			t.Errorf("the metrics lack %s", line)
		}
		line = `tailrace_dead_letters_total{app="letters",node="` + node + `",topology="alarms"} 1`
		if !strings.Contains(w.Body.String(), line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	if got := letters(first.app); !slices.Equal(got, want) {
		t.Errorf("after the run the letters are %q, want %q", got, want)
	}
	second := run(0, "insert into alarms values (6, 'none', 2), (7, 'high', 20)")
	want = append(want, `shop/public.alarms {"id":"6"} {"cents":"2","id":"6","severity":"none"} (sources)`)
	if got := letters(second.app); len(got) != 3 {
		t.Errorf("after a restart the letters are %q", got)
	}
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	rebuilt := run(1, "insert into alarms values (8, 'high', 25)")
	got := letters(rebuilt.app)
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("after a rebuild the letters are %q, want %q", got, want)
	}
	if err := rebuilt.stop(); err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, e := range target.events {
		_, e, _ = strings.Cut(e, " ratios ")
		e, _, _ = strings.Cut(e, " at ")
		values = append(values, e)
	}
	if want := []string{"1=20", "4=25", "5=2", "7=5", "8=4"}; !slices.Equal(values, want) {
		t.Errorf("the events are %q, want %q", values, want)
	}
}
