package crashkafka

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"
)

// freeAddress finds an address that nobody listens on: a member comes back to it.
func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// asking bounds a query: a member that is stopped does not answer.
var asking = &http.Client{Timeout: 3 * time.Second}

// ask asks a member; a status of 0 says that it does not answer.
func ask(ctx context.Context, address, path string, query url.Values, into any) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path+"?"+query.Encode(), nil)
	if err != nil {
		return 0, err
	}
	res, err := asking.Do(req)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return res.StatusCode, nil
	}
	return res.StatusCode, json.Unmarshal(body, into)
}

// readViews asks random members all the time. The clicks of a card never become fewer,
// whoever is asked: who was taken for dead shows nothing old when it goes on.
func (s *suite) readViews(ctx context.Context) {
	r := rand.New(rand.NewPCG(5, 5))
	seen := map[string]int64{}
	s.answers = map[int]int{}
	for ctx.Err() == nil {
		card := "card" + strconv.Itoa(r.IntN(cards))
		var row struct{ Value int64 }
		status, err := ask(ctx, s.addrs[r.IntN(members)], "/views/counted/"+card, nil, &row)
		s.answers[status]++
		switch {
		case err != nil:
			s.t.Errorf("view counted: %v", err)
		case status == http.StatusOK && row.Value < seen[card]:
			s.t.Errorf("%s has %d clicks, and had %d before", card, row.Value, seen[card])
		case status == http.StatusNotFound && seen[card] > 0:
			s.t.Errorf("%s has no clicks, and had %d before", card, seen[card])
		case status == http.StatusOK:
			seen[card] = row.Value
		}
		time.Sleep(5 * time.Millisecond) // the rate of the queries
	}
}

// wrongViews counts the rows of views, read at any member page by page, that are not those of
// the tables' topics, and the queries that are not answered.
func (s *suite) wrongViews(priced, revenues map[string]string) (n int) {
	for name, want := range map[string]map[string]string{"priced": priced, "revenue": revenues} {
		got := map[string]string{}
		query := url.Values{"limit": {"7"}}
		for more := true; more; {
			var page struct {
				Rows []struct {
					Key   string
					Value json.RawMessage
				}
				Next *string
			}
			address := s.addrs[s.random.IntN(members)]
			status, err := ask(s.t.Context(), address, "/views/"+name, query, &page)
			if err != nil || status != http.StatusOK {
				return n + 1
			}
			for _, row := range page.Rows {
				// A topic's row has the key in it.
				got[strconv.Quote(row.Key)] = fmt.Sprintf(`{"key":%q,%s`, row.Key, row.Value[1:])
			}
			if more = page.Next != nil; more {
				query.Set("cursor", *page.Next)
			}
		}
		for key, row := range want {
			if got[key] != row {
				n++
			}
			delete(got, key)
		}
		n += len(got)
	}
	return n
}
