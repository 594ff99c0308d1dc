package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/jsontopics"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// served is a member whose views are served.
type served struct {
	*memberRun
	w       *world
	address string
	stop    func()
}

const crewToken = "passed on"

// serve starts a member that serves its views, and asks others with a token.
func (w *world) serve(dir string) *served {
	w.t.Helper()
	s := &served{w: w}
	s.memberRun = w.startWith(dir, w.shown(), func(cfg *Config) {
		peers := view.NewPeers(view.PeerOptions{App: w.app, Token: crewToken})
		handler := view.Handler(cfg.Host, view.HTTPOptions{
			Logger: slog.New(slog.DiscardHandler), MaxLimit: 50, Peers: peers,
		})
		server, err := view.NewServer("127.0.0.1:0", handler, view.ServerOptions{Token: crewToken})
		if err != nil {
			w.t.Fatal(err)
		}
		addr, err := server.Listen()
		if err != nil {
			w.t.Fatal(err)
		}
		s.address, cfg.Address = addr.String(), addr.String()
		done := make(chan error, 1)
		go func() { done <- server.Serve() }()
		s.stop = func() {
			if err := server.Shutdown(context.Background()); err != nil {
				w.t.Error(err)
			}
			if err := <-done; err != nil {
				w.t.Error(err)
			}
			peers.Close()
		}
	})
	return s
}

func (s *served) end() {
	s.w.t.Helper()
	s.w.end(s.memberRun)
	s.stop()
}

// shown is a topology with a view of what the producer has divided, and one of what lies
// behind an exchange.
func (w *world) shown() *topology.Topology {
	b := topology.New("shown")
	db := sources.NewDatabase("shop", jsontopics.Source(w.app+"."))
	orders := sources.Table[string, order](b, db, "public.orders")
	sinks.View(orders, "orders", view.Index("by-customer", func(_ string, o order) string { return o.Customer }))
	byCustomer := operators.GroupBy(orders, func(_ string, o order) string { return o.Customer })
	sums := operators.Aggregate("sums", byCustomer, aggregate.Sum(func(o order) int64 { return o.Cents }))
	sinks.View(sums, "sums")
	return b.MustBuild()
}

type shownPage struct {
	Position string
	Key      string
	Value    json.RawMessage
	Rows     []struct {
		Key   string
		Value json.RawMessage
	}
	Next    *string
	Error   string
	Message string
}

func (s *served) get(path string, query url.Values) (int, shownPage, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+s.address+path+"?"+query.Encode(), nil)
	if err != nil {
		return 0, shownPage{}, err
	}
	req.Header.Set("Authorization", "Bearer "+crewToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, shownPage{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, shownPage{}, err
	}
	if res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") == "" {
		return 0, shownPage{}, fmt.Errorf("503 without Retry-After: %s", body)
	}
	var p shownPage
	return res.StatusCode, p, json.Unmarshal(body, &p)
}

// all reads a query page by page, each of another member. Anything but right answers is an
// error with its status.
func readAll(r *rand.Rand, crew []*served, path string, query url.Values) (map[string]string, int, error) {
	rows, last := map[string]string{}, ""
	query = maps.Clone(query)
	for {
		status, p, err := crew[r.IntN(len(crew))].get(path, query)
		if err != nil || status != http.StatusOK {
			return nil, status, fmt.Errorf("%s: %s: %w", p.Error, p.Message, err)
		}
		for _, row := range p.Rows {
			if row.Key <= last {
				return nil, 0, fmt.Errorf("%q after %q", row.Key, last)
			}
			last, rows[row.Key] = row.Key, string(row.Value)
		}
		if p.Next == nil {
			return rows, status, nil
		}
		query.Set("cursor", *p.Next)
	}
}

// oracle is what the views have to show.
type oracle struct {
	orders map[string]order
}

func (o *oracle) views() (orders, sums map[string]string) {
	orders, sums = map[string]string{}, map[string]string{}
	totals := map[string]int64{}
	for key, row := range o.orders {
		orders[key] = fmt.Sprintf(`{"customer":%q,"cents":%d}`, row.Customer, row.Cents)
		totals[row.Customer] += row.Cents
	}
	for c, n := range totals {
		sums[c] = strconv.FormatInt(n, 10)
	}
	return orders, sums
}

