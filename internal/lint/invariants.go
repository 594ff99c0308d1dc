package lint

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// invariantsPage numbers the invariants.
const invariantsPage = "ARCHITECTURE.md"

var (
	invariantDefined = regexp.MustCompile(`\*\*([A-Z][0-9]+)\*\*`)
	// A citation is (invariant D4), (invariants K1 to K4), (invariants V1, D2), or (D1).
	invariantCited = regexp.MustCompile(`(?:\binvariants? |\()[A-Z][0-9]+(?:(?:, | and | to )[A-Z][0-9]+)*`)
	invariantBare  = regexp.MustCompile(`\([A-Z][0-9]+(?:, [A-Z][0-9]+)*$`)
	invariantID    = regexp.MustCompile(`([A-Z])([0-9]+)`)
)

// invariants are those that are numbered, and where code cites some.
type invariants struct {
	defined map[string]int // the line
	cited   map[string]bool
	all     []citation
	broken  []Problem
}

type citation struct {
	path string
	line int
	id   string
}

func newInvariants() *invariants {
	return &invariants{defined: map[string]int{}, cited: map[string]bool{}}
}

// add reads a file: the page, or the comments of code.
func (v *invariants) add(f *file) {
	if f.path == invariantsPage {
		for i, line := range f.lines {
			for _, m := range invariantDefined.FindAllStringSubmatch(line, -1) {
				v.defined[m[1]] = i + 1
			}
		}
	}
	if f.syntax == nil || path.Dir(f.path) == "internal/lint" {
		return
	}
	for _, group := range f.syntax.Comments {
		for _, c := range group.List {
			for i, text := range strings.Split(c.Text, "\n") {
				v.comment(f, f.line(c.Pos())+i, text)
			}
		}
	}
}

func (v *invariants) comment(f *file, line int, text string) {
	if strings.HasSuffix(text, "(invariant") || strings.HasSuffix(text, "(invariants") {
		v.broken = append(v.broken, f.problem(line, "the citation of an invariant is broken over two lines, "+
			"where no search finds it"))
	}
	for _, at := range invariantCited.FindAllStringIndex(text, -1) {
		found := text[at[0]:at[1]]
		if invariantBare.MatchString(found) && !strings.HasPrefix(text[at[1]:], ")") {
			continue // (K2, V2, error) is something else.
		}
		for _, id := range invariantIDs(found) {
			v.cited[id] = true
			v.all = append(v.all, citation{f.path, line, id})
		}
	}
}

// invariantIDs are the numbers in a citation; a range has all of its own.
func invariantIDs(text string) (ids []string) {
	all := invariantID.FindAllStringSubmatchIndex(text, -1)
	for i, m := range all {
		letter := text[m[2]:m[3]]
		n, _ := strconv.Atoi(text[m[4]:m[5]])
		from := n
		if i > 0 && strings.HasSuffix(text[:m[0]], " to ") {
			from, _ = strconv.Atoi(text[all[i-1][4]:all[i-1][5]])
			from++
		}
		for ; from <= n; from++ {
			ids = append(ids, letter+strconv.Itoa(from))
		}
	}
	return ids
}

// problems are citations of what is not there, and invariants that no code cites.
func (v *invariants) problems() []Problem {
	out := v.broken
	if len(v.defined) == 0 {
		return out // another repository, of a test
	}
	for _, c := range v.all {
		if v.defined[c.id] == 0 {
			out = append(out, Problem{c.path, c.line, invariantsPage + " has no invariant " + c.id})
		}
	}
	for id, line := range v.defined {
		if !v.cited[id] {
			out = append(out, Problem{invariantsPage, line, "no comment in the code cites invariant " + id +
				"; write (invariant " + id + ") where it is upheld, or take it out"})
		}
	}
	slices.SortStableFunc(out, func(a, b Problem) int { return strings.Compare(a.String(), b.String()) })
	return out
}
