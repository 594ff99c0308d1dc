package view

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crew are members of one app, each with the part of its own number of the view "rows".
type crew struct {
	t       *testing.T
	members []*crewMember
	// known says that the part of a key is known from it: by its length.
	known bool

	mu sync.Mutex
	at []string // the address of each part's member, as the group says
}

type crewMember struct {
	*crew
	*engine
	number  int
	rows    *table[string, int64]
	server  *httptest.Server
	gone    atomic.Bool // its part was taken away
	asked   atomic.Int64
	handler http.Handler
	// before is called with each request.
	before atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

func (m *crewMember) Parts(string) int32 { return int32(len(m.members)) }

func (m *crewMember) PartOf(_ string, key []byte) (int32, bool) {
	return int32(len(key) % len(m.members)), m.known
}

func (m *crewMember) Where(_ string, part int32) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at[part]
}

func (m *crewMember) Self() string { return strings.TrimPrefix(m.server.URL, "http://") }

func (m *crewMember) Others() (out []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, at := range m.at {
		if at != m.Self() && at != "" {
			out = append(out, at)
		}
	}
	return out
}

func newCrew(t *testing.T, count int, known bool) *crew {
	c := &crew{t: t, known: known}
	for i := range count {
		m := &crewMember{crew: c, engine: newEngine(t, HostOptions{MaxCursors: 4}), number: i}
		m.rows = addView(m.engine, "rows",
			Index("by-rest", func(_ string, n int64) int64 { return n % 3 }))
		m.engine.parts = map[string][]Part{"rows": {{
			Number: int32(i), Inputs: []string{fmt.Sprint("in/", i)}, Held: func() bool { return !m.gone.Load() },
		}}}
		m.engine.source = fmt.Sprint("in/", i)
		m.engine.host.Join(m)
		peers := NewPeers(PeerOptions{App: "app", Token: "secret"})
		t.Cleanup(peers.Close)
		m.handler = Handler(m.engine.host, HTTPOptions{
			MaxLimit: 20, Timeout: 5 * time.Second, Logger: slog.New(slog.DiscardHandler), Peers: peers,
		})
		m.server = httptest.NewServer(http.HandlerFunc(m.serve))
		t.Cleanup(m.server.Close)
		c.at = append(c.at, m.Self())
		c.members = append(c.members, m)
	}
	return c
}

// serve asks for the token, as a Server does.
func (m *crewMember) serve(w http.ResponseWriter, r *http.Request) {
	m.asked.Add(1)
	if f := m.before.Load(); f != nil && (*f)(w, r) {
		return
	}
	if r.Header.Get("Authorization") != "Bearer secret" {
		(&httpError{Status: http.StatusUnauthorized, Code: "unauthorized"}).write(w)
		return
	}
	m.handler.ServeHTTP(w, r)
}

// fill puts rows into the parts of their keys, and returns what all have.
func (c *crew) fill(r *rand.Rand, count int) map[string]int64 {
	all := map[string]int64{}
	for range count {
		key, value := strings.Repeat("<", r.IntN(4))+fmt.Sprint(r.IntN(1000)), r.Int64N(1000)
		m := c.members[(len(key)+2)%len(c.members)] // encoded keys are two bytes longer
		all[key] = value
		m.rows.set(c.t, key, value)
	}
	for i, m := range c.members {
		m.engine.lsn = uint64(100*(i+1) - 16)
		m.commit()
	}
	return all
}

type crewPage struct {
	Position string
	Rows     []struct {
		Key   string
		Value int64
	}
	Key   string
	Value int64
	Next  *string
	Error string
}

// get asks a member.
func (m *crewMember) get(path string, query url.Values) (int, crewPage, http.Header) {
	m.crew.t.Helper()
	target := m.server.URL + path + "?" + query.Encode()
	req, err := http.NewRequestWithContext(m.crew.t.Context(), http.MethodGet, target, nil)
	if err != nil {
		m.crew.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer secret")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		m.crew.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		m.crew.t.Fatal(err)
	}
	var p crewPage
	if err := json.Unmarshal(body, &p); err != nil {
		m.crew.t.Fatalf("%s: %v", body, err)
	}
	return res.StatusCode, p, res.Header
}