func (w *world) putOrders(o *oracle, r *rand.Rand, count int) {
	for range count {
		key, row := fmt.Sprintf("o%03d", r.IntN(150)), order{fmt.Sprint("c", r.IntN(23)), r.Int64N(1000)}
		o.orders[key] = row
		value, _ := json.Marshal(map[string]any{"customer": row.Customer, "cents": row.Cents}) // of plain types
		w.put("orders", key, string(value))
	}
}

// Every key, page and range asked of any of three members is what all of them have; while
// members come and go answers are right, or there are none.
func TestViewsAcrossMembers(t *testing.T) {
	w := newWorld(t, 6)
	r := rand.New(rand.NewPCG(1, 2))
	o := &oracle{orders: map[string]order{}}
	w.putOrders(o, r, 300)
	var crew []*served
	for range 3 {
		crew = append(crew, w.serve(t.TempDir()))
	}
	w.shows(o, crew)
	w.readsRight(o, r, crew)
	w.waits(o, r, crew)
	w.shows(o, crew)
	w.readsWhile(o, crew[:2], func() {
		crew[2].end()
		crew[2] = w.serve(t.TempDir())
		w.shows(o, crew)
	})
	w.putOrders(o, r, 50)
	w.shows(o, crew)
	w.readsRight(o, r, crew)
	if _, err := Drop(t.Context(), w.cluster.Brokers(), nil, w.app, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("dropped with members: %v", err)
	}
	for _, s := range crew {
		s.end()
	}
	// Another form of the topology is refused before it has made anything, and runs after the
	// remedy.
	changed := w.start(t.TempDir(), w.totals())
	err := <-changed.done
	remedy := "tailrace drop --app " + w.app
	if !errors.Is(err, kafka.ErrTopologyChanged) || !strings.Contains(err.Error(), remedy) {
		t.Errorf("a changed topology: %v", err)
	}
	changed.stop()
	w.drops()
	changed = w.start(t.TempDir(), w.totals())
	_, sums := o.views()
	want := map[string]string{}
	for c, n := range sums {
		want[strconv.Quote(c)] = fmt.Sprintf(`{"key":%q,"value":%s}`, c, n)
	}
	w.eventually(w.app+"-sums", want)
	w.end(changed)
}

