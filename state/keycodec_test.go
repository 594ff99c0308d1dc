package state_test

import (
	"bytes"
	"cmp"
	"database/sql"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tailrace/tailrace/state"
)

// celsius is a leaf with its own order, warmest first.
type celsius struct{ milli int32 }

func (c celsius) AppendOrdered(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(dst, ^(uint32(c.milli) ^ 1<<31))
}

func (c *celsius) DecodeOrdered(src []byte) ([]byte, error) {
	if len(src) < 4 {
		return nil, errors.New("short")
	}
	c.milli = int32(^binary.BigEndian.Uint32(src) ^ 1<<31)
	return src[4:], nil
}

type name string

type compositeKey struct {
	Flag bool
	Name name
	N    int16
	Null sql.Null[string]
	ID   [3]byte
	Temp celsius
	U    uint
}

func compareKeys(a, b compositeKey) int {
	boolInt := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(boolInt(a.Flag), boolInt(b.Flag)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.N, b.N),
		cmp.Compare(boolInt(a.Null.Valid), boolInt(b.Null.Valid)), cmp.Compare(a.Null.V, b.Null.V),
		bytes.Compare(a.ID[:], b.ID[:]), -cmp.Compare(a.Temp.milli, b.Temp.milli), cmp.Compare(a.U, b.U))
}

func keyOf(t *rapid.T) compositeKey {
	// Few letters, zero bytes among them, so that keys share beginnings.
	text := rapid.StringOfN(rapid.SampledFrom([]rune{0, 1, 'a', 0xff}), 0, 3, -1)
	k := compositeKey{
		Flag: rapid.Bool().Draw(t, "flag"), Name: name(text.Draw(t, "name")),
		N:    rapid.SampledFrom([]int16{math.MinInt16, -256, -1, 0, 1, 255, math.MaxInt16}).Draw(t, "n"),
		ID:   [3]byte{rapid.Byte().Draw(t, "id")},
		Temp: celsius{rapid.Int32Range(-2, 2).Draw(t, "temp")},
		U:    rapid.SampledFrom([]uint{0, 1, math.MaxUint}).Draw(t, "u"),
	}
	if rapid.Bool().Draw(t, "valid") {
		k.Null = sql.Null[string]{V: text.Draw(t, "null"), Valid: true}
	}
	return k
}

func TestKeysCompareAsBytes(t *testing.T) {
	c, err := state.KeyCodecOf[compositeKey]()
	must(t, err)
	rapid.Check(t, func(t *rapid.T) {
		a, b := keyOf(t), keyOf(t)
		x, y := c.Append(nil, a), c.Append([]byte("prefix"), b)[6:]
		if got, want := bytes.Compare(x, y), compareKeys(a, b); got != want {
			t.Fatalf("%+v and %+v compare %d as bytes, want %d", a, b, got, want)
		}
		if (a == b) != bytes.Equal(x, y) {
			t.Fatalf("%+v and %+v: == and equal bytes disagree", a, b)
		}
		back, rest, err := c.Decode(append(x[:len(x):len(x)], y...))
		if err != nil || back != a || !bytes.Equal(rest, y) {
			t.Fatalf("decoded %+v, %x, %v; want %+v", back, rest, err, a)
		}
		for i := range x {
			if _, _, err := c.Decode(x[:i]); !errors.Is(err, state.ErrCorrupt) {
				t.Fatalf("%d of %d bytes decode: %v", i, len(x), err)
			}
		}
	})
}

func TestScalarKeysCompareAsBytes(t *testing.T) {
	ordered(t, []int8{-128, -1, 0, 1, 127})
	ordered(t, []int64{math.MinInt64, -1, 0, 1, math.MaxInt64})
	ordered(t, []int{math.MinInt, -70000, 0, 70000})
	ordered(t, []uint32{0, 1, 256, math.MaxUint32})
	ordered(t, []uint8{0, 127, 128, 255})
	ordered(t, []bool{false, true})
	ordered(
		t,
		[]string{"", "\x00", "\x00\x00", "\x00\x01", "\x00a", "\x01", "a", "a\x00", "aa", "\xff", "\xff\xff"},
	)
	ordered(t, []name{"", "x"})
	ordered(t, []time.Duration{-1, 0, 1})
	ordered(t, []sql.Null[int64]{{}, {V: -1, Valid: true}, {V: 0, Valid: true}})
	ordered(t, []struct{}{{}})
	ordered(t, []celsius{{5}, {0}, {-5}})
}

func ordered[K comparable](t *testing.T, keys []K) {
	t.Helper()
	c, err := state.KeyCodecOf[K]()
	must(t, err)
	var last []byte
	for i, k := range keys {
		b := c.Append(nil, k)
		if i > 0 && bytes.Compare(last, b) >= 0 {
			t.Errorf("%v does not come after %v", k, keys[i-1])
		}
		if back, rest, err := c.Decode(b); err != nil || back != k || len(rest) != 0 {
			t.Errorf("%v decodes as %v, %x, %v", k, back, rest, err)
		}
		last = b
	}
}

// An invalid Null with a value in it is the same key as one without.
func TestNullKeysAreNormalized(t *testing.T) {
	c, err := state.KeyCodecOf[compositeKey]()
	must(t, err)
	odd := compositeKey{N: 1, Null: sql.Null[string]{V: "left over"}}
	if got := c.Normalize(odd); got != (compositeKey{N: 1}) {
		t.Errorf("normalized to %+v", got)
	}
	db := state.NewMemory()
	tab := newTable[compositeKey, int64](t, &state.Env{DB: db}, 16)
	must(t, tab.Put(odd, 1, 1))
	must(t, tab.Put(compositeKey{N: 1}, 2, 1))
	b := db.NewBatch()
	must(t, tab.Flush(b))
	if v, err := tab.Get(odd); err != nil || *v != 2 {
		t.Errorf("got %v, %v", v, err)
	}
	if plain, _ := state.KeyCodecOf[int64](); plain.Normalize != nil {
		t.Error("keys with one spelling are normalized")
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	type nested struct {
		OK    int
		At    time.Time
		Price float64
	}
	type hidden struct {
		A int
		b int
	}
	_ = hidden{}.b
	refused[float64](t, "float64", "exact decimal")
	refused[time.Time](t, "Time", "record.Instant")
	refused[*int](t, "*int", "sql.Null")
	refused[any](t, "interface", "OrderedKey")
	refused[[2]int](t, "[2]int", "struct")
	refused[nested](t, "nested.At", "nested.Price")
	refused[hidden](t, "hidden.b", "export it")
	refused[struct{ In nested }](t, "In.At", "In.Price")
	refused[chan int](t, "chan int", "OrderedKey")
}

func refused[K comparable](t *testing.T, says ...string) {
	t.Helper()
	_, err := state.KeyCodecOf[K]()
	for _, s := range says {
		if err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("%T: error %v does not say %q", *new(K), err, s)
		}
	}
}
