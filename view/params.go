package view

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tailrace/tailrace/record"
)

// params are the parameters of a request. The first mistake sticks.
type params struct {
	values url.Values
	err    error
}

// parseParams reads a query string and refuses parameters that are not known: a
// misspelled one would otherwise silently change what is asked for.
func parseParams(rawQuery string, known ...string) (*params, error) {
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, badRequest("the query string is malformed", "percent-encode the parameters")
	}
	for name, v := range values {
		if !contains(known, name) {
			return nil, badRequest(fmt.Sprintf("unknown parameter %q", name), "known here: "+strings.Join(known, ", "))
		}
		if len(v) > 1 {
			return nil, badRequest(fmt.Sprintf("parameter %q is given %d times", name, len(v)), "give it once")
		}
	}
	return &params{values: values}, nil
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func (p *params) has(name string) bool   { return p.values.Has(name) }
func (p *params) get(name string) string { return p.values.Get(name) }

func (p *params) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// number returns a positive number, or def where the parameter is absent; a larger
// one than the cap counts as the cap.
func (p *params) number(name string, def, limit int) int {
	s := p.get(name)
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		p.fail(badRequest(fmt.Sprintf("%s=%q is not a positive number", name, s),
			fmt.Sprintf("use 1 to %d", limit)))
		return def
	}
	return min(n, limit)
}

// choice reports whether the parameter has the value yes; no or absence is false.
func (p *params) choice(name, yes, no string) bool {
	switch s := p.get(name); s {
	case yes:
		return true
	case no, "":
		return false
	default:
		p.fail(badRequest(fmt.Sprintf("%s=%q is not known", name, s), fmt.Sprintf("use %s or %s", yes, no)))
		return false
	}
}

// duration returns a duration of at most limit, which is also the default.
func (p *params) duration(name string, limit time.Duration) time.Duration {
	s := p.get(name)
	if s == "" {
		return limit
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		p.fail(badRequest(fmt.Sprintf("%s=%q is not a duration", name, s), "write it like 500ms or 5s"))
		return limit
	}
	return min(d, limit)
}

// positions reads a position to wait for: X/Y where the app reads one source, or
// source:X/Y separated by commas.
func (p *params) positions(name string, h *Host) record.Positions {
	s := p.get(name)
	if s == "" {
		return nil
	}
	if strings.Contains(s, ":") {
		pos, err := record.ParsePositions(s)
		if err != nil {
			p.fail(badRequest(trimPackage(err), "write it as the position of an answer, such as shop:0/16B3748"))
		}
		return pos
	}
	lsn, err := record.ParseLSN(s)
	if err != nil {
		p.fail(badRequest(trimPackage(err), "pass what pg_current_wal_flush_lsn() gives, such as 0/16B3748"))
		return nil
	}
	sources := h.sources(h.shown())
	if len(sources) != 1 {
		p.fail(badRequest(fmt.Sprintf("%s=%s names no source, and the app reads %d", name, s, len(sources)),
			"write it as source:X/Y, such as shop:0/16B3748"))
		return nil
	}
	return record.Positions{sources[0]: uint64(lsn)}
}

// shown returns the current moment without acquiring it, nil where there is none.
func (h *Host) shown() *moment {
	if m := h.current.Load(); m != closedMoment {
		return m
	}
	return nil
}

// trimPackage drops the package name at the start of an error's text.
func trimPackage(err error) string {
	s := err.Error()
	if name, rest, ok := strings.Cut(s, ": "); ok && !strings.Contains(name, " ") {
		return rest
	}
	return s
}
