package lint

import (
	"go/ast"
	"go/token"
	"regexp"
	"strconv"
	"strings"
)

// sqlPlaces are the files and functions that put SQL together of more than constants and
// quoted names, with what keeps it safe. Keep it short: what is quoted needs no entry.
var sqlPlaces = map[string]string{
	"sinks/postgres/sql.go":                         "the sink's statements, of quoted names",
	"sinks/postgres/check.go:checkColumn":           "types that the server has named or parsed",
	"sources/postgres/snapshotlock.go:lock":         "columns that selected has quoted",
	"sources/postgres/snapshotread.go:tasks":        "quoted columns, and the server's filters",
	"sources/postgres/partition.go:checkPartitions": "a name that the server has quoted",
	"sources/postgres/verify.go:derived":            "the user's own query, in a read-only transaction",
	"internal/demo/result.go:rowsOf":                "queries that are constants of the demo",
	"internal/shop/actions.go:pick":                 "constants of its callers",
}

// sqlQuotes are the functions and methods that return a quoted name or literal, or a table's
// quoted name with what belongs to it. Those whose name ends in SQL return whole statements,
// which are looked at where they are made.
var sqlQuotes = map[string]bool{
	"Sanitize": true, "ident": true, "quote": true, "literal": true, "sql": true, "rows": true,
	"stage": true, "LSN": true, "Itoa": true, "FormatInt": true, "FormatUint": true,
}

// sqlWords begin a statement, in a text that is nothing else or in a remedy.
var sqlWords = regexp.MustCompile(`\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|(CREATE|ALTER|DROP) [A-Z]+|` +
	`GRANT|REVOKE|COPY|TRUNCATE|START_REPLICATION|LOCK TABLE|SET TRANSACTION|COMMENT ON)\b` +
	`|^\s*(select|insert into|update|delete from|(create|alter|drop) (table|publication|role)) [^ ]`)

// sqlTexts finds SQL that is made of a text as it came: where a statement is added up or
// formatted, each part must be a constant, a number, a name or literal that was quoted
// (sqlQuotes), or a variable of the function that holds nothing else.
func sqlTexts(f *file) []Problem {
	if f.isTest() {
		return nil
	}
	var problems []Problem
	for _, decl := range f.syntax.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Body == nil || sqlPlaces[f.path]+sqlPlaces[f.path+":"+fn.Name.Name] != "" {
			continue
		}
		s := newSQLScope(fn)
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			for _, part := range sqlParts(n) {
				if !s.safe(part, 0) {
					problems = append(problems, f.problem(f.line(part.Pos()),
						"%s puts a text into SQL: quote it (pgx.Identifier.Sanitize, or a function of "+
							"sqlQuotes), or make it a parameter", fn.Name.Name))
				}
			}
			b, ok := n.(*ast.BinaryExpr)
			return !ok || b.Op != token.ADD || !sqlWords.MatchString(constant(b)) // its parts were looked at
		})
	}
	return problems
}

// sqlParts are what a sum or a formatting call adds to the SQL in it.
func sqlParts(n ast.Node) (out []ast.Expr) {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		if n.Op == token.ADD && sqlWords.MatchString(constant(n)) {
			return summands(n)
		}
	case *ast.CallExpr:
		for i, arg := range n.Args {
			format := constant(arg)
			if at := sqlWords.FindStringIndex(format); at != nil && strings.Contains(format, "%") {
				return formatted(format, at[0], n.Args[i+1:])
			}
		}
	}
	return nil
}

// formatted are the arguments that a format puts as text behind a place.
func formatted(format string, from int, args []ast.Expr) (out []ast.Expr) {
	next := 0
	for _, m := range verbs.FindAllStringSubmatchIndex(format, -1) {
		verb := format[m[4]:m[5]]
		if verb == "%" {
			continue
		}
		if m[2] >= 0 {
			n, _ := strconv.Atoi(format[m[2]:m[3]])
			next = n - 1
		}
		if m[0] > from && (verb == "s" || verb == "v" || verb == "q") && next >= 0 && next < len(args) {
			out = append(out, args[next])
		}
		next++
	}
	return out
}

