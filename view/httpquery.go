package view

import (
	"bytes"
	"fmt"
	"net/url"

	"github.com/tailrace/tailrace/state"
)

// parseQuery reads which rows a page request asks for. Mistakes in single
// parameters come before the combinations that exclude each other.
func (c *core) parseQuery(p *params) (query, error) {
	q := query{view: c, index: -1, params: queryParams(p)}
	if p.has("index") != p.has("value") {
		return q, badRequest("index and value belong together", "give both, such as index=by-customer&value=7")
	}
	ranged := p.has("from") || p.has("to")
	if (p.has("index") && (ranged || p.has("prefix"))) || (ranged && p.has("prefix")) {
		return q, badRequest("index, prefix and from/to exclude each other", "use one of them")
	}
	var err error
	switch {
	case p.has("index"):
		err = q.byIndex(p.get("index"), p.get("value"))
	case p.has("prefix"):
		if q.lower, err = c.text.key.prefix(p.get("prefix")); err == nil {
			q.upper = state.PrefixEnd(q.lower)
		}
	default:
		err = q.between(p)
	}
	return q, err
}

func (q *query) byIndex(name, value string) (err error) {
	if q.index, err = q.view.index(name); err != nil {
		return err
	}
	if q.lower, err = q.view.indexes[q.index].text.parse(value); err != nil {
		return err
	}
	q.upper = state.PrefixEnd(q.lower)
	return nil
}

func (q *query) between(p *params) (err error) {
	if p.has("from") {
		if q.lower, err = q.view.text.key.parse(p.get("from")); err != nil {
			return err
		}
	}
	if p.has("to") {
		if q.upper, err = q.view.text.key.parse(p.get("to")); err != nil {
			return err
		}
	}
	if q.upper != nil && bytes.Compare(q.lower, q.upper) > 0 {
		return badRequest(fmt.Sprintf("from=%s is after to=%s", p.get("from"), p.get("to")), "swap them")
	}
	return nil
}

// queryParams are the request's own words for its query, in one order.
func queryParams(p *params) string {
	words := url.Values{}
	for _, name := range []string{"prefix", "from", "to", "index", "value"} {
		if p.has(name) {
			words.Set(name, p.get(name))
		}
	}
	return words.Encode()
}
