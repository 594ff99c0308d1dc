package lint

import (
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// longFunctions are the functions that may be longer than MaxFuncLines, by path and
// name, with the reason. Keep it tiny.
var longFunctions = map[string]string{}

func length(f *file) []Problem {
	if n := len(f.lines) - 1; n > MaxFileLines {
		return []Problem{f.problem(0, "%d lines, more than %d: one concept a file", n, MaxFileLines)}
	}
	return nil
}

// columns lets pass what breaking would not make easier to read: lines of a text in
// back quotes, and in tests lines with a long literal.
func columns(f *file) []Problem {
	free := make(map[int]bool)
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		text, ok := n.(*ast.BasicLit)
		if !ok || text.Kind != token.STRING {
			return true
		}
		first, last := f.line(text.Pos()), f.line(text.End())
		if last > first || f.isTest() && len(text.Value) > longLiteral {
			for line := first; line <= last; line++ {
				free[line] = true
			}
		}
		return true
	})
	var problems []Problem
	for i, line := range f.lines {
		if n := utf8.RuneCountInString(line); n > MaxColumns && !free[i+1] {
			problems = append(problems, f.problem(i+1, "%d columns, more than %d", n, MaxColumns))
		}
	}
	return problems
}

// longLiteral is the length from which a literal is not broken in a test.
const longLiteral = 50

func functions(f *file) []Problem {
	if f.isTest() {
		return nil
	}
	var problems []Problem
	for _, decl := range f.syntax.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		n := f.line(fn.End()) - f.line(fn.Pos()) + 1
		if _, excepted := longFunctions[f.path+":"+fn.Name.Name]; n > MaxFuncLines && !excepted {
			problems = append(problems, f.problem(f.line(fn.Pos()),
				"%s has %d lines, more than %d: give its parts names", fn.Name.Name, n, MaxFuncLines))
		}
	}
	return problems
}

func asciiComments(f *file) []Problem {
	var problems []Problem
	for _, group := range f.syntax.Comments {
		for _, comment := range group.List {
			for i, line := range strings.Split(comment.Text, "\n") {
				if r := firstNonASCII(line); r != 0 {
					problems = append(problems,
						f.problem(f.line(comment.Pos())+i, "comment has %+q: use ASCII", r))
				}
			}
		}
	}
	return problems
}

func firstNonASCII(s string) rune {
	for _, r := range s {
		if r >= utf8.RuneSelf {
			return r
		}
	}
	return 0
}

// vagueNames say nothing about what is inside.
var vagueNames = map[string]bool{
	"util": true, "utils": true, "common": true, "helper": true, "helpers": true, "misc": true,
}

func names(f *file) []Problem {
	for _, part := range strings.Split(f.path, "/") {
		stem := strings.TrimSuffix(strings.TrimSuffix(part, path.Ext(part)), "_test")
		if vagueNames[stem] {
			return []Problem{f.problem(0, "the name %q says nothing: name it for its concept", part)}
		}
	}
	return nil
}

// The words are put together here so that this file passes its own rules.
var unfinishedWords = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)

func unfinished(f *file) []Problem {
	return match(f, unfinishedWords, "says %q: do it, or file an issue")
}

// placesNamed: package registries (a mirror must do as well) and directories of
// somebody's machine.
var placesNamed = regexp.MustCompile(
	`(repo1\.|repo\.)?mav` + `en\.(org|apache\.org)|proxy\.gol` + `ang\.org|` +
		`sum\.gol` + `ang\.org|npm` + `js\.(org|com)|py` + `pi\.org|crat` + `es\.io|deb` + `ian\.org|` +
		`(^|[\s"'=(:` + "`" + `])/(wo` + `rk|fa` + `rm|ro` + `ot|Us` + `ers|ho` + `me)/`,
)

func places(f *file) []Problem {
	return match(f, placesNamed, "names a registry's host or a place on one machine: %q")
}

func match(f *file, words *regexp.Regexp, format string) []Problem {
	var problems []Problem
	for i, line := range f.lines {
		if word := words.FindString(line); word != "" {
			problems = append(problems, f.problem(i+1, format, strings.TrimSpace(word)))
		}
	}
	return problems
}

// timeless are the packages whose results may not depend on the clock: they are given
// the time, or read it from records.
var timeless = []string{
	"record/", "serde/", "windows/", "topology/", "operators/", "changelog/", "state/", "internal/task/",
}

// clockFiles are files in timeless packages that may look at the clock, with the
// reason.
var clockFiles = map[string]string{
	"state/pebble_health.go": "measures how long the disk stalls, for metrics",
}

func clock(f *file) []Problem {
	if f.isTest() || clockFiles[f.path] != "" || !within(f.path, timeless) {
		return nil
	}
	return f.times([]string{"Now", "Since", "Until"}, func(line int, name string) (Problem, bool) {
		return f.problem(line,
			"time.%s: results are a function of the input; take the time from the record", name), true
	})
}

// sleeps: a test waits for a condition, or says why time is what it is about.
func sleeps(f *file) []Problem {
	if !f.isTest() {
		return nil
	}
	return f.times([]string{"Sleep"}, func(line int, _ string) (Problem, bool) {
		return f.problem(line, "time.Sleep in a test: wait for the condition (internal/await), or say on the "+
			"line what the time is for"), !strings.Contains(f.lines[line-1], "//")
	})
}

// times asks about each use of functions of package time.
func (f *file) times(names []string, ask func(line int, name string) (Problem, bool)) []Problem {
	var problems []Problem
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok || !slices.Contains(names, selector.Sel.Name) {
			return true
		}
		if name, ok := selector.X.(*ast.Ident); !ok || name.Name != "time" {
			return true
		}
		if p, wrong := ask(f.line(n.Pos()), selector.Sel.Name); wrong {
			problems = append(problems, p)
		}
		return true
	})
	return problems
}

func within(name string, dirs []string) bool {
	for _, dir := range dirs {
		if strings.HasPrefix(name, dir) {
			return true
		}
	}
	return false
}
