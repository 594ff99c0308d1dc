package postgres

import "testing"

// What a snapshot shows is what the server says it does; ids of the log are the low half of its.
func TestSeen(t *testing.T) {
	for _, c := range []struct {
		snapshot     string
		shows, hides []uint32
	}{
		{"100:100:", []uint32{3, 99}, []uint32{100, 101}},
		{"100:105:100,103", []uint32{99, 101, 102, 104}, []uint32{100, 103, 105}},
		{"4294967290:4294967300:4294967290,4294967299", []uint32{4294967289, 4294967291, 1 << 31},
			[]uint32{4294967290, 3, 4, 5}},
	} {
		s, err := parseSeen(c.snapshot)
		if err != nil {
			t.Fatal(err)
		}
		for _, xid := range c.shows {
			if !s.shows(xid) {
				t.Errorf("%s does not show %d", c.snapshot, xid)
			}
		}
		for _, xid := range c.hides {
			if s.shows(xid) {
				t.Errorf("%s shows %d", c.snapshot, xid)
			}
		}
	}
	for _, text := range []string{"", "1:2", "1:2:x", "a:2:", "1:2:3:4"} {
		if s, err := parseSeen(text); err == nil {
			t.Errorf("%q is %v", text, s)
		}
	}
}
