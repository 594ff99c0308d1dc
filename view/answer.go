package view

import "net/http"

// answer is what a reading handler has to say, kept until it has returned.
type answer struct {
	http.ResponseWriter
	status int
	body   []byte
}

// of makes it stand for a writer, whose header it shares.
func (a *answer) of(w http.ResponseWriter) *answer {
	a.ResponseWriter = w
	return a
}

// WriteHeader keeps the status.
func (a *answer) WriteHeader(status int) { a.status = status }

// Write keeps the body, which handlers write at once and do not touch again.
func (a *answer) Write(body []byte) (int, error) {
	a.body = body
	return len(body), nil
}

// send writes what was kept, if anything.
func (a *answer) send(w http.ResponseWriter) {
	if a.status == 0 {
		return
	}
	w.WriteHeader(a.status)
	// A client that has gone away is no concern of the app's.
	_, _ = w.Write(a.body)
}
