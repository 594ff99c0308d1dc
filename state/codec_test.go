package state_test

import (
	"database/sql"
	"math"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/tailrace/tailrace/state"
)

type inner struct {
	N int32
	s string
}

type node struct {
	Name string
	Kids []node
	Next *node
}

type row struct {
	ID    int64
	Name  string
	Note  *string
	When  time.Time
	Price apd.Decimal
	Qty   sql.Null[int32]
	Tags  []string
	Raw   []byte
	M     map[string]float64
	In    inner
	UUID  [16]byte
	F     float64
	Tree  node
	PP    **int
}

func fullRow() row {
	note, n := "", 0
	p := &n
	price, _, _ := apd.NewFromString("-123456789012345678901234567890.0012")
	return row{
		ID: -5, Name: "x\x00y", Note: &note, When: time.Date(1, 2, 3, 4, 5, 6, 7, time.UTC), Price: *price,
		Qty: sql.Null[int32]{V: 0, Valid: true}, Tags: []string{"", "a"}, Raw: []byte{},
		M: map[string]float64{"b": 1, "a": math.Inf(-1)}, In: inner{7, "unexported"}, UUID: [16]byte{15: 1}, F: math.Copysign(0, -1),
		Tree: node{Name: "r", Kids: []node{{Name: "k"}, {}}, Next: &node{}}, PP: &p,
	}
}

func TestCodecRoundTrip(t *testing.T) {
	c, err := state.CodecOf[row]()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []row{{}, fullRow()} {
		b := c.Append(nil, &v)
		got := fullRow()
		if err := c.Decode(b, &got); err != nil {
			t.Fatal(err)
		}
		opts := cmp.Options{cmp.AllowUnexported(inner{}), cmp.Comparer(func(a, b apd.Decimal) bool { return a.Cmp(&b) == 0 })}
		if d := cmp.Diff(v, got, opts); d != "" {
			t.Fatal(d)
		}
		if !c.Equal(&v, &got) {
			t.Fatal("not equal after a round trip")
		}
	}
}
