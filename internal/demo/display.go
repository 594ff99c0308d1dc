package demo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/orders/orders"
	"github.com/tailrace/tailrace/examples/revenue/revenue"
	"github.com/tailrace/tailrace/view"
)

// display draws what the views show.
type display struct {
	d      *demo
	lines  int // drawn last, on a terminal
	stop   context.CancelFunc
	latest chan latest // the order that changed last
	shown  latest
	checks chan string
	check  string
}

type latest struct {
	id       int64
	document orders.Document
	gone     bool
}

func newDisplay(d *demo) *display {
	ctx, stop := context.WithCancel(context.Background())
	s := &display{d: d, stop: stop, latest: make(chan latest, 1), checks: make(chan string, 1),
		check: "not yet"}
	go s.follow(ctx)
	go s.verify(ctx)
	return s
}

func (s *display) close() { s.stop() }

// follow keeps the order that changed last.
func (s *display) follow(ctx context.Context) {
	for e, err := range s.d.orders.Watch(ctx) {
		if err != nil {
			return
		}
		if e.Kind != view.EventChange {
			continue
		}
		l := latest{id: e.Change.Key, document: e.Change.New, gone: !e.Change.HasNew()}
		select {
		case <-s.latest:
		default:
		}
		s.latest <- l
	}
}

// verify compares the views with SQL every few seconds, while all goes on.
func (s *display) verify(ctx context.Context) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		began := time.Now()
		results, err := s.d.app.Verify(ctx, checks...)
		text := fmt.Sprint("failed: ", err)
		if err == nil {
			text = fmt.Sprintf("%d rows equal SQL at %s, in %s while all goes on",
				results[0].SQLRows+results[1].SQLRows,
				results[0].Position, time.Since(began).Round(time.Millisecond))
			if n := len(results[0].Differences) + len(results[1].Differences); n > 0 {
				text = fmt.Sprintf("%d DIFFERENCES at %s", n, results[0].Position)
			}
		}
		select {
		case <-s.checks:
		default:
		}
		s.checks <- text
	}
}

// checks are what the views should equal.
var checks = []tailrace.Check{{View: "revenue", SQL: revenue.SQL}, {View: "orders", SQL: orders.SQL}}

// draw shows the current state: a few lines in place on a terminal, one line
// otherwise.
func (s *display) draw(ctx context.Context) error {
	select {
	case s.shown = <-s.latest:
	default:
	}
	select {
	case s.check = <-s.checks:
	default:
	}
	top, customers, err := s.top(ctx)
	if err != nil {
		return err
	}
	transactions, err := s.d.transactions()
	if err != nil {
		return err
	}
	if !s.d.opts.Terminal {
		s.d.say("%d transactions written, %d seen; %d customers have paid, %s most (%s in %d orders); "+
			"%s; %d events; verified: %s", s.d.writers.Committed(), transactions, customers, top[0].name,
			money(top[0].Cents), top[0].Orders, s.order(), s.d.countEvents(), s.check)
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%6.1fs  %d transactions written, %d seen, %d events out\n\n",
		time.Since(s.d.started).Seconds(),
		s.d.writers.Committed(), transactions, s.d.countEvents())
	fmt.Fprintf(&b, "  %-24s %8s %16s\n", "revenue", "orders", "paid")
	for _, r := range top {
		fmt.Fprintf(&b, "  %-24s %8d %16s\n", r.name, r.Orders, money(r.Cents))
	}
	fmt.Fprintf(&b, "  %-24s\n\n  %s\n  verified: %s\n", fmt.Sprintf("... of %d customers", customers),
		s.order(), s.check)
	s.redraw(b.String())
	return nil
}

// redraw writes over what was drawn last.
func (s *display) redraw(text string) {
	if s.lines > 0 {
		fmt.Fprintf(s.d.opts.Out, "\x1b[%dA\x1b[J", s.lines)
	}
	fmt.Fprint(s.d.opts.Out, text)
	s.lines = strings.Count(text, "\n")
}

type row struct {
	name string
	revenue.Revenue
}

// top returns the customers who have paid most, and how many there are.
func (s *display) top(ctx context.Context) (top []row, customers int, err error) {
	rows := s.d.revenue.Range(ctx, view.Span[string]{})
	for name, r := range rows.All() {
		top = append(top, row{name, r})
	}
	if rows.Err() != nil {
		return nil, 0, rows.Err()
	}
	slices.SortFunc(top, func(a, b row) int { return int(b.Cents - a.Cents) })
	customers = len(top)
	if customers == 0 {
		top = []row{{name: "nobody"}}
	}
	return top[:min(8, len(top))], customers, nil
}

// order describes the order that changed last.
func (s *display) order() string {
	l := s.shown
	switch {
	case l.id == 0:
		return "no order has changed yet"
	case l.gone:
		return fmt.Sprintf("order %d is gone", l.id)
	}
	customer := "nobody"
	if l.document.Customer.Valid {
		customer = l.document.Customer.V.Name
	}
	return fmt.Sprintf("order %d of %s: %s, %d lines, %s", l.id, customer, l.document.Status,
		len(l.document.Items),
		money(l.document.Cents))
}

func money(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }

// countEvents counts the lines that the outbox topology has written.
func (d *demo) countEvents() int {
	text, err := os.ReadFile(d.events)
	if err != nil {
		return 0 // It is made with the first event.
	}
	return bytes.Count(text, []byte("\n"))
}

// transactions is how many source transactions the app has worked in.
func (d *demo) transactions() (int64, error) {
	families, err := d.app.Metrics().Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() == "tailrace_transactions_processed_total" {
			return int64(f.GetMetric()[0].GetCounter().GetValue()), nil
		}
	}
	return 0, nil
}
