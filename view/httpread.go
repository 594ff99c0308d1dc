package view

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tailrace/tailrace/serde"
)

var (
	readParams = []string{"wait_for", "timeout", "numbers"}
	pageParams = []string{"limit", "cursor", "prefix", "from", "to", "index", "value"}
)

// await waits for the position that the request names, if any.
func (s *handler) await(ctx context.Context, p *params, c *core) error {
	timeout := p.duration("timeout", s.opts.Timeout)
	positions := p.positions("wait_for", s.host)
	if p.err != nil || positions == nil {
		return p.err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	topology := ""
	if c != nil {
		topology = c.topology
	}
	return s.host.waitFor(ctx, topology, positions)
}

// appendPosition appends the fields that name what an answer is of, and sets the
// header fields that do.
func appendPosition(dst []byte, w http.ResponseWriter, at Position) []byte {
	dst = appendMark(dst, at)
	w.Header().Set(headerPosition, at.String())
	if !at.AsOf.IsZero() {
		w.Header().Set(headerAsOf, at.AsOf.Format(time.RFC3339Nano))
	}
	return dst
}

// appendMark appends "position" and "as_of".
func appendMark(dst []byte, at Position) []byte {
	dst = append(dst, `"position":`...)
	dst = serde.AppendJSONString(dst, at.String())
	dst = append(dst, `,"as_of":`...)
	if at.AsOf.IsZero() {
		return append(dst, "null"...)
	}
	return serde.AppendJSONString(dst, at.AsOf.Format(time.RFC3339Nano))
}

type listedView struct {
	Name     string   `json:"name"`
	Topology string   `json:"topology"`
	Key      string   `json:"key"`
	Value    string   `json:"value"`
	Indexes  []string `json:"indexes"`
	Position string   `json:"position"`
}

func (s *handler) serveList(w http.ResponseWriter, r *http.Request) error {
	p, err := parseParams(r.URL.RawQuery, append(readParams, "names")...)
	if err != nil {
		return err
	}
	if err := s.await(r.Context(), p, nil); err != nil {
		return err
	}
	m, err := s.host.acquire()
	if err != nil {
		return err
	}
	defer m.snap.release()
	views := []listedView{}
	for _, c := range s.host.list() {
		v := listedView{Name: c.name, Topology: c.topology, Key: c.key.String(), Value: c.value.String(),
			Indexes: []string{}, Position: m.position(c.topology).String()}
		for i := range c.indexes {
			v.Indexes = append(v.Indexes, c.indexes[i].name)
		}
		views = append(views, v)
	}
	list, err := json.Marshal(views)
	if err != nil {
		return err
	}
	out := appendPosition([]byte{'{'}, w, m.position(""))
	out = append(append(append(out, `,"views":`...), list...), '}', '\n')
	writeJSON(w, http.StatusOK, out)
	return nil
}

// serveRow answers for one key, given in the path or as a parameter.
func (s *handler) serveRow(w http.ResponseWriter, r *http.Request, name string, key *string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	known := readParams
	if key == nil {
		known = append(readParams[:len(readParams):len(readParams)], "key")
	}
	p, err := parseParams(r.URL.RawQuery, known...)
	if err != nil {
		return err
	}
	if key == nil {
		text := p.get("key")
		key = &text
	}
	numbers := p.choice("numbers", "string", "json")
	enc, err := c.text.key.parse(*key)
	if err != nil {
		return err
	}
	if err := s.await(r.Context(), p, c); err != nil {
		return err
	}
	b, m, err := s.open(c)
	if err != nil {
		return err
	}
	defer m.snap.release()
	value, ok, err := m.snap.Get(nil, append(b.rows[:len(b.rows):len(b.rows)], enc...))
	if err != nil {
		return err
	}
	at := m.position(c.topology)
	out := appendPosition([]byte{'{'}, w, at)
	if !ok {
		return noRow(name, at)
	}
	if out, err = c.text.appendFields(append(out, ','), enc, value, numbers); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, append(out, '}', '\n'))
	return nil
}

// open takes the current moment for a view.
func (s *handler) open(c *core) (*binding, *moment, error) {
	b, err := c.bound()
	if err != nil {
		return nil, nil, err
	}
	m, err := s.host.acquireFor(c.topology)
	return b, m, err
}

