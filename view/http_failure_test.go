package view

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace/state"
)

// canary is part of what must not be logged or sent.
const canary = "canary-4711"

type stubborn struct{ name string }

func (s stubborn) MarshalJSON() ([]byte, error) { return nil, errors.New("refused " + s.name) }

// brokenSnapshot cannot be read.
type brokenSnapshot struct{ state.Snapshot }

func (brokenSnapshot) NewIter(_, _ []byte) (state.Iter, error) {
	return nil, errors.New("read /var/lib/" + canary + "/000007.sst: input/output error")
}

// TestHTTPFailures: what goes wrong inside is a 500 that tells nothing of paths and rows.
func TestHTTPFailures(t *testing.T) {
	var log bytes.Buffer
	e := newEngine(t, HostOptions{})
	tb := addView[string, stubborn](e, "odd")
	tb.set(t, canary, stubborn{canary})
	e.commit()
	h := Handler(e.host, HTTPOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	get := func(target string) string {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, target, nil))
		if rec.Code != http.StatusInternalServerError || !strings.Contains(rec.Body.String(), `"remedy"`) {
			t.Errorf("%s: %d %s", target, rec.Code, rec.Body)
		}
		if rec.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v", target, rec.Header())
		}
		return rec.Body.String()
	}
	if body := get("/views/odd/"+canary) + get("/views/odd") + log.String(); strings.Contains(body, canary) {
		t.Errorf("a row is told: %s", body)
	}
	if strings.Count(log.String(), "request failed") != 2 {
		t.Errorf("log: %s", log.String())
	}

	broken := brokenSnapshot{e.db.NewSnapshot()}
	err := e.host.Publish(Commit{Seq: 2, Positions: e.positions(), Snapshot: broken})
	if err != nil {
		t.Fatal(err)
	}
	if body := get("/views/odd"); strings.Contains(body, canary) {
		t.Errorf("a path is told: %s", body)
	}
	if !strings.Contains(log.String(), "input/output error") {
		t.Errorf("the cause is not logged: %s", log.String())
	}
}

// slowWriter takes ten seconds to accept anything.
type slowWriter struct{ *streamRecorder }

func (w slowWriter) Write(b []byte) (int, error) {
	time.Sleep(10 * time.Second) // of a bubble's clock: slowness is what is tested
	return w.streamRecorder.Write(b)
}

// TestStreamSlowRows: a client that reads rows slowly does not hold a snapshot longer
// than a cursor may.
func TestStreamSlowRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, HostOptions{})
		tb := addView[int64, string](e, "v")
		for i := range int64(20_000) {
			tb.set(t, i, "some text that makes a row")
		}
		e.commit()
		w := slowWriter{&streamRecorder{ResponseRecorder: httptest.NewRecorder()}}
		start := time.Now()
		r := httptest.NewRequest(http.MethodGet, "/views/v/watch?rows=true", nil)
		Handler(e.host, HTTPOptions{}).ServeHTTP(w, r)
		if took := time.Since(start); took < 30*time.Second || took > time.Minute {
			t.Errorf("the stream ended after %v", took)
		}
		body := w.Body.String()
		if !strings.Contains(body, `event: failure`) || !strings.Contains(body, "too_slow") {
			t.Errorf("it ended with %s", body[max(0, len(body)-300):])
		}
		if n := e.host.open.Load(); n != 1 {
			t.Errorf("%d snapshots are open", n)
		}
	})
}
