package lint

import (
	"go/ast"
	"regexp"
	"strconv"
	"strings"
)

// metricsPage describes every metric.
const metricsPage = "docs/metrics.md"

// metric is a metric's name where it is defined.
type metric struct {
	path string
	line int
	name string
}

const prometheusImport = `"github.com/prometheus/client_golang/prometheus"`

var metricName = regexp.MustCompile(`^tailrace_[a-z0-9_]+$`)

// metricsOf finds the metrics that a file defines: whole names, and names put together
// from the Namespace, Subsystem and Name of an options literal.
func metricsOf(f *file) []metric {
	if f.syntax == nil || f.isTest() {
		return nil
	}
	imported := false
	for _, spec := range f.syntax.Imports {
		imported = imported || spec.Path.Value == prometheusImport
	}
	if !imported {
		return nil
	}
	var found []metric
	add := func(n ast.Node, name string) {
		if metricName.MatchString(name) {
			found = append(found, metric{path: f.path, line: f.line(n.Pos()), name: name})
		}
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			add(n, literal(n))
		case *ast.CompositeLit:
			if parts := optionNames(n); len(parts) > 1 {
				add(n, strings.Join(parts, "_"))
			}
		}
		return true
	})
	return found
}

// optionNames are the literal Namespace, Subsystem and Name, in that order.
func optionNames(composite *ast.CompositeLit) []string {
	values := make(map[string]string)
	for _, element := range composite.Elts {
		pair, ok := element.(*ast.KeyValueExpr)
		if !ok {
			return nil
		}
		if key, ok := pair.Key.(*ast.Ident); ok {
			values[key.Name] = literal(pair.Value)
		}
	}
	var parts []string
	for _, key := range []string{"Namespace", "Subsystem", "Name"} {
		if values[key] != "" {
			parts = append(parts, values[key])
		}
	}
	return parts
}

func literal(e ast.Expr) string {
	basic, ok := e.(*ast.BasicLit)
	if !ok {
		return ""
	}
	text, err := strconv.Unquote(basic.Value)
	if err != nil {
		return "" // A number.
	}
	return text
}

func undocumented(metrics []metric, page []byte) []Problem {
	var problems []Problem
	for _, m := range metrics {
		if !regexp.MustCompile(`\b` + m.name + `\b`).Match(page) {
			problems = append(problems, Problem{Path: m.path, Line: m.line,
				Text: "metric " + m.name + " is not described in " + metricsPage})
		}
	}
	return problems
}
