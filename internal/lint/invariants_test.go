package lint

import (
	"fmt"
	"testing"
)

// TestInvariants cites invariants that are there and not, in every form.
func TestInvariants(t *testing.T) {
	v := newInvariants()
	add := func(name, text string) {
		_, f := check(name, []byte(text))
		v.add(f)
	}
	add("ARCHITECTURE.md", "- **K1** One, and **K2** two.\n- **K3** Three.\n- **K4** Four.\n- **D1** Five.\n- **D2** Six.\n")
	add("a/a.go", "package a\n\n// a upholds much (invariants K1 to K3), func (K2, V2, error), and more (D1, K9).\n"+
		"//\n// The same, broken (invariant\n// D2).\nvar a int // invariant D7\n")
	var got string
	for _, p := range v.problems() {
		got += p.String() + "\n"
	}
	want := "ARCHITECTURE.md:3: no comment in the code cites invariant K4; write (invariant K4) where it is upheld, " +
		"or take it out\n" +
		"ARCHITECTURE.md:5: no comment in the code cites invariant D2; write (invariant D2) where it is upheld, " +
		"or take it out\n" +
		"a/a.go:3: ARCHITECTURE.md has no invariant K9\n" +
		"a/a.go:5: the citation of an invariant is broken over two lines, where no search finds it\n" +
		"a/a.go:7: ARCHITECTURE.md has no invariant D7\n"
	if got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	if got := fmt.Sprint(invariantIDs("K1 to K4 and D2")); got != "[K1 K2 K3 K4 D2]" {
		t.Error(got)
	}
}
