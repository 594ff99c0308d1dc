package tailrace

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"strconv"

	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/state"
)

// DeadLetter is an input that an error policy has set aside: see
// topology.ErrorPolicy.
type DeadLetter = task.DeadLetter

// DeadLetters yields what the app's error policies have set aside, as of the last
// commit: topology by topology, in order of source, transaction and row. The app may
// be running or not; the error is state.ErrLocked where another process runs it.
func (a *App) DeadLetters(ctx context.Context) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		a.dirMu.RLock()
		defer a.dirMu.RUnlock()
		if a.dir != nil {
			yieldLetters(ctx, a.dir, yield)
			return
		}
		for l, err := range ReadDeadLetters(ctx, a.cfg.StateDir) {
			if !yield(l, err) {
				return
			}
		}
	}
}

// ReadDeadLetters is App.DeadLetters for the state directory of any app that does not
// run. The error is os.ErrNotExist where there is no state.
func ReadDeadLetters(ctx context.Context, stateDir string) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		dir, err := state.ReadDir(stateDir, state.Options{})
		if err != nil {
			yield(DeadLetter{}, err)
			return
		}
		defer dir.Close() //nolint:errcheck // It was only read from.
		yieldLetters(ctx, dir, yield)
	}
}

func yieldLetters(ctx context.Context, dir *state.Dir, yield func(DeadLetter, error) bool) {
	wanted := true
	err := engine.ReadDeadLetters(dir, func(l *task.DeadLetter) bool {
		if ctx.Err() == nil {
			wanted = yield(*l, nil)
		}
		return wanted && ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil && wanted {
		yield(DeadLetter{}, err)
	}
}

// serveDeadLetters shows the dead letters, a JSON object a line; ?limit=n ends after n.
func (a *App) serveDeadLetters(w http.ResponseWriter, r *http.Request) {
	limit := -1
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).
				Encode(map[string]string{"error": "deadletters", "message": "limit must be a number"})
			return
		}
		limit = n
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	for l, err := range a.DeadLetters(r.Context()) {
		if limit == 0 {
			return
		}
		limit--
		if err != nil {
			// The answer has begun, so the line is all there is to say it with.
			_ = out.Encode(map[string]string{"error": "deadletters", "message": err.Error()})
			return
		}
		if out.Encode(&l) != nil {
			return // the client has gone
		}
	}
}