// Pages of any size, asked of any member each, are the rows of all members in order; and so
// are single rows.
func TestMembersPages(t *testing.T) {
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	r := rand.New(rand.NewPCG(7, 1))
	for _, known := range []bool{false, true} {
		c := newCrew(t, 3, known)
		all := c.fill(r, 200)
		for key, value := range all {
			status, p, _ := c.members[r.IntN(3)].get("/views/rows", url.Values{"key": {key}})
			if status != http.StatusOK || p.Key != key || p.Value != value {
				t.Fatalf("%q: %d %+v", key, status, p)
			}
		}
		if status, p, _ := c.members[0].get("/views/rows/nothing", nil); status != http.StatusNotFound {
			t.Errorf("a row that nobody has: %d %+v", status, p)
		}
		for range 60 {
			c.walk(r, all)
		}
	}
}

// walk reads a random query page by page and compares.
func (c *crew) walk(r *rand.Rand, all map[string]int64) {
	c.t.Helper()
	query, want := url.Values{}, func(string, int64) bool { return true }
	switch r.IntN(4) {
	case 0:
		prefix := strings.Repeat("<", r.IntN(4)) + fmt.Sprint(r.IntN(10))
		query.Set("prefix", prefix)
		want = func(k string, _ int64) bool { return strings.HasPrefix(k, prefix) }
	case 1:
		from, to := fmt.Sprint(r.IntN(500)), "<"+fmt.Sprint(r.IntN(500))
		if from > to {
			from, to = to, from
		}
		query.Set("from", from)
		query.Set("to", to)
		want = func(k string, _ int64) bool { return k >= from && k < to }
	case 2:
		rest := r.Int64N(3)
		query.Set("index", "by-rest")
		query.Set("value", fmt.Sprint(rest))
		want = func(_ string, v int64) bool { return v%3 == rest }
	}
	query.Set("limit", fmt.Sprint(1+r.IntN(25)))
	var keys []string
	for cursor := ""; ; {
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		status, p, _ := c.members[r.IntN(len(c.members))].get("/views/rows", query)
		if status != http.StatusOK {
			c.t.Fatalf("%v: %d %+v", query, status, p)
		}
		if p.Position != "in/0:0/64,in/1:0/C8,in/2:0/12C" && cursor == "" {
			c.t.Fatalf("position %s", p.Position)
		}
		for _, row := range p.Rows {
			if all[row.Key] != row.Value {
				c.t.Fatalf("%q is %d, want %d", row.Key, row.Value, all[row.Key])
			}
			keys = append(keys, row.Key)
		}
		if p.Next == nil {
			break
		}
		cursor = *p.Next
	}
	var expect []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if want(k, all[k]) {
			expect = append(expect, k)
		}
	}
	if !slices.Equal(keys, expect) {
		c.t.Fatalf("%v:\ngot  %q\nwant %q", query, keys, expect)
	}
}

// Pages stay those of one moment while rows change and parts move.
func TestMembersCursorStays(t *testing.T) {
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	c := newCrew(t, 3, false)
	all := c.fill(rand.New(rand.NewPCG(3, 3)), 100)
	query := url.Values{"limit": {"10"}}
	var keys []string
	for page := 0; ; page++ {
		status, p, _ := c.members[page%3].get("/views/rows", query)
		if status != http.StatusOK {
			t.Fatalf("page %d: %d %+v", page, status, p)
		}
		for _, row := range p.Rows {
			keys = append(keys, row.Key)
		}
		if p.Next == nil {
			break
		}
		query.Set("cursor", *p.Next)
		for i, m := range c.members { // all keys go, others come
			for k := range m.rows.rows {
				m.rows.remove(t, k)
				break
			}
			m.rows.set(t, fmt.Sprintf("%dnew%d", i, page), 1)
			m.commit()
		}
		c.members[1].gone.Store(true)
	}
	if !slices.Equal(keys, slices.Sorted(maps.Keys(all))) {
		t.Errorf("got %q", keys)
	}
	c.mu.Lock()
	c.at[2] = "" // it has left the group
	c.mu.Unlock()
	if status, p, _ := c.members[0].get("/views/rows", query); status != http.StatusGone {
		t.Errorf("a member of the cursor has left: %d %+v", status, p)
	}
}

