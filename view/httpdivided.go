package view

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/serde"
)

// Where an app runs as several members, the member that is asked asks those that have the
// parts of the view, once, and puts their rows together.

func rebalancing(message string) error {
	return &httpError{Status: http.StatusServiceUnavailable, Code: "rebalancing", Message: message,
		Remedy: "try again in a moment"}
}

var errMoved = rebalancing("the member that was asked does not have that part of the view now")

// route is what one member is asked for.
type route struct {
	address string // "" is this member
	shareWanted
}

// serveDivided answers for a row or a page, whichever members have it.
func (s *handler) serveDivided(w http.ResponseWriter, r *http.Request, path []string) error {
	a, p, err := s.parseWanted(r, path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), p.duration("timeout", s.opts.Timeout))
	defer cancel()
	var routes []route
	if a.cursor != "" {
		routes, err = s.cursorRoutes(a.cursor)
	} else {
		routes, err = s.routes(a)
	}
	if err != nil {
		return err
	}
	out, err := s.gather(ctx, r, a, routes)
	if err == nil && a.cursor == "" && !a.one && out.more {
		// There will be another page of the same moments, which have to be pinned.
		for i := range routes {
			routes[i].pin = newPin
		}
		out, err = s.gather(ctx, r, a, routes)
	}
	if err != nil {
		return err
	}
	if err := a.checkWait(out.at.Sources); err != nil {
		return err
	}
	if a.one {
		return a.sendRow(w, out)
	}
	return s.sendPage(w, out)
}

// routes finds who has the parts that may have what is asked for. Parts that are here are
// read here.
func (s *handler) routes(a *wanted) ([]route, error) {
	parts, err := s.partsOf(a)
	if err != nil {
		return nil, err
	}
	m, err := s.host.acquireFor(a.view.topology)
	if err != nil {
		return nil, err
	}
	defer m.snap.release()
	members, name := s.host.members, a.view.name
	byAddress := map[string][]int32{}
	for _, n := range parts {
		if m.part(name, n) != nil {
			byAddress[""] = append(byAddress[""], n)
			continue
		}
		switch at := members.Where(name, n); at {
		case "":
			return nil, rebalancing(fmt.Sprintf("no member is known to have part %d of view %s: it is on its way to "+
				"one, or its member answers no queries (Config.Addr)", n, name))
		case members.Self():
			return nil, rebalancing(fmt.Sprintf("this member is about to have part %d of view %s, and restores it",
				n, name))
		default:
			byAddress[at] = append(byAddress[at], n)
		}
	}
	var out []route
	for at, parts := range byAddress {
		out = append(out, route{at, shareWanted{parts: parts, waits: a.wait != nil}})
	}
	slices.SortFunc(out, func(a, b route) int { return cmp.Compare(a.address, b.address) })
	return out, nil
}

// partsOf are the parts that may have what is asked for: of a key the one that has it, if
// the key tells. Who waits for a position asks all, since any may be the one that it is of.
func (s *handler) partsOf(a *wanted) ([]int32, error) {
	if a.one && a.wait == nil {
		if n, ok := s.host.partOf(a.view, a.lower); ok {
			return []int32{n}, nil
		}
	}
	count := s.host.members.Parts(a.view.name)
	if count == 0 {
		return nil, rebalancing("the group has no session at the moment")
	}
	parts := make([]int32, count)
	for i := range parts {
		parts[i] = int32(i)
	}
	return parts, nil
}

// checkWait refuses to have waited for a source that the view is not made from.
func (a *wanted) checkWait(at record.Positions) error {
	for _, name := range a.wait.Sources() {
		if _, ok := at[name]; !ok {
			return fmt.Errorf("%w %q: view %s is made from %s alone",
				ErrUnknownSource, name, a.view.name, strings.Join(at.Sources(), ", "))
		}
	}
	return nil
}

// gathered is the answer of all members.
type gathered struct {
	at    Position
	rows  []sharedRow
	more  bool
	pins  []pinned
	after []byte // the last row
}

