package tailrace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tailrace/tailrace/view"
)

// longTime bounds one request that may take longer than the server's others.
const longTime = 10 * time.Minute

// unhurried gives a request of ServerOptions.Unbounded longTime: the end of either deadline of
// the connection would cancel it. An error means that there are none.
func unhurried(w http.ResponseWriter, r *http.Request) (context.Context, context.CancelFunc) {
	out, until := http.NewResponseController(w), time.Now().Add(longTime)
	_ = out.SetReadDeadline(until)
	_ = out.SetWriteDeadline(until)
	return context.WithDeadline(r.Context(), until)
}

// handler serves views, metrics, health, the plan, dead letters and Verify.
func (a *App) handler() http.Handler {
	mux := http.NewServeMux()
	views := a.marked(view.Handler(a.host, view.HTTPOptions{Logger: a.log, Peers: a.peers}))
	mux.Handle("/views", views)
	mux.Handle("/views/", views)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", a.livez)
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("GET /plan", a.servePlan)
	mux.HandleFunc("GET /deadletters", a.serveDeadLetters)
	mux.HandleFunc("POST "+replayPath, a.changeDeadLetters)
	mux.HandleFunc("POST "+dropPath, a.changeDeadLetters)
	if a.cfg.VerifySQL {
		mux.HandleFunc("POST /verify", a.serveVerify)
	}
	if a.cfg.Kafka != nil {
		mux.HandleFunc("POST /verify/state", a.serveVerifyState)
	}
	return mux
}

// marked says in headers of the views' answers which topologies are held, and which nodes
// have parked keys.
func (a *App) marked(views http.Handler) http.Handler {
	owners := map[string]string{}
	for _, t := range a.topologies {
		for _, n := range t.Nodes() {
			if port, ok := n.Sink.(view.Port); ok {
				owners[port.Name()] = t.Name()
			}
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := a.Status()
		parked := maps.Clone(s.Degraded)
		name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/views/"), "/")
		for _, held := range slices.Sorted(maps.Keys(s.Held)) {
			// What is no view concerns all: the list of views, and reads of several.
			if owner, ok := owners[name]; !ok || owner == held {
				w.Header().Add("Tailrace-Held", a.heldSince(held, s.Held[held]))
			}
		}
		for _, t := range a.topologies {
			for _, n := range t.Nodes() {
				if n.Sink != nil {
					delete(parked, t.Name()+"/"+n.Name) // its target lacks rows, no view does
				}
			}
		}
		for _, node := range slices.Sorted(maps.Keys(parked)) {
			w.Header().Add("Tailrace-Degraded", fmt.Sprintf("%s; keys=%d", node, parked[node]))
		}
		views.ServeHTTP(w, r)
	})
}

// maxHeldReason bounds the reason in the header Tailrace-Held, in bytes.
const maxHeldReason = 300

// heldSince says where a topology stands still and why, in one line.
func (a *App) heldSince(topology string, cause error) string {
	why := strings.Join(strings.Fields(cause.Error()), " ")
	if len(why) > maxHeldReason {
		why = strings.ToValidUTF8(why[:maxHeldReason], "") + "..."
	}
	at := ""
	if p, ok := a.host.PositionOf(topology); ok {
		at = "; position=" + p.String()
	}
	return fmt.Sprintf("%s%s; reason=%s", topology, at, strconv.QuoteToASCII(why))
}

// livez answers 200 while the app runs: a restart would not help.
func (a *App) livez(w http.ResponseWriter, _ *http.Request) {
	s := a.Status()
	answer(w, !s.Stopped, map[string]any{"stopped": s.Stopped})
}

// readyz answers 200 when the views can be read and everything makes progress.
func (a *App) readyz(w http.ResponseWriter, _ *http.Request) {
	s := a.Status()
	body := map[string]any{}
	if p, ok := a.host.Position(); ok {
		body["position"] = p.String()
	}
	ok := s.ready()
	for name, errs := range map[string]map[string]error{
		"held": s.Held, "targets": s.Targets, "sources": s.Sources, "stalled": s.Stalled,
	} {
		if len(errs) == 0 {
			continue
		}
		texts := map[string]string{}
		for k, err := range errs {
			texts[k] = err.Error()
		}
		body[name] = texts
	}
	if len(s.Joining) > 0 {
		body["joining"] = s.Joining // their views cannot be read yet; those of the others can
	}
	if len(s.Degraded) > 0 {
		body["degraded"] = s.Degraded // keys are parked; everything makes progress all the same
	}
	if s.WaitingFor != "" {
		body["waiting_for_target"] = s.WaitingFor
	}
	if why := s.starting(); why != "" {
		body["starting"] = why
	}
	body["ready"] = ok
	answer(w, ok, body)
}

// servePlan shows the app's topologies with their stores and sizes: as text, or as
// JSON with ?format=json.
func (a *App) servePlan(w http.ResponseWriter, r *http.Request) {
	p, err := a.Plan(r.Context())
	switch {
	case err != nil:
		answer(w, false, map[string]any{"error": "plan", "message": err.Error()})
	case r.URL.Query().Get("format") == "json":
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(p) // an error means that the client has gone
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, p.String()) // the same
	}
}

func answer(w http.ResponseWriter, ok bool, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// An error here means that the client has gone.
	_ = json.NewEncoder(w).Encode(body)
}

// listen binds the address of the HTTP server.
func (a *App) listen() error {
	addr, err := a.server.Listen()
	if err != nil {
		return fmt.Errorf("tailrace: Config.Addr: %w", err)
	}
	a.mu.Lock()
	a.addr = addr
	a.mu.Unlock()
	return nil
}

// unlisten gives the address back, where nothing was served.
func (a *App) unlisten() error {
	if a.server == nil {
		return nil
	}
	return a.server.Shutdown(context.Background())
}

// serve starts the HTTP server where Config.Addr asks for one, and returns what ends it. If it
// ends by itself, that fails the run.
func (a *App) serve(ctx context.Context, fail context.CancelCauseFunc) (stop func() error) {
	if a.server == nil {
		return func() error { return nil }
	}
	a.log.Info("the HTTP server listens", "addr", a.Addr().String())
	go func() {
		if a.WaitReady(ctx) == nil {
			a.log.Info("serving views", "addr", a.Addr().String())
		}
	}()
	done := make(chan error, 1)
	go func() {
		err := a.server.Serve()
		done <- err
		if err != nil {
			fail(err)
		}
	}()
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		return errors.Join(a.server.Shutdown(ctx), <-done)
	}
}
