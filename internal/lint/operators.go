package lint

import (
	"go/ast"
	"path"
	"regexp"
	"strings"
)

// behaviour is what the comment on an operator has to speak of: what it retracts, and
// what becomes of NULL and of records that come out of order or late.
var behaviour = []struct {
	what  string
	words *regexp.Regexp
}{
	{"deletes or retraction", regexp.MustCompile(`(?i)delet|retract`)},
	{"NULL", regexp.MustCompile(`NULL`)},
	{"order", regexp.MustCompile(`(?i)\border\b`)},
	{"what is late", regexp.MustCompile(`\blater?\b`)},
}

// otherOperator is how a form of an operator refers to the one that it is a form of.
var otherOperator = regexp.MustCompile(`(?:\bis|\b[Ss]ee|\bform\s+of)\s+([A-Z]\w+[a-z]\w*)`)

// operators holds the comments on the operators to what users have to know of each.
func operators(f *file) []Problem {
	if path.Dir(f.path) != "operators" || f.isTest() {
		return nil
	}
	var problems []Problem
	for _, decl := range f.syntax.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || !fn.Name.IsExported() || !takesHandles(fn) {
			continue
		}
		doc := fn.Doc.Text()
		if otherOperator.MatchString(doc) {
			continue
		}
		var missing []string
		for _, b := range behaviour {
			if !b.words.MatchString(doc) {
				missing = append(missing, b.what)
			}
		}
		if len(missing) > 0 {
			problems = append(problems, f.problem(f.line(fn.Pos()),
				"the comment on %s says nothing of %s; say it, or which operator to see", fn.Name.Name,
				strings.Join(missing, ", ")))
		}
	}
	return problems
}

// takesHandles holds for operators: functions of streams, tables or groups.
func takesHandles(fn *ast.FuncDecl) bool {
	found := false
	ast.Inspect(fn.Type.Params, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			found = found || ok && x.Name == "topology" &&
				(n.Sel.Name == "Stream" || n.Sel.Name == "Table" || n.Sel.Name == "GlobalTable")
		case *ast.Ident:
			found = found || n.Name == "Grouped" || n.Name == "Side" || n.Name == "H"
		}
		return true
	})
	return found
}