// gather asks all at once and merges what they say. The first thing that is wrong is the
// answer: one without what a member has would be wrong.
func (s *handler) gather(ctx context.Context, r *http.Request, a *wanted, routes []route) (*gathered, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	shares, errs := make([]*share, len(routes)), make([]error, len(routes))
	var first error
	var once sync.Once
	var all sync.WaitGroup
	for i := range routes {
		all.Go(func() {
			if routes[i].address == "" {
				shares[i], errs[i] = s.here(ctx, a, routes[i].shareWanted)
			} else {
				// A row is sent as JSON of JSON, with the key before it.
				most := 4*int64(s.opts.MaxPageBytes) + maxShareBytes
				shares[i], errs[i] = s.opts.Peers.fetch(ctx, r, routes[i].address, routes[i].shareWanted, most)
			}
			if errs[i] != nil {
				once.Do(func() { first = errs[i] })
				cancel()
			}
		})
	}
	all.Wait()
	if first != nil {
		return nil, first
	}
	out := &gathered{at: Position{Sources: record.Positions{}}}
	var asOf int64
	for i, sh := range shares {
		for name, at := range sh.Positions {
			out.at.Sources[name] = at
		}
		asOf = max(asOf, sh.AsOf)
		if sh.Pin != "" {
			out.pins = append(out.pins, pinned{s.memberName(routes[i].address), sh.Pin, routes[i].parts})
		}
	}
	if asOf != 0 {
		out.at.AsOf = time.UnixMicro(asOf).UTC()
	}
	out.merge(shares, a.limits)
	return out, nil
}

// maxShareBytes is how long another member's answer to a request for one row may be.
const maxShareBytes = 64 << 20

// merge takes rows in order until the page is full, or until it is not known what comes
// next: behind the last row that a member has sent there may be more of it.
func (g *gathered) merge(shares []*share, lim pageLimits) {
	size := 0
	for {
		var next *share
		for _, sh := range shares {
			if len(sh.Rows) == 0 {
				if sh.More {
					g.more = true
					return
				}
				continue
			}
			if next == nil || bytes.Compare(sh.Rows[0].At, next.Rows[0].At) < 0 {
				next = sh
			}
		}
		if next == nil {
			return
		}
		if len(g.rows) >= lim.rows || size >= lim.bytes {
			g.more = true
			return
		}
		g.rows = append(g.rows, next.Rows[0])
		g.after = next.Rows[0].At
		size += len(next.Rows[0].Row)
		next.Rows = next.Rows[1:]
	}
}

func (a *wanted) sendRow(w http.ResponseWriter, out *gathered) error {
	body := appendPosition([]byte{'{'}, w, out.at)
	if len(out.rows) == 0 {
		return noRow(a.view.name, out.at)
	}
	row := out.rows[0].Row
	body = append(append(body, ','), row[1:len(row)-1]...) // its fields, without the braces
	writeJSON(w, http.StatusOK, append(body, '}', '\n'))
	return nil
}

func (s *handler) sendPage(w http.ResponseWriter, out *gathered) error {
	body := append(appendPosition([]byte{'{'}, w, out.at), `,"rows":[`...)
	for i := range out.rows {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, out.rows[i].Row...)
	}
	body = append(body, `],"next":`...)
	if !out.more {
		body = append(body, "null"...)
	} else {
		id, err := json.Marshal(out.pins)
		if err != nil {
			return err
		}
		body = serde.AppendJSONString(body, cursorText(dividedCursor+encodeKey(id), out.after))
	}
	writeJSON(w, http.StatusOK, append(body, '}', '\n'))
	return nil
}

// dividedCursor begins a cursor that is one of several members' cursors.
const dividedCursor = "~"

// pinned is a member's cursor for some parts.
type pinned struct {
	// Member is a hash of the member's address: a request names no address that is asked.
	Member string  `json:"m"`
	Pin    string  `json:"p"`
	Parts  []int32 `json:"n"`
}

func (s *handler) memberName(address string) string {
	if address == "" {
		address = s.host.members.Self()
	}
	sum := sha256.Sum256([]byte(address))
	return encodeKey(sum[:9])
}

// cursorRoutes finds who keeps the moments of a cursor, among the members that the group
// knows.
func (s *handler) cursorRoutes(cursor string) ([]route, error) {
	id, after, err := parseCursor(cursor)
	if err != nil {
		return nil, err
	}
	text, ok := strings.CutPrefix(id, dividedCursor)
	raw, err := decodeKey(text)
	var pins []pinned
	if !ok || err != nil || json.Unmarshal(raw, &pins) != nil || len(pins) == 0 {
		return nil, errCursorForm
	}
	known := map[string]string{}
	for _, address := range s.host.members.Others() {
		known[s.memberName(address)] = address
	}
	known[s.memberName("")] = ""
	var out []route
	for _, p := range pins {
		address, ok := known[p.Member]
		switch {
		case p.Pin == "" || p.Pin == newPin:
			return nil, errCursorForm
		case !ok || len(pins) > len(known):
			return nil, fmt.Errorf("%w: a member that kept rows of it has left", ErrCursor)
		}
		out = append(out, route{address, shareWanted{parts: p.Parts, after: after, pin: p.Pin}})
	}
	return out, nil
}
