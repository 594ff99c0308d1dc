package view

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tailrace/tailrace/serde"
)

// HTTPOptions are the bounds of the HTTP interface.
type HTTPOptions struct {
	// DefaultLimit and MaxLimit are how many rows a page holds without a limit and
	// at most. They default to 100 and 10,000.
	DefaultLimit, MaxLimit int
	// MaxPageBytes ends a page early, also below its limit. Defaults to 4 MiB.
	MaxPageBytes int
	// MaxStreams bounds the server-sent event streams that are open at a time.
	// Defaults to 256.
	MaxStreams int
	// Timeout bounds one request that is not a stream, waiting for a position
	// included. Defaults to 10 s.
	Timeout time.Duration
	// KeepAlive is how often an idle stream gets a comment. Defaults to 15 s.
	KeepAlive time.Duration
	// Logger gets errors of reading the state. Defaults to slog.Default.
	Logger *slog.Logger
	// Peers asks the other members, where the app runs as several. Required there.
	Peers *Peers
}

func (o HTTPOptions) withDefaults() HTTPOptions {
	setDefault(&o.DefaultLimit, 100)
	setDefault(&o.MaxLimit, 10_000)
	setDefault(&o.MaxPageBytes, 4<<20)
	setDefault(&o.MaxStreams, 256)
	setDefault(&o.Timeout, 10*time.Second)
	setDefault(&o.KeepAlive, 15*time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.DefaultLimit = min(o.DefaultLimit, o.MaxLimit)
	return o
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// The header fields that name what an answer is of.
const (
	headerPosition = "Tailrace-Position"
	headerAsOf     = "Tailrace-As-Of"
)

// Handler serves the views of a host below /views:
//
//	GET /views                        the views: names, types, indexes
//	GET /views?names=a,b              the first page of several views, at one position
//	GET /views/{name}                 a page of rows
//	GET /views/{name}/{key}           one row; ?key= instead for any key, such as "watch"
//	GET /views/{name}/watch           changes as server-sent events
//
// A page is {"position","as_of","rows":[{"key","value"}],"next"}; one row has "key"
// and "value" in the place of "rows" and "next". Every answer about a view names its
// position, also in the header Tailrace-Position. Rows come in the order of their keys.
// Parameters of a page:
//
//	limit=100         rows of a page, at most HTTPOptions.MaxLimit
//	cursor=           the "next" of an earlier page; all pages are of one moment. It
//	                  lives 30 s from the first page on, then the answer is 410
//	prefix=           string keys that begin with it, or composite keys whose first
//	                  fields it names
//	from= and to=     keys from <= key < to
//	index= and value= rows that a declared index gives a value for
//
// and of all reads:
//
//	wait_for=         answer only once this position is shown: X/Y, or source:X/Y,...
//	timeout=5s        how long to wait, at most HTTPOptions.Timeout; then 504
//	numbers=string    64-bit integers and decimals as JSON strings
//
// A key is written as plain text. A composite key is its fields in order, separated
// by commas, or a JSON array of them where a field contains a comma. \N is NULL
// where a key can be NULL.
//
// A watch sends "change" events, {"op":"insert|update|delete","key","old","value"},
// and ends each epoch with an "epoch" event, {"position","as_of"}, whose id is the
// position; "reset" means that changes may be missing, and everything known is
// void. rows=true starts with a reset and all rows. A client that comes
// back with Last-Event-ID goes on without reset where nothing has happened since.
//
// Where the app runs as several members, each of which has parts of the views, rows and pages
// are put together from all that have parts of the view: see Members. Their position names
// where each part stands, and wait_for takes such positions. A watch gives the changes of
// this member's parts, and has to say so with own=true; several views can be asked for
// together of a member that has all of them.
//
// Errors are {"error","message","remedy"} with status 400, 404, 405, 409 (views at
// different positions), 410, 501 (a watch without own=true), 503 (not ready, a member is gone
// or on its way, or a bound is reached) or 504.
func Handler(h *Host, opts HTTPOptions) http.Handler {
	return &handler{host: h, opts: opts.withDefaults()}
}

type handler struct {
	host    *Host
	opts    HTTPOptions
	streams atomic.Int64
}

// ServeHTTP routes by the escaped path, so that a key may hold any character.
func (s *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.guarded(w, r); err != nil {
		if r.Context().Err() != nil {
			// The client has gone away, or will send no more and seems to: it had better get
			// nothing than an empty answer with status 200.
			panic(http.ErrAbortHandler)
		}
		e := asHTTP(err)
		if e.Status == http.StatusInternalServerError {
			s.opts.Logger.Error("view: request failed", "path", viewPath(r.URL), "error", err)
		}
		e.write(w)
	}
}

// guarded turns the panic of a value whose own MarshalJSON fails into an error.
func (s *handler) guarded(w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *serde.EncodeError:
			err = p
		default:
			panic(p)
		}
	}()
	return s.serve(w, r)
}

// viewPath is a request's path as far as it may be logged: without the key.
func viewPath(u *url.URL) string {
	segments := strings.SplitN(u.EscapedPath(), "/", 4)
	return strings.Join(segments[:min(3, len(segments))], "/")
}

func (s *handler) serve(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return &httpError{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
			Message: "views are read-only", Remedy: "use GET", allow: "GET, HEAD"}
	}
	segments := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	for i := range segments {
		text, err := url.PathUnescape(segments[i])
		if err != nil || !utf8.ValidString(text) {
			return badRequest("the path is not valid UTF-8", "percent-encode the UTF-8 bytes of the name and the key")
		}
		segments[i] = text
	}
	if segments[0] != "views" || len(segments) > 3 {
		return errNoPath
	}
	if len(segments) == 3 && segments[2] == "watch" {
		return s.serveWatch(w, r, segments[1])
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.Timeout)
	defer cancel()
	r = r.WithContext(ctx)
	// What is read is sent once its snapshot has been let go: clients take their time.
	var a answer
	defer func() { a.send(w) }()
	err := s.serveRead(a.of(w), r, segments[1:])
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		asHTTP(err).write(w)
		return nil
	}
	return err
}

var errNoPath = &httpError{Status: http.StatusNotFound, Code: "not_found",
	Message: "there is nothing at this path",
	Remedy: "paths are /views, /views/{name}, /views/{name}/{key} and /views/{name}/watch; " +
		"write a slash inside a key as %2F"}

func (s *handler) serveRead(w http.ResponseWriter, r *http.Request, path []string) error {
	switch {
	case r.Header.Get(headerForwarded) != "":
		return s.serveShare(w, r, path)
	case len(path) > 0 && s.host.members != nil:
		return s.serveDivided(w, r, path)
	case len(path) == 0 && r.URL.Query().Has("names"):
		return s.serveSeveral(w, r)
	case len(path) == 0:
		return s.serveList(w, r)
	case len(path) == 2:
		return s.serveRow(w, r, path[0], &path[1])
	case r.URL.Query().Has("key"):
		return s.serveRow(w, r, path[0], nil)
	}
	return s.serveRows(w, r, path[0])
}

// find returns the view with a name.
func (s *handler) find(name string) (*core, error) {
	c, ok := s.host.lookup(name)
	if ok {
		return c, nil
	}
	known := make([]string, 0, 8)
	for _, v := range s.host.list() {
		known = append(known, v.name)
	}
	slices.Sort(known)
	remedy := "this app keeps no views; add sinks.View to a topology"
	if len(known) > 0 {
		remedy = "views of this app: " + strings.Join(known, ", ")
	}
	return nil, &httpError{Status: http.StatusNotFound, Code: "no_view",
		Message: "there is no view " + name, Remedy: remedy}
}