// serveRows answers with a page of a view.
func (s *handler) serveRows(w http.ResponseWriter, r *http.Request, name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	p, err := parseParams(r.URL.RawQuery, append(readParams, pageParams...)...)
	if err != nil {
		return err
	}
	limits := s.limits(p)
	b, err := c.bound()
	if err != nil {
		return err
	}
	pg, err := s.page(r.Context(), p, c)
	if err != nil {
		return err
	}
	defer pg.m.snap.release()
	out := appendPosition([]byte{'{'}, w, pg.m.position(c.topology))
	if out, err = s.appendPage(out, b, pg, limits); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, append(out, '}', '\n'))
	return nil
}

func (s *handler) limits(p *params) pageLimits {
	return pageLimits{
		rows:    p.number("limit", s.opts.DefaultLimit, s.opts.MaxLimit),
		bytes:   s.opts.MaxPageBytes,
		strings: p.choice("numbers", "string", "json"),
	}
}

// page is a page to be read: its moment, which the reader releases, its query, and
// the cursor that it goes on from.
type page struct {
	m      *moment
	q      query
	cursor string
	after  []byte
}

// page finds out what a request asks for: rows from the start, at the current
// moment, or from a cursor on, at the cursor's.
func (s *handler) page(ctx context.Context, p *params, c *core) (pg page, err error) {
	q, err := c.parseQuery(p)
	if err != nil {
		return pg, err
	}
	if !p.has("cursor") {
		if err := s.await(ctx, p, c); err != nil {
			return pg, err
		}
		pg.q = q
		pg.m, err = s.host.acquireFor(c.topology)
		return pg, err
	}
	if p.err != nil {
		return pg, p.err
	}
	if p.has("wait_for") {
		return pg, errWaitCursor
	}
	if pg.cursor, pg.after, err = parseCursor(p.get("cursor")); err != nil {
		return pg, err
	}
	if pg.m, pg.q, err = s.host.pins.get(pg.cursor); err != nil {
		return pg, err
	}
	if pg.q.view != c || (q.params != "" && q.params != pg.q.params) {
		pg.m.snap.release()
		return pg, errOtherQuery
	}
	if !pg.q.covers(pg.after) { // No page ended there: somebody made it up.
		pg.m.snap.release()
		return pg, errCursorForm
	}
	return pg, nil
}

// appendPage appends "rows" and "next".
func (s *handler) appendPage(dst []byte, b *binding, pg page, limits pageLimits) ([]byte, error) {
	dst, last, err := pg.q.appendRows(append(dst, `,"rows":[`...), pg.m.snap, b, pg.after, limits)
	if err != nil {
		return nil, err
	}
	dst = append(dst, `],"next":`...)
	switch {
	case last == nil && pg.cursor != "":
		s.host.pins.finish(pg.cursor)
	case last != nil && pg.cursor == "":
		if pg.cursor, err = s.host.pins.add(pg.m, pg.q); err != nil {
			return nil, err
		}
	}
	if last == nil {
		return append(dst, "null"...), nil
	}
	return serde.AppendJSONString(dst, cursorText(pg.cursor, last)), nil
}

// serveSeveral answers with the first page of several views at one position.
func (s *handler) serveSeveral(w http.ResponseWriter, r *http.Request) error {
	p, err := parseParams(r.URL.RawQuery, append(readParams, "names", "limit")...)
	if err != nil {
		return err
	}
	var views []*core
	var ports []Port
	for name := range strings.SplitSeq(p.get("names"), ",") {
		c, err := s.find(name)
		if err != nil {
			return err
		}
		views, ports = append(views, c), append(ports, c.self)
	}
	limits := s.limits(p)
	limits.bytes /= len(views)
	if err := s.await(r.Context(), p, nil); err != nil {
		return err
	}
	m, err := s.host.acquire()
	if err != nil {
		return err
	}
	defer m.snap.release()
	if err := samePosition(m, ports); err != nil {
		return err
	}
	for _, c := range views {
		if !s.host.complete(m, c.name) {
			return fmt.Errorf("%w: rows of view %s are at other members of the app, each at a position of its own",
				ErrPositions, c.name)
		}
	}
	out := append(appendPosition([]byte{'{'}, w, m.position(views[0].topology)), `,"views":{`...)
	for i, c := range views {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(serde.AppendJSONString(out, c.name), ":{"...)
		at := len(out)
		pg := page{m: m, q: query{view: c, index: -1}}
		if out, err = s.appendPage(out, c.binding.Load(), pg, limits); err != nil {
			return err
		}
		out = append(out[:at], append(out[at+1:], '}')...) // Without the comma that led "rows".
	}
	writeJSON(w, http.StatusOK, append(out, "}}\n"...))
	return nil
}
