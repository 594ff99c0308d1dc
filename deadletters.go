package tailrace

import (
	"context"
	"encoding/json"
	"fmt"
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

// ReplayedLetters says what became of dead letters that were replayed: how many were
// tried, how many of them have failed and were set aside again, and why others could not
// be tried, by their ids.
type ReplayedLetters = task.Replayed

// ReplayDeadLetters has dead letters tried again with the functions that the running app
// has now, by their ids or all where none is given. It is done between two commits and
// commits as a whole.
//
// A key that a table has parked is tried with its newest input, and takes part again if
// that succeeds. An input of a stream is fed to the node that set it aside, in order of the
// log; it takes effect as of now: it meets tables as they are, may be late for a window,
// and what is made of it has the ids that it would have had. Events that come of a change of
// a table have ids of their own. All are marked as replayed.
//
// The app must be running: the error is ErrStopped otherwise, and ErrKafkaMode in Kafka
// mode.
func (a *App) ReplayDeadLetters(ctx context.Context, ids ...string) (ReplayedLetters, error) {
	eng, err := a.running()
	if err != nil {
		return ReplayedLetters{}, err
	}
	return eng.ReplayDeadLetters(ctx, wantedLetters(ids))
}

// DropDeadLetters removes dead letters, by their ids or all where none is given, and
// returns how many there were. A key that a table has parked keeps its output, as with
// topology.Skip, until a later change of it succeeds. The app must be running: the error
// is ErrStopped otherwise.
func (a *App) DropDeadLetters(ctx context.Context, ids ...string) (int, error) {
	eng, err := a.running()
	if err != nil {
		return 0, err
	}
	return eng.DropDeadLetters(ctx, wantedLetters(ids))
}

func (a *App) running() (*engine.Engine, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cfg.Kafka != nil {
		return nil, fmt.Errorf(
			"%w: dead letters are neither replayed nor dropped there yet; a parked key comes back "+
				"with its next change that succeeds",
			ErrKafkaMode,
		)
	}
	if a.engine == nil {
		return nil, ErrStopped
	}
	return a.engine, nil
}

func wantedLetters(ids []string) func(string) bool {
	if len(ids) == 0 {
		return nil
	}
	named := make(map[string]bool, len(ids))
	for _, id := range ids {
		named[id] = true
	}
	return func(id string) bool { return named[id] }
}

// Where dead letters are replayed and dropped, and how many bytes such a request may have.
const (
	replayPath       = "/deadletters/replay"
	dropPath         = "/deadletters/drop"
	maxLetterRequest = 8 << 20
)

// changeDeadLetters replays or drops: the body is {"ids":[...]} or {"all":true}.
func (a *App) changeDeadLetters(w http.ResponseWriter, r *http.Request) {
	var req struct {
		IDs []string `json:"ids"`
		All bool     `json:"all"`
	}
	ctx, cancel := unhurried(w, r)
	defer cancel()
	err := json.NewDecoder(r.Body).Decode(&req)
	if err != nil || req.All == (len(req.IDs) > 0) {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{
			"error": "deadletters", "message": `the body must be {"ids":[...]} or {"all":true}`,
		})
		return
	}
	body := map[string]any{}
	switch r.URL.Path {
	case dropPath:
		var n int
		n, err = a.DropDeadLetters(ctx, req.IDs...)
		body["dropped"] = n
	case replayPath:
		var out ReplayedLetters
		out, err = a.ReplayDeadLetters(ctx, req.IDs...)
		unreadable := map[string]string{}
		for id, why := range out.Unreadable {
			unreadable[id] = why.Error()
		}
		body["tried"], body["failed"], body["unreadable"] = out.Tried, out.Failed, unreadable
	}
	if err != nil {
		body = map[string]any{"error": "deadletters", "message": err.Error()}
	}
	answer(w, err == nil, body)
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
	ctx, cancel := unhurried(w, r)
	defer cancel()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	for l, err := range a.DeadLetters(ctx) {
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
