package view

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tailrace/tailrace/serde"
)

// tickEvery is how often a stream looks whether it has something to say that waits:
// a mark without changes, or a keep-alive comment.
const tickEvery = time.Second

// writeTimeout is how long a client may take to accept what is sent.
const writeTimeout = 10 * time.Second

// serveWatch streams a view's changes until the client leaves or the host closes.
func (s *handler) serveWatch(w http.ResponseWriter, r *http.Request, name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	p, err := parseParams(r.URL.RawQuery, "rows", "numbers", "own")
	if err != nil {
		return err
	}
	if !p.choice("own", "true", "false") && s.host.members != nil && p.err == nil {
		return errOwnWatch
	}
	rows, numbers := p.choice("rows", "true", "false"), p.choice("numbers", "string", "json")
	if p.err != nil {
		return p.err
	}
	if r.Method == http.MethodHead {
		startStream(w)
		return nil
	}
	defer s.streams.Add(-1)
	if s.streams.Add(1) > int64(s.opts.MaxStreams) {
		return &httpError{Status: http.StatusServiceUnavailable, Code: "too_many_streams",
			Message: "too many streams are open", Remedy: "close one, or raise HTTPOptions.MaxStreams"}
	}
	if _, ok := s.host.Position(); !ok {
		_, err := s.host.acquire() // Says whether it is not ready yet or closed.
		return err
	}
	ctx, cancel := withShutdown(r.Context())
	defer cancel()
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	out := http.NewResponseController(w)
	// The server's deadline for reading the request would end the stream.
	if err := out.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	startStream(w)
	st := &stream{w: w, out: out, view: c, strings: numbers,
		keepAlive: s.opts.KeepAlive, pinned: s.host.opts.CursorTTL}
	f := follow{rows: rows, after: r.Header.Get("Last-Event-ID"), tick: tick.C}
	err = c.follow(ctx, f, st.send)
	if err != nil && ctx.Err() == nil && !errors.Is(err, errClient) {
		st.fail(asHTTP(err))
	}
	return nil
}

var errOwnWatch = &httpError{Status: http.StatusNotImplemented, Code: "own_parts_only",
	Message: "a watch gives the changes of this member's parts of the view alone",
	Remedy:  "pass own=true, and watch each member of the app"}

func startStream(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no") // Else nginx holds events back.
	w.WriteHeader(http.StatusOK)
}

// errClient says that a client does not take what is sent any more.
var errClient = errors.New("view: client has gone away")

// flushAt is how many bytes of changes are gathered before they are sent.
const flushAt = 32 << 10

// stream writes the events of one watch.
type stream struct {
	w         http.ResponseWriter
	out       *http.ResponseController
	view      *core
	strings   bool
	keepAlive time.Duration
	// pinned is how long the rows after a reset may take, during which a snapshot is
	// held.
	pinned time.Duration

	buf []byte
	// began is when the rows after a reset began; zero outside of them.
	began time.Time
	// dirty says that the epoch has changes; started that a mark has been sent;
	// waiting is a mark without changes that is yet to be sent.
	dirty, started bool
	waiting        *Position
	lastSent       time.Time
}

// send writes one event. A mark without changes waits for the next tick, so that
// thousands of commits elsewhere do not become thousands of events.
func (st *stream) send(e rawEvent) (bool, error) {
	var err error
	switch e.kind {
	case EventReset:
		st.began, st.waiting, st.dirty, st.started = time.Now(), nil, true, true
		st.buf = appendEvent(st.buf, e.kind, e.at)
		return true, st.flush()
	case EventChange:
		st.dirty, st.waiting = true, nil
		st.buf = append(st.buf, "event: change\ndata: "...)
		if st.buf, err = st.view.text.appendChange(st.buf, e.change, st.strings); err != nil {
			return false, err
		}
		st.buf = append(st.buf, "\n\n"...)
		if len(st.buf) < flushAt {
			return true, nil
		}
		if !st.began.IsZero() && time.Since(st.began) > st.pinned {
			return false, errSlowRows
		}
		return true, st.flush()
	case EventEpoch:
		if !st.dirty && st.started {
			at := e.at
			st.waiting = &at
			return true, nil
		}
		st.began, st.dirty, st.started, st.waiting = time.Time{}, false, true, nil
		st.buf = appendEvent(st.buf, e.kind, e.at)
		return true, st.flush()
	}
	return true, st.tick()
}

var errSlowRows = &httpError{Status: http.StatusGone, Code: "too_slow",
	Message: "reading the rows took longer than a snapshot may be held",
	Remedy:  "read the rows page by page (GET /views/{name}) and watch without rows"}

// tick sends what waits.
func (st *stream) tick() error {
	switch {
	case st.waiting != nil:
		st.buf = appendEvent(st.buf, EventEpoch, *st.waiting)
		st.waiting = nil
	case time.Since(st.lastSent) >= st.keepAlive:
		st.buf = append(st.buf, ": keep-alive\n\n"...)
	default:
		return nil
	}
	return st.flush()
}

// appendEvent appends a reset or an epoch mark. Only these have an id: a client that
// breaks off in the middle of an epoch has to come back to the mark before it.
func appendEvent(dst []byte, kind EventKind, at Position) []byte {
	dst = append(dst, "event: "...)
	dst = append(dst, kind.String()...)
	dst = append(dst, "\nid: "...)
	dst = append(dst, at.mark()...)
	dst = append(dst, "\ndata: {"...)
	return append(appendMark(dst, at), "}\n\n"...)
}

// flush sends what has been gathered; a client that does not take it in time loses
// the connection.
func (st *stream) flush() error {
	if err := st.out.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil &&
		!errors.Is(err, http.ErrNotSupported) {
		return errClient
	}
	_, err := st.w.Write(st.buf)
	st.buf = st.buf[:0]
	if err == nil {
		err = st.out.Flush()
	}
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return errClient
	}
	st.lastSent = time.Now()
	return nil
}

// fail ends the stream with a failure event (error is the name of EventSource's own).
func (st *stream) fail(e *httpError) {
	st.buf = append(st.buf[:0], "event: failure\ndata: {\"error\":"...)
	st.buf = append(serde.AppendJSONString(st.buf, e.Code), `,"message":`...)
	st.buf = append(serde.AppendJSONString(st.buf, e.Message), `,"remedy":`...)
	st.buf = append(serde.AppendJSONString(st.buf, e.Remedy), "}\n\n"...)
	_ = st.flush() // The stream ends either way.
}

// shutdownKey holds the context that ends when the server begins to shut down.
type shutdownKey struct{}

// withShutdown returns a context that also ends when the server shuts down: a
// stream would hold up a graceful stop for ever.
func withShutdown(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if server, ok := ctx.Value(shutdownKey{}).(context.Context); ok {
		stop := context.AfterFunc(server, cancel)
		return ctx, func() { stop(); cancel() }
	}
	return ctx, cancel
}
