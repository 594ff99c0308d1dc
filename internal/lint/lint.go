// Package lint has the repository's own rules, those that no general linter knows. Its
// test checks every file; CONTRIBUTING.md says why each rule is there.
package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Limits of size.
const (
	MaxFileLines = 700
	MaxFuncLines = 70
	MaxColumns   = 110
)

// Problem is one breach of a rule.
type Problem struct {
	Path string // slash-separated, relative to the repository
	Line int    // from 1; 0 where the whole file is meant
	Text string // what is wrong and what to do
}

func (p Problem) String() string {
	if p.Line == 0 {
		return p.Path + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.Path, p.Line, p.Text)
}

// file is what a rule sees.
type file struct {
	path  string
	text  []byte
	lines []string
	// For Go files:
	syntax *ast.File
	set    *token.FileSet
}

// isTest holds for tests and for packages of test support, such as statetest.
func (f *file) isTest() bool {
	return strings.HasSuffix(f.path, "_test.go") || strings.HasSuffix(path.Dir(f.path), "test")
}

func (f *file) line(pos token.Pos) int { return f.set.Position(pos).Line }

func (f *file) problem(line int, format string, args ...any) Problem {
	return Problem{Path: f.path, Line: line, Text: fmt.Sprintf(format, args...)}
}

type rule func(*file) []Problem

// textRules hold for every text file, goRules for Go files that were not generated.
var (
	textRules = []rule{names, unfinished, places}
	goRules   = []rule{length, columns, functions, asciiComments, clock, sleeps, operators, sqlTexts}
)

// Repository checks every file below root, except those that git keeps, that tests
// read (testdata), and that are not text.
func Repository(root string) ([]Problem, error) {
	var problems []Problem
	var metrics []metric
	all, numbered := newAlgebra(), newInvariants()
	configured, err := os.ReadFile(filepath.Join(root, layersFile))
	if err != nil {
		return nil, fmt.Errorf("lint: %w", err)
	}
	layers, err := parseLayers(string(configured))
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(full string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return enter(entry.Name())
		}
		if !entry.Type().IsRegular() || entry.Name() == ".git" { // A file in a second work tree.
			return nil
		}
		relative, err := filepath.Rel(root, full)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(full)
		if err != nil {
			return err
		}
		found, f := check(filepath.ToSlash(relative), text)
		problems = append(problems, found...)
		if f != nil && f.syntax != nil {
			problems = append(problems, imports(layers, f)...)
		}
		if f != nil {
			metrics = append(metrics, metricsOf(f)...)
			all.add(f)
			numbered.add(f)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("lint: %w", err)
	}
	page, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(metricsPage)))
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("lint: %w", err)
	}
	problems = append(problems, undocumented(metrics, page)...)
	problems = append(problems, numbered.problems()...)
	return append(problems, all.problems()...), nil
}

func enter(dir string) error {
	switch dir {
	case ".git", "testdata", "node_modules", "vendor":
		return filepath.SkipDir
	}
	return nil
}

// check applies the rules to one file, and returns it unless it is not text or does not
// parse.
func check(name string, text []byte) ([]Problem, *file) {
	if bytes.IndexByte(text[:min(len(text), 8000)], 0) >= 0 {
		return nil, nil // Not text.
	}
	f := &file{path: name, text: text, lines: strings.Split(string(text), "\n")}
	rules := textRules
	if path.Ext(name) == ".go" {
		f.set = token.NewFileSet()
		var err error
		f.syntax, err = parser.ParseFile(f.set, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return []Problem{f.problem(0, "does not parse: %v", err)}, nil
		}
		if !ast.IsGenerated(f.syntax) {
			rules = append(rules[:len(rules):len(rules)], goRules...)
		}
	}
	var problems []Problem
	for _, rule := range rules {
		problems = append(problems, rule(f)...)
	}
	return problems, f
}