var verbs = regexp.MustCompile(`%[-+# 0-9.]*(?:\[(\d+)\])?([a-zA-Z%])`)

// constant is the text of an expression, with a NUL for each part that is no literal.
func constant(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil {
			return text
		}
	case *ast.ParenExpr:
		return constant(e.X)
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return constant(e.X) + constant(e.Y)
		}
	}
	return "\x00"
}

// summands are the parts of a sum that are no literals.
func summands(e ast.Expr) []ast.Expr {
	switch e := e.(type) {
	case *ast.BasicLit:
		return nil
	case *ast.ParenExpr:
		return summands(e.X)
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return append(summands(e.X), summands(e.Y)...)
		}
	}
	return []ast.Expr{e}
}

// sqlScope knows what the variables of a function hold. What is declared outside of it is
// nothing that comes while the program runs.
type sqlScope struct {
	foreign map[string]bool       // parameters, and what ranges and other assignments give
	values  map[string][]ast.Expr // assigned one by one
}

func newSQLScope(fn *ast.FuncDecl) *sqlScope {
	s := &sqlScope{foreign: map[string]bool{}, values: map[string][]ast.Expr{}}
	if fn.Recv != nil {
		s.fields(fn.Recv)
	}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncType:
			s.fields(n.Params)
		case *ast.RangeStmt:
			s.take(n.Key, nil)
			s.take(n.Value, n.X)
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if len(n.Lhs) == len(n.Rhs) {
					s.take(left, n.Rhs[i])
				} else {
					s.take(left, nil)
				}
			}
		case *ast.ValueSpec:
			for i, name := range n.Names {
				if i < len(n.Values) {
					s.take(name, n.Values[i])
				} else if len(n.Values) > 0 {
					s.take(name, nil)
				}
			}
		}
		return true
	})
	return s
}

func (s *sqlScope) fields(list *ast.FieldList) {
	for _, field := range list.List {
		for _, name := range field.Names {
			s.foreign[name.Name] = true
		}
	}
}

func (s *sqlScope) take(left, value ast.Expr) {
	for {
		index, ok := left.(*ast.IndexExpr)
		if !ok {
			break
		}
		left = index.X
	}
	name, ok := left.(*ast.Ident)
	switch {
	case !ok:
	case value == nil:
		s.foreign[name.Name] = true
	default:
		s.values[name.Name] = append(s.values[name.Name], value)
	}
}

// safe reports whether an expression can only be constants, numbers and what was quoted.
func (s *sqlScope) safe(e ast.Expr, depth int) bool {
	const deepest = 10
	if depth > deepest {
		return true // A variable that is added to itself: its other parts were looked at.
	}
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.ParenExpr:
		return s.safe(e.X, depth+1)
	case *ast.BinaryExpr:
		return s.safe(e.X, depth+1) && s.safe(e.Y, depth+1)
	case *ast.CompositeLit:
		return s.all(e.Elts, depth)
	case *ast.Ident:
		return !s.foreign[e.Name] && s.all(s.values[e.Name], depth)
	case *ast.CallExpr:
		return s.safeCall(e, depth)
	}
	return false
}

func (s *sqlScope) all(list []ast.Expr, depth int) bool {
	for _, e := range list {
		if !s.safe(e, depth+1) {
			return false
		}
	}
	return true
}

// safeCall holds for functions that quote, and for those that only put together.
func (s *sqlScope) safeCall(e *ast.CallExpr, depth int) bool {
	name := ""
	switch fun := e.Fun.(type) {
	case *ast.Ident:
		name = fun.Name
	case *ast.SelectorExpr:
		name = fun.Sel.Name
	}
	switch {
	case sqlQuotes[name], strings.HasSuffix(name, "SQL"):
		return true
	case name == "make":
		return true
	case name == "list": // sinks/postgres: a table's columns, by way of the last argument
		quoted, ok := e.Args[len(e.Args)-1].(*ast.Ident)
		return ok && sqlQuotes[quoted.Name]
	case name == "Join", name == "append":
		return s.all(e.Args, depth)
	case name == "Sprintf":
		return len(e.Args) > 0 && s.all(formatted(constant(e.Args[0]), -1, e.Args[1:]), depth)
	}
	return false
}
