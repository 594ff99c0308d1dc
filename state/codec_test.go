package state_test

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

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

// total has a stored form of its own.
type total struct{ hi, lo uint64 }

func (t total) AppendState(dst []byte) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, t.hi), t.lo)
}

func (t *total) DecodeState(src []byte) ([]byte, error) {
	if len(src) < 16 {
		return nil, errors.New("short total")
	}
	t.hi, t.lo = binary.BigEndian.Uint64(src), binary.BigEndian.Uint64(src[8:])
	return src[16:], nil
}

type embeds struct {
	time.Time
	N int
}

type everything struct {
	ID     int64
	Small  int8
	U      uint16
	Flag   bool
	Name   string
	Note   *string
	When   time.Time
	Price  apd.Decimal
	Qty    sql.Null[int32]
	Tags   []string
	Raw    []byte
	M      map[string]float64
	In     inner
	UUID   [16]byte
	F      float64
	F32    float32
	Tree   node
	PP     **int
	Nulls  []sql.Null[string]
	Addr   netip.Addr
	Sum    total
	Temp   celsius
	Grid   [2][]int
	Emb    embeds
	Empty  struct{}
	ByTime map[int64]inner
}

func fullRow() everything {
	note, n := "", 0
	p := &n
	price, _, _ := apd.NewFromString("-123456789012345678901234567890.0012")
	return everything{
		ID: -5, Small: -128, U: 65535, Flag: true, Name: "x\x00y", Note: &note,
		When: time.Date(1, 2, 3, 4, 5, 6, 7, time.UTC), Price: *price,
		Qty: sql.Null[int32]{V: 0, Valid: true}, Tags: []string{"", "a"}, Raw: []byte{},
		M: map[string]float64{"b": 1, "a": math.Inf(-1)}, In: inner{7, "unexported"}, UUID: [16]byte{15: 1},
		F: math.Copysign(0, -1), F32: float32(math.NaN()),
		Tree: node{Name: "r", Kids: []node{{Name: "k"}, {}}, Next: &node{}}, PP: &p,
		Nulls: []sql.Null[string]{{}, {Valid: true}, {V: "v", Valid: true}},
		Addr:  netip.MustParseAddr("fe80::1%eth0"), Sum: total{1, 2}, Temp: celsius{-3},
		Grid: [2][]int{nil, {1}}, Emb: embeds{time.Unix(5, 0).UTC(), 3},
		ByTime: map[int64]inner{5: {1, "a"}, -5: {}},
	}
}

