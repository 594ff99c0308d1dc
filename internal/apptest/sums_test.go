package apptest

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/view"
)

// floatBound is how far a sum of floats may be from SQL's, relative to the sum of the
// absolute values. SQL's own is as far from the exact one.
const floatBound = 1e-12

// sumRows are the rows of the view "sums" at a moment: key, weight, qty.
func sumRows(ctx context.Context, s *Shop, m *view.Moment) [][]string {
	var out [][]string
	for k, v := range s.Sums.At(m).Range(ctx, view.Span[int64]{}).All() {
		out = append(out, []string{fmt.Sprint(k), text(v.Weight.Valid, v.Weight.V), text(v.Qty.Valid, v.Qty.V)})
	}
	return out
}

// sumsDiffer says where rows of key, weight and qty differ from those of SumsSQL, or
// nothing.
func sumsDiffer(got, want [][]string) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%d rows, SQL has %d: %v, SQL %v", len(got), len(want), got, want)
	}
	for i, w := range want {
		g := got[i]
		if g[0] != w[0] || !sameNumeric(g[2], w[3]) || !withinBound(g[1], w[1], w[2]) {
			return fmt.Sprintf("row %d: got %v, SQL %v", i, g, w)
		}
	}
	return ""
}

func compareSums(t *testing.T, what string, got, want [][]string) {
	t.Helper()
	if d := sumsDiffer(got, want); d != "" {
		t.Errorf("%s: %s", what, d)
	}
}

func sameNumeric(got, want string) bool {
	if got == pgservertest.Null || want == pgservertest.Null {
		return got == want
	}
	return scaled(got).Cmp(scaled(want)) == 0
}

func withinBound(got, want, abs string) bool {
	if got == pgservertest.Null || want == pgservertest.Null {
		return got == want
	}
	return math.Abs(float(got)-float(want)) <= floatBound*float(abs)
}

// sums is the view "sums", a line a row: the floats as the exact sum, rounded once,
// which is what SumFloat says it gives.
func (o *oracle) sums() []string {
	weights, quantities := map[int64]*big.Float{}, map[int64]*big.Int{}
	groups := map[int64]bool{}
	for _, l := range o.tables["lines"] {
		k := number(l["order_id"]) % 8
		groups[k] = true
		if w := l["weight"]; w != "null" {
			if weights[k] == nil {
				weights[k] = new(big.Float).SetPrec(exactBits)
			}
			weights[k].Add(weights[k], big.NewFloat(float(w)))
		}
		if q := l["qty"]; q != "null" {
			if quantities[k] == nil {
				quantities[k] = new(big.Int)
			}
			quantities[k].Add(quantities[k], scaled(q))
		}
	}
	var out []string
	for k := range groups {
		weight, qty := "null", "null"
		if w := weights[k]; w != nil {
			f, _ := w.Float64()
			weight = fmt.Sprint(f)
		}
		if q := quantities[k]; q != nil {
			qty = q.String()
		}
		out = append(out, fmt.Sprintf("%d %s %s", k, weight, qty))
	}
	return sorted(out)
}

// Sums of what magnitude gives are exact in so many bits, and in so many decimal places.
const exactBits, exactPlaces = 1200, 40

func float(s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		panic(err)
	}
	return f
}

// scaled is a number in plain digits as an integer of exactPlaces decimal places.
func scaled(s string) *big.Int {
	whole, places, _ := strings.Cut(s, ".")
	n, ok := new(big.Int).SetString(whole+places+strings.Repeat("0", exactPlaces-len(places)), 10)
	if !ok {
		panic("not a number: " + s)
	}
	return n
}

// sumsLine is a row of the view "sums" as the oracle writes it; each column is NULL or
// a number as text.
func sumsLine(key, weight, qty string) string {
	w, q := "null", "null"
	if weight != pgservertest.Null {
		w = fmt.Sprint(float(weight))
	}
	if qty != pgservertest.Null {
		q = scaled(qty).String()
	}
	return fmt.Sprintf("%s %s %s", key, w, q)
}
