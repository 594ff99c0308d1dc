package state_test

import (
	"bytes"
	"cmp"
	"database/sql"
	"testing"

	"github.com/tailrace/tailrace/state"
)

// FuzzKeys decodes keys from any bytes. What is taken is what the encoder writes, so that
// no row lies under two keys, and two keys compare as their bytes do.
func FuzzKeys(f *testing.F) {
	keys, err := state.KeyCodecOf[compositeKey]()
	if err != nil {
		f.Fatal(err)
	}
	for _, k := range []compositeKey{
		{},
		{Flag: true, Name: "a\x00b", N: -1, Null: sql.Null[string]{V: "\xff", Valid: true}, ID: [3]byte{1}, U: 9},
		{Null: sql.Null[string]{Valid: true}, Temp: celsius{-5}},
	} {
		f.Add(keys.Append(nil, k), keys.Append(nil, compositeKey{Name: "z"}))
	}
	f.Add([]byte{2}, []byte{1, 'a', 0, 2})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		decode := func(src []byte) (k compositeKey, taken []byte, ok bool) {
			before := bytes.Clone(src)
			k, rest, err := keys.Decode(src)
			if !bytes.Equal(src, before) {
				t.Errorf("decoding changed %x to %x", before, src)
			}
			if err != nil {
				return k, nil, false
			}
			taken = src[:len(src)-len(rest)]
			if again := keys.Append(nil, k); !bytes.Equal(again, taken) {
				t.Errorf("%x decodes as %+v, which is encoded as %x", taken, k, again)
			}
			return k, taken, true
		}
		ka, ta, okA := decode(a)
		kb, tb, okB := decode(b)
		if okA && okB && cmp.Compare(compareKeys(ka, kb), 0) != bytes.Compare(ta, tb) {
			t.Errorf("%+v and %+v compare as %d, %x and %x as %d", ka, kb, compareKeys(ka, kb), ta, tb,
				bytes.Compare(ta, tb))
		}
	})
}
