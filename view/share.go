package view

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// share is what one member says to a request: the rows of some parts of a view.
type share struct {
	// Positions are those of the parts' inputs.
	Positions record.Positions `json:"positions"`
	AsOf      int64            `json:"as_of"`
	Rows      []sharedRow      `json:"rows"`
	// More says that there are rows behind the last one.
	More bool `json:"more"`
	// Pin is the member's cursor, if one was asked for and there are rows.
	Pin string `json:"pin,omitempty"`
}

// sharedRow is a row as JSON and where it stands in the order of the rows.
type sharedRow struct {
	At  []byte          `json:"at"`
	Row json.RawMessage `json:"row"`
}

// wanted is which rows a request is about.
type wanted struct {
	query
	// one says that it asks for a row by its key.
	one    bool
	limits pageLimits
	wait   record.Positions
	cursor string
}

// shareWanted is what of it is for one member.
type shareWanted struct {
	parts []int32
	after []byte
	// pin is the member's cursor to go on from, newPin to open one, "" for none.
	pin string
	// waits says that the request waits for a position.
	waits bool
}

const newPin = "new"

// pinned says that it goes on at the moment of a cursor.
func (m *shareWanted) pinned() bool { return m.pin != "" && m.pin != newPin }

// parseWanted reads a request for a row or a page.
func (s *handler) parseWanted(r *http.Request, path []string) (*wanted, *params, error) {
	c, err := s.find(path[0])
	if err != nil {
		return nil, nil, err
	}
	a := &wanted{query: query{view: c}, one: len(path) == 2 || r.URL.Query().Has("key")}
	known := slices.Concat(readParams, pageParams)
	if a.one {
		known = append(slices.Clip(readParams), "key")
	}
	p, err := parseParams(r.URL.RawQuery, known...)
	if err != nil {
		return nil, nil, err
	}
	if a.limits = s.limits(p); a.one {
		err = a.byKey(p, path)
	} else {
		a.query, err = c.parseQuery(p)
	}
	if err == nil {
		a.wait, err = dividedPositions(p)
	}
	a.cursor = p.get("cursor")
	if err == nil && a.cursor != "" && a.wait != nil {
		err = errWaitCursor
	}
	return a, p, errors.Join(err, p.err)
}

// byKey makes it ask for one row: nothing sorts between a key and the key with a zero byte
// behind it.
func (a *wanted) byKey(p *params, path []string) error {
	text := p.get("key")
	if len(path) == 2 {
		text = path[1]
	}
	key, err := a.view.text.key.parse(text)
	a.query = query{view: a.view, index: -1, lower: key, upper: append(slices.Clip(key), 0)}
	a.limits.rows = 1
	return err
}

// dividedPositions reads the positions to wait for, each of which names its source: this
// member does not know all of them.
func dividedPositions(p *params) (record.Positions, error) {
	text := p.get("wait_for")
	if text == "" {
		return nil, nil
	}
	positions, err := record.ParsePositions(text)
	if err != nil {
		return nil, badRequest(trimPackage(err),
			"write it as the position of an answer, such as shop.public.orders/0:0/1A (topic, partition, offset in "+
				"hexadecimal)")
	}
	return positions, nil
}

// here answers for parts of the view that this member has.
func (s *handler) here(ctx context.Context, a *wanted, m shareWanted) (*share, error) {
	b, err := a.view.bound()
	if err != nil {
		return nil, err
	}
	at, q, err := s.momentOf(ctx, a, m)
	if err != nil {
		return nil, err
	}
	defer at.snap.release()
	reader, err := at.only(a.view.name, q.parts)
	if err != nil {
		return nil, err
	}
	out := &share{Positions: record.Positions{}, AsOf: at.asOf, Rows: []sharedRow{}}
	for _, name := range at.inputs(a.view.name, q.parts) {
		out.Positions[name] = at.positions[name]
	}
	if err := out.read(ctx, &q, reader, b, m.after, a.limits); err != nil {
		return nil, err
	}
	switch {
	case m.pinned():
		if out.Pin = m.pin; !out.More {
			s.host.pins.finish(m.pin)
		}
	case !at.holds(a.view.name, q.parts):
		return nil, errMoved // while they were read
	case m.pin == newPin && len(out.Rows) > 0:
		out.Pin, err = s.host.pins.add(at, q)
	}
	return out, err
}

