package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestDemo(t *testing.T) {
	var out bytes.Buffer
	r, err := Run(t.Context(), Options{For: 4 * time.Second, Rate: -1, Orders: 300, Out: &out})
	if err != nil || len(r.Differences) > 0 {
		t.Fatalf("error %v, differences %v\n%s", err, r.Differences, &out)
	}
	if r.ViewRows < 200 || r.SinkRows != r.ViewRows || r.Events < 50 || r.Transactions < 50 || r.Written < 50 {
		t.Errorf("too little was compared: %s", r)
	}
	for _, part := range []string{"the views are live: http://127.0.0.1:", "/views/revenue",
		"customers have paid"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("the output lacks %q:\n%s", part, &out)
		}
	}
}

// TestInterrupt ends the demo as Ctrl-C does: everything is compared all the same.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := &notify{text: "the views are live", then: cancel}
	r, err := Run(ctx, Options{Orders: 100, Out: out})
	if err != nil || r.ViewRows == 0 {
		t.Errorf("error %v, %s", err, r)
	}
}

// notify calls a function once a text was written.
type notify struct {
	text string
	then func()
}

func (n *notify) Write(p []byte) (int, error) {
	if strings.Contains(string(p), n.text) {
		n.then()
	}
	return len(p), nil
}

// TestDamage damages each thing that is compared, and expects to hear of it.
func TestDamage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, sql, file, want string
		count                 int
	}{
		{name: "a row of the sink is missing", want: "table order_documents lacks", count: 1,
			sql: `DELETE FROM order_documents WHERE key = (SELECT min(key) FROM order_documents)`},
		{name: "a row of the sink is wrong", want: "table revenue_per_customer", count: 2,
			sql: `UPDATE revenue_per_customer SET cents = cents + 1
				WHERE key = (SELECT min(key) FROM revenue_per_customer)`},
		{name: "an event comes twice", want: "outbox has too many of", count: 1, file: "repeat"},
		{name: "an event is missing", want: "outbox lacks", count: 1, file: "cut"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			damage := func(ctx context.Context, d *demo) error {
				settle(t, ctx, d)
				if c.file != "" {
					return damageFile(d.events, c.file)
				}
				w, err := pgx.Connect(ctx, d.warehouse)
				if err != nil {
					return err
				}
				defer w.Close(ctx)
				_, err = w.Exec(ctx, c.sql)
				return err
			}
			r, err := Run(t.Context(), Options{For: time.Second, Orders: 100, Out: &bytes.Buffer{}, tamper: damage,
				Patience: 5 * time.Second})
			if !errors.Is(err, ErrDifferences) || len(r.Differences) != c.count ||
				!strings.Contains(strings.Join(r.Differences, "\n"), c.want) {
				t.Errorf("error %v, differences %v, want %d with %q", err, r.Differences, c.count, c.want)
			}
		})
	}
}

// settle waits until the targets have taken everything, which the damage would be
// mended by otherwise.
func settle(t *testing.T, ctx context.Context, d *demo) {
	t.Helper()
	s, err := pgx.Connect(ctx, d.shop)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(ctx)
	w, err := pgx.Connect(ctx, d.warehouse)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close(ctx)
	var r Result
	if err := errors.Join(d.compareSinks(ctx, s, w, &r), d.compareEvents(ctx, s, &r)); err != nil ||
		r.Differences != nil {
		t.Fatalf("before the damage: %v, %v", err, r.Differences)
	}
}

// damageFile repeats or cuts the last line.
func damageFile(path, how string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	at := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
	if how == "cut" {
		return os.WriteFile(path, text[:at], 0o600)
	}
	return os.WriteFile(path, append(text, text[at:]...), 0o600)
}
