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

// letterPage is how many dead letters are read at a time, and letterBytes about how many
// bytes of them.
const (
	letterPage  = 1000
	letterBytes = 4 << 20
)

// DeadLetters yields what the app's error policies have set aside: topology by topology,
// in order of source, transaction and row. They are read a page at a time, each as of the
// last commit then, and nothing is held while the loop's body runs. The app may be
// running or not; the error is state.ErrLocked where another process runs it.
func (a *App) DeadLetters(ctx context.Context) iter.Seq2[DeadLetter, error] {
	return letterPages(ctx, func(read func(*state.Dir) error) error {
		a.dirMu.RLock()
		defer a.dirMu.RUnlock()
		if a.dir != nil {
			return read(a.dir)
		}
		return readDir(a.cfg.StateDir, read)
	})
}

// ReadDeadLetters is App.DeadLetters for the state directory of any app that does not
// run; the app may start while the loop's body runs, which ends the loop with
// state.ErrLocked. The error is os.ErrNotExist where there is no state.
func ReadDeadLetters(ctx context.Context, stateDir string) iter.Seq2[DeadLetter, error] {
	return letterPages(ctx, func(read func(*state.Dir) error) error { return readDir(stateDir, read) })
}

func readDir(path string, read func(*state.Dir) error) error {
	dir, err := state.ReadDir(path, state.Options{})
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // It was only read from.
	return read(dir)
}

// letterPages yields letters by pages; with opens the directory for reading one.
func letterPages(
	ctx context.Context, with func(func(*state.Dir) error) error,
) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		var at engine.LetterPlace
		for more := true; more; {
			var page []DeadLetter
			err := with(func(dir *state.Dir) (err error) {
				page, at, more, err = readLetters(ctx, dir, at)
				return err
			})
			if err == nil {
				err = ctx.Err()
			}
			for i := range page {
				if !yield(page[i], nil) {
					return
				}
			}
			if err != nil {
				yield(DeadLetter{}, err)
				return
			}
		}
	}
}

// readLetters reads the page after a place; more says that it may not be the last one.
func readLetters(
	ctx context.Context, dir *state.Dir, after engine.LetterPlace,
) (page []DeadLetter, at engine.LetterPlace, more bool, err error) {
	bytes := 0
	at, err = engine.ReadDeadLetters(dir, after, func(l *task.DeadLetter) bool {
		page = append(page, *l)
		bytes += len(l.Key) + len(l.Value) + len(l.Error)
		more = len(page) == letterPage || bytes >= letterBytes
		return !more && ctx.Err() == nil
	})
	return page, at, more, err
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