// momentOf returns the moment to read, which the caller releases: that of a cursor, or the
// current one once it is where the request wants it.
func (s *handler) momentOf(ctx context.Context, a *wanted, m shareWanted) (*moment, query, error) {
	if m.pinned() {
		at, q, err := s.host.pins.get(m.pin)
		if err != nil {
			return nil, q, err
		}
		if q.view != a.view || (a.params != "" && a.params != q.params) || !slices.Equal(q.parts, m.parts) {
			at.snap.release()
			return nil, q, errOtherQuery
		}
		return at, q, nil
	}
	q := a.query
	q.parts = m.parts
	at, err := s.awaitParts(ctx, a, m.parts)
	return at, q, err
}

// awaitParts returns the current moment, which the caller releases, once it shows the
// positions to wait for, as far as they are of the parts' inputs.
func (s *handler) awaitParts(ctx context.Context, a *wanted, parts []int32) (*moment, error) {
	for {
		at, err := s.host.acquireFor(a.view.topology)
		if err != nil {
			return nil, err
		}
		if !at.holds(a.view.name, parts) {
			at.snap.release()
			return nil, errMoved
		}
		mine := record.Positions{}
		for _, name := range at.inputs(a.view.name, parts) {
			if want, ok := a.wait[name]; ok {
				mine[name] = want
			}
		}
		if at.positions.Covers(mine) {
			return at, nil
		}
		at.snap.release()
		err = s.host.waitFor(ctx, a.view.topology, mine)
		switch {
		case errors.Is(err, ErrUnknownSource):
			return nil, errMoved
		case err != nil:
			return nil, err
		}
	}
}

// read reads a page of rows.
func (sh *share) read(
	ctx context.Context, q *query, from state.Reader, b *binding, after []byte, lim pageLimits,
) error {
	if after != nil && !q.covers(after) {
		return errCursorForm // no page ended there: somebody made it up
	}
	size := 0
	return q.each(from, b, after, func(at, key, value []byte) (bool, error) {
		if len(sh.Rows) >= lim.rows || size >= lim.bytes {
			sh.More = true
			return false, nil
		}
		if len(sh.Rows)%ctxEvery == ctxEvery-1 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		row, err := q.view.text.appendRow(nil, key, value, lim.strings)
		if err != nil {
			return false, err
		}
		sh.Rows = append(sh.Rows, sharedRow{At: slices.Clone(at), Row: row})
		size += len(row)
		return true, nil
	})
}

// The header fields of a request from one member to another.
const (
	// headerForwarded names the app, and keeps the request from being forwarded again.
	headerForwarded = "Tailrace-Forwarded"
	headerParts     = "Tailrace-Parts"
	headerAfter     = "Tailrace-After"
	headerPin       = "Tailrace-Pin"
)

// serveShare answers another member, for the parts that it asks for and nothing else.
func (s *handler) serveShare(w http.ResponseWriter, r *http.Request, path []string) error {
	if s.host.members == nil || s.opts.Peers == nil || r.Header.Get(headerForwarded) != s.opts.Peers.app {
		return &httpError{Status: http.StatusMisdirectedRequest, Code: "other_app",
			Message: "the request is for a member of another app", Remedy: "give each app addresses of its own"}
	}
	if len(path) == 0 {
		return errNoPath
	}
	a, p, err := s.parseWanted(r, path)
	if err != nil {
		return err
	}
	var m shareWanted
	if m.parts, err = parseParts(r.Header.Get(headerParts)); err != nil {
		return err
	}
	if m.pin = r.Header.Get(headerPin); r.Header.Get(headerAfter) != "" {
		if m.after, err = decodeKey(r.Header.Get(headerAfter)); err != nil {
			return errCursorForm
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), p.duration("timeout", s.opts.Timeout))
	defer cancel()
	out, err := s.here(ctx, a, m)
	if err != nil {
		return err
	}
	body, err := out.encode()
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, body)
	return nil
}

func parseParts(text string) ([]int32, error) {
	var parts []int32
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseInt(word, 10, 32)
		if err != nil || n < 0 {
			return nil, badRequest(fmt.Sprintf("%s=%q is no list of parts", headerParts, text),
				"leave the header out: it is for members of the app")
		}
		parts = append(parts, int32(n))
	}
	return parts, nil
}

func formatParts(parts []int32) string {
	words := make([]string, len(parts))
	for i, n := range parts {
		words[i] = strconv.Itoa(int(n))
	}
	return strings.Join(words, ",")
}