var compareOptions = cmp.Options{
	cmp.AllowUnexported(inner{}, total{}, celsius{}), cmpopts.EquateNaNs(),
	cmp.Comparer(func(a, b apd.Decimal) bool { return a.Cmp(&b) == 0 && a.Exponent == b.Exponent }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func TestCodecRoundTrip(t *testing.T) {
	c, err := state.CodecOf[everything]()
	must(t, err)
	for _, v := range []everything{{}, fullRow()} {
		b := c.Append([]byte("before"), &v)[6:]
		got := fullRow()
		if got.ID == v.ID {
			got = everything{ID: 1, Tags: []string{"old"}}
		}
		src := bytes.Clone(b)
		must(t, c.Decode(src, &got))
		for i := range src {
			src[i] = 0xee // what was decoded must not lie in src
		}
		if d := cmp.Diff(v, got, compareOptions); d != "" {
			t.Fatal(d)
		}
		if !c.Equal(&v, &got) || !bytes.Equal(c.Append(nil, &got), b) {
			t.Fatal("not equal after a round trip")
		}
		for i := range b[1:] {
			_ = c.Decode(b[:i], &got) // must not panic
		}
		if err := c.Decode(append([]byte{9}, b[1:]...), &got); !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("another codec version: %v", err)
		}
	}
}

// Any bytes decode or are ErrCorrupt; nothing panics.
func TestCodecHostileBytes(t *testing.T) {
	c, err := state.CodecOf[everything]()
	must(t, err)
	full := fullRow()
	good := c.Append(nil, &full)
	rapid.Check(t, func(t *rapid.T) {
		b := bytes.Clone(good)
		for range rapid.IntRange(1, 4).Draw(t, "flips") {
			b[rapid.IntRange(1, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		var v everything
		if err := c.Decode(b, &v); err != nil && !errors.Is(err, state.ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

// Equal agrees with the stored bytes, and says what SQL and JSON would show.
func TestCodecEqual(t *testing.T) {
	berlin := time.FixedZone("CET", 3600)
	at := time.Unix(1e9, 5)
	text := func(s string) *string { return &s }
	dec := func(s string) apd.Decimal { d, _, _ := apd.NewFromString(s); return *d }
	nan2 := math.Float64frombits(math.Float64bits(math.NaN()) ^ 1)
	equal(t, true, math.NaN(), nan2)
	equal(t, false, 0.0, math.Copysign(0, -1))
	equal(t, false, 1.0, math.NaN())
	equal(t, true, at.UTC(), at.In(berlin))
	equal(t, false, at, at.Add(1))
	equal(t, true, text("a"), text("a"))
	equal(t, false, text(""), nil)
	equal(t, true, sql.Null[int]{V: 1}, sql.Null[int]{V: 2})
	equal(t, false, sql.Null[int]{}, sql.Null[int]{Valid: true})
	equal(t, false, []int(nil), []int{})
	equal(t, true, []int{1}, append(make([]int, 0, 9), 1))
	equal(t, false, []byte(nil), []byte{})
	equal(t, false, map[string]int(nil), map[string]int{})
	equal(t, true, map[string]int{"a": 1, "b": 2}, map[string]int{"b": 2, "a": 1})
	equal(t, false, map[string]int{"a": 1, "b": 2}, map[string]int{"a": 2, "b": 1})
	equal(t, false, dec("1.0"), dec("1.00"))
	equal(t, true, dec("NaN"), dec("NaN"))
	equal(t, true, total{1, 2}, total{1, 2})
	equal(t, false, total{1, 2}, total{1, 3})
	equal(t, false, embeds{at, 1}, embeds{at, 2})
	equal(t, true, struct {
		A int
		B int `state:"-"`
	}{1, 2}, struct {
		A int
		B int `state:"-"`
	}{1, 3})
}

func equal[V any](t *testing.T, want bool, a, b V) {
	t.Helper()
	c, err := state.CodecOf[V]()
	must(t, err)
	if got := c.Equal(&a, &b); got != want {
		t.Errorf("%#v and %#v: equal %v, want %v", a, b, got, want)
	}
	if same := bytes.Equal(c.Append(nil, &a), c.Append(nil, &b)); same != want {
		t.Errorf("%#v and %#v: same bytes %v, want %v", a, b, same, want)
	}
}

func TestCodecEvolution(t *testing.T) {
	type v1 struct {
		A    int
		Gone map[string][]string
		B    string
	}
	type v2 struct {
		B   string
		New *float64
		A   int
	}
	type renamed struct {
		First int `state:"A"`
	}
	type retyped struct{ A string }
	type narrowed struct{ A int8 }
	c1, err := state.CodecOf[v1]()
	must(t, err)
	old := v1{1000, map[string][]string{"k": {"v"}}, "b"}
	stored := c1.Append(nil, &old)
	c2, err := state.CodecOf[v2]()
	must(t, err)
	var two v2
	if err := c2.Decode(stored, &two); err != nil || two != (v2{B: "b", A: 1000}) {
		t.Errorf("%+v, %v", two, err)
	}
	c3, err := state.CodecOf[renamed]()
	must(t, err)
	var three renamed
	if err := c3.Decode(stored, &three); err != nil || three.First != 1000 {
		t.Errorf("%+v, %v", three, err)
	}
	c4, err := state.CodecOf[retyped]()
	must(t, err)
	if err := c4.Decode(
		stored,
		new(retyped),
	); !errors.Is(err, state.ErrCorrupt) ||
		!strings.Contains(err.Error(), "retyped.A") {
		t.Errorf("another type: %v", err)
	}
	c5, err := state.CodecOf[narrowed]()
	must(t, err)
	if err := c5.Decode(stored, new(narrowed)); !errors.Is(err, state.ErrCorrupt) {
		t.Errorf("a narrower type: %v", err)
	}
	seen := map[string]bool{}
	for _, f := range []string{c1.Fingerprint, c2.Fingerprint, c3.Fingerprint, c4.Fingerprint, c5.Fingerprint} {
		if seen[f] || f == "" {
			t.Errorf("fingerprint %q again", f)
		}
		seen[f] = true
	}
	type moved struct {
		A   int
		B   string
		New *float64
	}
	if c, _ := state.CodecOf[moved](); c.Fingerprint != c2.Fingerprint {
		t.Error("the order of fields changes the fingerprint")
	}
}

func TestCodecRefuses(t *testing.T) {
	type bad struct {
		OK   int
		Ch   chan int
		Deep []struct{ Fn func() }
		Any  map[string]any
		Mu   sync.Mutex
	}
	_, err := state.CodecOf[bad]()
	for _, s := range []string{"bad.Ch", "bad.Deep[].Fn", "bad.Any[]", "bad.Mu", `state:"-"`} {
		if err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("error does not say %q: %v", s, err)
		}
	}
}
