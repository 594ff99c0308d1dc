package lint

import (
	"go/ast"
	"path"
	"regexp"
	"strings"
)

// semanticsPage has a row for each operator.
const semanticsPage = "docs/semantics.md"

// withoutFamily are the operators that no family of internal/kstreams runs, with the
// reason.
var withoutFamily = map[string]string{
	"Foreach":             "puts out nothing",
	"Peek":                "puts out what it is given",
	"Repartition":         "puts out what it is given",
	"OuterJoinForeignKey": "Kafka Streams has none; TestRandomTables and SQL instead",
	"TTL":                 "Kafka Streams has none; TestTTL instead",
	"WindowBy":            "Kafka Streams has none; TestRandomWindowBy and SQL instead",
}

// operator is a function that users build topologies of.
type operator struct {
	path string
	line int
	name string
	// form is the operator that this one is a form of, by its comment; empty if it is none.
	form string
	// aggregator holds for aggregators, which have laws instead of families.
	aggregator bool
}

// algebra is what the repository has of operators, and what there is to show for them.
type algebra struct {
	operators []operator
	tests     map[string]bool // tests and examples, by name
	families  map[string]bool // operators that the families call
	pages     map[string]string
	// api is what the packages export that pages speak of, such as operators.Join.
	api map[string]bool
}

func newAlgebra() *algebra {
	return &algebra{tests: map[string]bool{}, families: map[string]bool{}, pages: map[string]string{},
		api: map[string]bool{}}
}

// add takes what a file has.
func (a *algebra) add(f *file) {
	dir := path.Dir(f.path)
	switch {
	case dir == "docs":
		a.pages[f.path] = string(f.text)
	case f.syntax == nil:
	case strings.HasSuffix(f.path, "_test.go"):
		for _, decl := range f.syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && isTestName(fn.Name.Name) {
				a.tests[fn.Name.Name] = true
			}
		}
	case dir == "internal/kstreams":
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "operators" {
					a.families[s.Sel.Name] = true
				}
			}
			return true
		})
	case dir == "operators" || dir == "operators/aggregate":
		a.addOperators(f)
	}
	if f.syntax != nil && !strings.HasSuffix(f.path, "_test.go") && namedOnPages[dir] {
		a.addExported(f)
	}
}

// namedOnPages are the packages whose exported names pages give as package.Name.
var namedOnPages = map[string]bool{
	"operators": true, "operators/aggregate": true, "windows": true, "sources": true, "sinks": true,
	"topology": true, "topology/topologytest": true,
}

// addExported notes the names that a file exports, without methods.
func (a *algebra) addExported(f *file) {
	add := func(id *ast.Ident) {
		if id.IsExported() {
			a.api[f.syntax.Name.Name+"."+id.Name] = true
		}
	}
	for _, decl := range f.syntax.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				add(d.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					add(s.Name)
				case *ast.ValueSpec:
					for _, id := range s.Names {
						add(id)
					}
				}
			}
		}
	}
}

func isTestName(name string) bool {
	return strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Example")
}

func (a *algebra) addOperators(f *file) {
	for _, decl := range f.syntax.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || !fn.Name.IsExported() {
			continue
		}
		o := operator{path: f.path, line: f.line(fn.Pos()), name: fn.Name.Name}
		o.aggregator = returns(fn, "Aggregator")
		if !o.aggregator && (!takesHandles(fn) || returns(fn, "Side") || returns(fn, "Reference")) {
			continue
		}
		if m := otherOperator.FindStringSubmatch(fn.Doc.Text()); m != nil {
			o.form = m[1]
		}
		a.operators = append(a.operators, o)
	}
}

// returns holds for functions whose only result is of a generic type of the package.
func returns(fn *ast.FuncDecl, name string) bool {
	if fn.Type.Results == nil || len(fn.Type.Results.List) != 1 {
		return false
	}
	list, ok := fn.Type.Results.List[0].Type.(*ast.IndexListExpr)
	if !ok {
		return false
	}
	x, ok := list.X.(*ast.Ident)
	return ok && x.Name == name
}

var word = regexp.MustCompile(`\w+`)

// problems are the operators without an example, a row in the table, or a family, and
// the tests that pages name and that do not exist. Of an operator's forms one has to have
// an example, and one a family.
func (a *algebra) problems() []Problem {
	problems := append(a.missingTests(), a.missingNames()...)
	named := map[string]bool{}
	for _, w := range word.FindAllString(a.pages[semanticsPage], -1) {
		named[w] = true
	}
	inFamily, hasExample := map[string]bool{}, map[string]bool{}
	for _, o := range a.operators {
		for _, name := range []string{o.name, o.form} {
			if name != "" {
				inFamily[name] = inFamily[name] || a.families[o.name] || withoutFamily[o.name] != ""
				hasExample[name] = hasExample[name] || a.tests["Example"+o.name]
			}
		}
	}
	for _, o := range a.operators {
		var missing []string
		if o.form == "" && !a.tests["Example"+o.name] || !hasExample[o.name] && !hasExample[o.form] {
			missing = append(missing, "no example")
		}
		if !named[o.name] {
			missing = append(missing, "no row in "+semanticsPage)
		}
		if !o.aggregator && !inFamily[o.name] && !inFamily[o.form] {
			missing = append(missing, "no family in internal/kstreams")
		}
		if len(missing) > 0 {
			problems = append(problems, Problem{Path: o.path, Line: o.line,
				Text: o.name + " has " + strings.Join(missing, ", ")})
		}
	}
	return problems
}

var (
	quoted  = regexp.MustCompile("`[^`\n]+`")
	apiName = regexp.MustCompile(
		`\b(?:operators|aggregate|sources|sinks|windows|topology|topologytest)\.[A-Z]\w*`)
	testName = regexp.MustCompile(`\b(?:Test|Example)[A-Z_]\w*`)
)

func (a *algebra) missingTests() []Problem {
	var problems []Problem
	for page, text := range a.pages {
		for _, code := range quoted.FindAllString(text, -1) {
			for _, name := range testName.FindAllString(code, -1) {
				if !a.tests[name] {
					problems = append(problems, Problem{Path: page, Text: "there is no " + name})
				}
			}
		}
	}
	return problems
}

// missingNames are the names on pages that their packages do not export.
func (a *algebra) missingNames() []Problem {
	var problems []Problem
	for page, text := range a.pages {
		for _, name := range apiName.FindAllString(text, -1) {
			if !a.api[name] {
				problems = append(problems, Problem{Path: page, Text: "there is no " + name})
			}
		}
	}
	return problems
}
