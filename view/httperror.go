package view

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// httpError is an answer that is not the one asked for.
type httpError struct {
	Status  int    `json:"-"`
	Code    string `json:"error"`
	Message string `json:"message"`
	Remedy  string `json:"remedy"`
	// Position is that of the state in which something is missing.
	Position string `json:"position,omitempty"`
	allow    string
}

func (e *httpError) Error() string { return "view: " + e.Message }

func badRequest(message, remedy string) *httpError {
	return &httpError{Status: http.StatusBadRequest, Code: "bad_request", Message: message, Remedy: remedy}
}

var errCursorForm = badRequest("the cursor is malformed",
	"pass the \"next\" of an earlier answer unchanged, or leave cursor out to start again")

var (
	errWaitCursor = badRequest("wait_for and cursor exclude each other: a cursor stays at its moment",
		"leave one of them out")
	errOtherQuery = badRequest("the cursor belongs to another query",
		"repeat the parameters of the first page, or pass the cursor and limit alone")
)

func noRow(view string, at Position) error {
	return &httpError{Status: http.StatusNotFound, Code: "no_row",
		Message: fmt.Sprintf("view %s has no such row at this position", view),
		Remedy:  "check the key; pass wait_for with the position of your write to read it", Position: at.String()}
}

// asHTTP finds the answer for an error.
func asHTTP(err error) *httpError {
	var e *httpError
	if errors.As(err, &e) {
		return e
	}
	for _, known := range httpErrors {
		if errors.Is(err, known.is) {
			e := known.answer
			e.Message = strings.TrimPrefix(err.Error(), "view: ")
			return &e
		}
	}
	// The cause may hold paths of the server, so it is logged and not sent.
	return &httpError{Status: http.StatusInternalServerError, Code: "internal",
		Message: "the state could not be read", Remedy: "look at the app's log"}
}

var httpErrors = []struct {
	is     error
	answer httpError
}{
	{ErrNotReady, httpError{Status: http.StatusServiceUnavailable, Code: "not_ready",
		Remedy: "try again once /readyz answers 200 and does not name the view's topology as joining"}},
	{ErrClosed, httpError{Status: http.StatusServiceUnavailable, Code: "stopping",
		Remedy: "try again once the app runs again"}},
	{ErrNotBound, httpError{Status: http.StatusServiceUnavailable, Code: "not_ready",
		Remedy: "try again once the app runs"}},
	{ErrTooManyCursors, httpError{Status: http.StatusServiceUnavailable, Code: "too_many_cursors",
		Remedy: "read on with the cursors you have, ask for larger pages, or raise HostOptions.MaxCursors"}},
	{ErrCursor, httpError{Status: http.StatusGone, Code: "cursor_expired",
		Remedy: "start again without cursor; read the pages faster or ask for larger ones"}},
	{ErrNoIndex, httpError{Status: http.StatusBadRequest, Code: "no_index",
		Remedy: "GET /views lists each view's indexes"}},
	{ErrPositions, httpError{Status: http.StatusConflict, Code: "different_positions",
		Remedy: "read the views one by one, or mend the topology that stands still"}},
	{ErrElsewhere, httpError{Status: http.StatusServiceUnavailable, Code: "rebalancing",
		Remedy: "try again in a moment"}},
	{ErrUnknownSource, httpError{Status: http.StatusBadRequest, Code: "unknown_source",
		Remedy: "wait for a source that the app reads; each answer's position names them"}},
	{context.DeadlineExceeded, httpError{Status: http.StatusGatewayTimeout, Code: "timeout",
		Remedy: "ask again, with a longer timeout or a smaller limit"}},
}

// write sends the error.
func (e *httpError) write(w http.ResponseWriter) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if enc.Encode(e) != nil {
		body.Reset()
	}
	if e.allow != "" {
		w.Header().Set("Allow", e.allow)
	}
	if e.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, e.Status, body.Bytes())
}

// writeJSON sends a JSON answer.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// A client that has gone away is no concern of the app's.
	_, _ = w.Write(body)
}
