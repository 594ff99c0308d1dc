package view

import (
	"strings"
	"testing"

	"github.com/tailrace/tailrace/state"
)

// A key of bytes is asked for as it is listed.
func TestKeyOfBytes(t *testing.T) {
	codec, err := state.KeyCodecOf[[3]byte]()
	if err != nil {
		t.Fatal(err)
	}
	text, err := keyTextOf(codec)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range [][3]byte{{'a', 0, 255}, {}} {
		enc := codec.Append(nil, key)
		listed, err := text.append(nil, enc, false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := text.parse(strings.Trim(string(listed), `"`))
		if err != nil || string(got) != string(enc) {
			t.Errorf("%s is read as %x, %v, want %x", listed, got, err, enc)
		}
	}
}