// drops removes what the group has left, all of it and nothing else.
func (w *world) drops() {
	w.t.Helper()
	deleted, err := Drop(w.t.Context(), w.cluster.Brokers(), nil, w.app, nil)
	if err != nil || len(deleted) != 6 {
		w.t.Errorf("deleted %q: %v", deleted, err)
	}
	topics, err := kadm.NewClient(w.client).ListTopics(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var left []string
	for name := range topics {
		if strings.HasPrefix(name, w.app) {
			left = append(left, strings.TrimPrefix(name, w.app))
		}
	}
	slices.Sort(left)
	if want := []string{"-sums", ".public.orders", ".public.rates"}; !slices.Equal(left, want) {
		w.t.Errorf("left are %q", left)
	}
}

// shows waits until all members show what was written.
func (w *world) shows(o *oracle, crew []*served) {
	w.t.Helper()
	orders, sums := o.views()
	last := ""
	if !await.Within(60*time.Second, func() bool {
		for _, s := range crew {
			for path, want := range map[string]map[string]string{"/views/orders": orders, "/views/sums": sums} {
				got, status, err := readAll(rand.New(rand.NewPCG(0, 0)), []*served{s}, path, url.Values{})
				if err != nil && status != http.StatusServiceUnavailable && status != http.StatusGone {
					w.t.Fatalf("%d: %v", status, err)
				}
				if !maps.Equal(got, want) {
					last = fmt.Sprintf("%s at %s: %d %v\ngot  %v\nwant %v", path, s.address, status, err, got, want)
					return false
				}
			}
		}
		return true
	}) {
		w.t.Fatalf("the views never show what was written, at last: %s", last)
	}
}

// readsRight asks for every key and some ranges of every member.
func (w *world) readsRight(o *oracle, r *rand.Rand, crew []*served) {
	w.t.Helper()
	orders, sums := o.views()
	for _, s := range crew {
		for path, want := range map[string]map[string]string{"/views/orders/": orders, "/views/sums/": sums} {
			for key, value := range want {
				if status, p, err := s.get(path+key, nil); err != nil || status != http.StatusOK ||
					p.Key != key || string(p.Value) != value {
					w.t.Errorf("%s%s: %d %+v, %v, want %s", path, key, status, p, err, value)
				}
			}
			if status, p, err := s.get(path+"nobody", nil); status != http.StatusNotFound {
				w.t.Errorf("%snobody: %d %+v, %v", path, status, p, err)
			}
		}
	}
	for range 10 {
		from, customer := fmt.Sprintf("o%03d", r.IntN(150)), fmt.Sprint("c", r.IntN(23))
		limit := strconv.Itoa(1 + r.IntN(60))
		for _, q := range []struct {
			query url.Values
			want  func(key string) bool
		}{
			{url.Values{"from": {from}}, func(key string) bool { return key >= from }},
			{url.Values{"prefix": {from[:3]}}, func(key string) bool { return strings.HasPrefix(key, from[:3]) }},
			{url.Values{"index": {"by-customer"}, "value": {customer}},
				func(key string) bool { return o.orders[key].Customer == customer }},
		} {
			q.query.Set("limit", limit)
			want := maps.Clone(orders)
			maps.DeleteFunc(want, func(key, _ string) bool { return !q.want(key) })
			got, status, err := readAll(r, crew, "/views/orders", q.query)
			if err != nil || !maps.Equal(got, want) {
				w.t.Errorf("%v: %d %v\ngot  %v\nwant %v", q.query, status, err, got, want)
			}
		}
	}
}

// waits writes a row and reads it by its position.
func (w *world) waits(o *oracle, r *rand.Rand, crew []*served) {
	w.t.Helper()
	w.putOrders(o, r, 20)
	ends, err := kadm.NewClient(w.client).ListEndOffsets(w.t.Context(), w.app+".public.orders")
	if err != nil {
		w.t.Fatal(err)
	}
	at := record.Positions{}
	ends.Each(func(e kadm.ListedOffset) { at[fmt.Sprintf("%s/%d", e.Topic, e.Partition)] = uint64(e.Offset) })
	orders, _ := o.views()
	for key, value := range orders {
		status, p, err := crew[r.IntN(3)].get("/views/orders/"+key, url.Values{"wait_for": {at.String()}})
		if err != nil || string(p.Value) != value || p.Position != at.String() {
			w.t.Fatalf("%s: %d %s %s %s, %v, want %s", key, status, p.Error, p.Message, p.Value, err, value)
		}
	}
	if status, p, err := crew[0].get("/views/sums", url.Values{"wait_for": {at.String()}}); err != nil ||
		status != http.StatusBadRequest || p.Error != "unknown_source" {
		w.t.Errorf("a view behind an exchange: %d %+v, %v", status, p, err)
	}
}

// readsWhile reads all the time while something is done to the group: nothing is written, so
// that every answer is the same, or there is none.
func (w *world) readsWhile(o *oracle, crew []*served, during func()) {
	w.t.Helper()
	orders, sums := o.views()
	ctx, cancel := context.WithCancel(w.t.Context())
	var readers sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for i := range 2 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(i)))
			for ctx.Err() == nil {
				path, want := "/views/orders", orders
				if r.IntN(2) == 0 {
					path, want = "/views/sums", sums
				}
				status, err := w.readOne(r, crew, path, want)
				if err != nil {
					w.t.Error(err)
				}
				mu.Lock()
				statuses[status]++
				mu.Unlock()
			}
		})
	}
	during()
	cancel()
	readers.Wait()
	w.t.Logf("answers by status: %v", statuses)
	if statuses[http.StatusOK] == 0 || statuses[http.StatusServiceUnavailable] == 0 {
		w.t.Errorf("the reads met nothing: %v", statuses)
	}
}

// readOne reads a row or all of a view, and compares.
func (w *world) readOne(r *rand.Rand, crew []*served, path string, want map[string]string) (int, error) {
	if r.IntN(2) == 0 {
		got, status, err := readAll(r, crew, path, url.Values{"limit": {strconv.Itoa(1 + r.IntN(60))}})
		switch {
		case status == http.StatusServiceUnavailable || status == http.StatusGone:
			return status, nil
		case err == nil && !maps.Equal(got, want):
			err = fmt.Errorf("%s: got %v, want %v", path, got, want)
		}
		return status, err
	}
	keys := slices.Sorted(maps.Keys(want))
	key := keys[r.IntN(len(keys))]
	status, p, err := crew[r.IntN(len(crew))].get(path+"/"+key, nil)
	switch {
	case err != nil, status == http.StatusServiceUnavailable:
		return status, err
	case status != http.StatusOK || string(p.Value) != want[key]:
		return status, fmt.Errorf("%s/%s: %d %+v, want %s", path, key, status, p, want[key])
	}
	return status, nil
}