// A member that is gone, on its way, stopped or another one's gives an error, and never an
// answer without its rows.
func TestMembersMissing(t *testing.T) {
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	c := newCrew(t, 3, false)
	c.fill(rand.New(rand.NewPCG(5, 5)), 30)
	refused := func(what, code string) {
		t.Helper()
		status, p, header := c.members[0].get("/views/rows", nil)
		if status != http.StatusServiceUnavailable || p.Error != code || header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %+v, Retry-After %q", what, status, p, header.Get("Retry-After"))
		}
	}
	set := func(at string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.at[2] = at
	}
	right := c.at[2]
	c.members[2].gone.Store(true)
	refused("the part was taken away", "rebalancing")
	c.members[2].gone.Store(false)
	set("")
	refused("nobody has the part", "rebalancing")
	set(c.members[0].Self())
	refused("this member is to have it", "rebalancing")
	set(c.at[1])
	refused("another one has it", "rebalancing")
	set("127.0.0.1:1")
	refused("nobody listens", "member_unreachable")
	for _, at := range []string{
		"127.0.0.1", "http://127.0.0.1:80", "user@127.0.0.1:80", "127.0.0.1:80/views", "127.0.0.1:80?x=:1",
		"a b:80", ":80", "user@" + right, right + "/",
	} {
		set(at)
		refused("no address: "+at, "member_unreachable")
	}
	set(right)
	var hits atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer other.Close()
	for what, f := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"it redirects": func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		},
		"it refuses the token": func(w http.ResponseWriter, _ *http.Request) bool {
			(&httpError{Status: http.StatusUnauthorized, Code: "unauthorized"}).write(w)
			return true
		},
		"it is something else": func(w http.ResponseWriter, _ *http.Request) bool {
			fmt.Fprint(w, "hello")
			return true
		},
		"it breaks off": func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"rows":[]`)
			return true
		},
	} {
		c.members[2].before.Store(&f)
		refused(what, "member_unreachable")
	}
	if hits.Load() > 0 {
		t.Error("a redirect was followed")
	}
	c.members[2].before.Store(nil)
	if status, p, _ := c.members[0].get("/views/rows", nil); status != http.StatusOK {
		t.Errorf("all are there: %d %+v", status, p)
	}
}

// What a request says cannot choose who is asked, nor have it asked twice.
func TestMembersForged(t *testing.T) {
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	c := newCrew(t, 3, false)
	c.fill(rand.New(rand.NewPCG(6, 6)), 30)
	asked := func(i int) int64 { return c.members[i].asked.Load() }
	// One hop: member 1 does not have its part any more, and asks nobody.
	c.members[1].gone.Store(true)
	c.mu.Lock()
	c.at[1] = c.members[1].Self()
	c.mu.Unlock()
	two := asked(2)
	if status, p, _ := c.members[0].get("/views/rows", nil); status != http.StatusServiceUnavailable {
		t.Errorf("%d %+v", status, p)
	}
	if n := asked(2) - two; n > 1 { // or none, where member 1 was faster
		t.Errorf("member 2 was asked %d times", n)
	}
	c.members[1].gone.Store(false)
	// A cursor names members by what their addresses hash to; others are nobody.
	var hits atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer other.Close()
	h := c.members[0].handler.(*handler)
	for name, want := range map[string]int{
		h.memberName(strings.TrimPrefix(other.URL, "http://")): http.StatusGone,
		strings.TrimPrefix(other.URL, "http://"):               http.StatusGone,
		c.members[1].Self():                                    http.StatusGone,
	} {
		raw, _ := json.Marshal([]pinned{{name, newID(), []int32{1}}})
		cursor := cursorText(dividedCursor+encodeKey(raw), []byte("x"))
		if status, p, _ := c.members[0].get("/views/rows", url.Values{"cursor": {cursor}}); status != want {
			t.Errorf("%s: %d %+v", name, status, p)
		}
	}
	for _, pin := range []string{"", newPin, newID()} {
		raw, _ := json.Marshal([]pinned{{h.memberName(c.members[1].Self()), pin, []int32{1}}})
		for _, text := range []string{
			cursorText(dividedCursor+encodeKey(raw), nil), string(raw), "~.", "~e30.", newID() + ".AA",
		} {
			status, p, _ := c.members[0].get("/views/rows", url.Values{"cursor": {text}})
			if status != http.StatusBadRequest && status != http.StatusGone {
				t.Errorf("cursor %s: %d %+v", text, status, p)
			}
		}
	}
	if hits.Load() > 0 {
		t.Error("an address that is no member's was asked")
	}
	// Other apps' members, and what they would be asked by, refuse.
	req := httptest.NewRequest(http.MethodGet, "/views/rows", nil)
	req.Header.Set(headerForwarded, "other")
	req.Header.Set(headerParts, "0")
	rec := httptest.NewRecorder()
	c.members[0].handler.ServeHTTP(rec, req)
	if rec.Code != http.StatusMisdirectedRequest {
		t.Errorf("another app's member: %d %s", rec.Code, rec.Body)
	}
	for _, parts := range []string{"", "x", "-1", "0,", "99999999999"} {
		req.Header.Set(headerForwarded, "app")
		req.Header.Set(headerParts, parts)
		rec = httptest.NewRecorder()
		if c.members[0].handler.ServeHTTP(rec, req); rec.Code != http.StatusBadRequest {
			t.Errorf("parts %q: %d %s", parts, rec.Code, rec.Body)
		}
	}
}

// Positions to wait for are each waited for where their part is.
func TestMembersWait(t *testing.T) {
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	c := newCrew(t, 2, true)
	c.fill(rand.New(rand.NewPCG(8, 8)), 10)
	wait := func(positions, timeout string) (int, crewPage) {
		query := url.Values{"wait_for": {positions}, "timeout": {timeout}}
		status, p, _ := c.members[0].get("/views/rows", query)
		return status, p
	}
	if status, p := wait("in/1:0/C8,in/0:0/1", "1s"); status != http.StatusOK {
		t.Errorf("what is shown: %d %+v", status, p)
	}
	if status, p := wait("in/1:0/D8", "50ms"); status != http.StatusGatewayTimeout {
		t.Errorf("what does not come: %d %+v", status, p)
	}
	for key := range c.members[0].rows.rows { // also where the key's own part is another one
		status, p, _ := c.members[0].get("/views/rows", url.Values{
			"key": {key}, "wait_for": {"in/1:0/D8"}, "timeout": {"50ms"},
		})
		if status != http.StatusGatewayTimeout {
			t.Errorf("a row of part 0: %d %+v", status, p)
		}
		break
	}
	status, p := wait("elsewhere/1:0/1", "1s")
	if status != http.StatusBadRequest || p.Error != "unknown_source" {
		t.Errorf("another source: %d %+v", status, p)
	}
	if status, p := wait("0/1", "1s"); status != http.StatusBadRequest {
		t.Errorf("no source: %d %+v", status, p)
	}
	done := make(chan crewPage)
	go func() {
		_, p := wait("in/1:0/D8", "5s")
		done <- p
	}()
	c.members[1].rows.set(t, "later", 7)
	c.members[1].commit()
	if p := <-done; p.Position != "in/0:0/74,in/1:0/D8" && p.Position != "in/0:0/64,in/1:0/D8" {
		t.Errorf("after it came: %+v", p)
	}
}

// Reads in process say that they do not know what other members have; watches and several
// views at once are of one member, or refused.
func TestMembersInProcess(t *testing.T) {
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	c := newCrew(t, 2, true)
	all := c.fill(rand.New(rand.NewPCG(9, 9)), 20)
	m := c.members[0]
	for key := range all {
		_, here := m.rows.rows[key]
		_, ok, _, err := m.rows.Get(t.Context(), key)
		if ok != here || (err == nil) != here || (!here && !errors.Is(err, ErrElsewhere)) {
			t.Errorf("%q, here %v: %v, %v", key, here, ok, err)
		}
	}
	if status, p, _ := m.get("/views", url.Values{"names": {"rows"}}); status != http.StatusConflict {
		t.Errorf("several views: %d %+v", status, p)
	}
	if status, p, _ := m.get("/views/rows/watch", nil); status != http.StatusNotImplemented {
		t.Errorf("a watch: %d %+v", status, p)
	}
}
