package lint

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// layersFile says who may import whom, for depguard; the same table is read here, so that
// the rules hold where no linter is installed.
const layersFile = ".golangci.yml"

// layer is one rule of depguard in lax mode: an import is allowed unless it is denied, and
// where both lists have it the longer entry counts. A trailing $ means: not those below.
type layer struct {
	name        string
	files       []pattern
	deny, allow []string
}

// pattern is a pattern of files; those that are not meant overrule.
type pattern struct {
	text    string
	not     bool
	matches *regexp.Regexp // nil for $all and $test
}

func (p pattern) has(f *file) bool {
	switch {
	case p.text == "$all":
		return true
	case p.text == "$test":
		return strings.HasSuffix(f.path, "_test.go")
	}
	return p.matches.MatchString(f.path)
}

func newPattern(text string) pattern {
	p := pattern{}
	p.text, p.not = strings.CutPrefix(text, "!")
	if strings.HasPrefix(p.text, "$") && !strings.HasPrefix(p.text, "${") {
		return p
	}
	glob := regexp.QuoteMeta(strings.TrimPrefix(p.text, "${config-path}/"))
	glob = strings.ReplaceAll(glob, `\*\*`, ".*")
	glob = regexp.MustCompile(`\\\*`).ReplaceAllString(glob, "[^/]*")
	p.matches = regexp.MustCompile("^" + glob + "$")
	return p
}

// holds reports whether the rule is about a file.
func (l *layer) holds(f *file) bool {
	in := false
	for _, p := range l.files {
		if p.has(f) {
			if p.not {
				return false
			}
			in = true
		}
	}
	return in
}

// denies reports whether a file of the layer must not import a package.
func (l *layer) denies(pkg string) bool {
	denied := longest(l.deny, pkg)
	return denied > 0 && denied > longest(l.allow, pkg)
}

func longest(entries []string, pkg string) int {
	n := 0
	for _, e := range entries {
		exact, only := strings.CutSuffix(e, "$")
		if pkg == exact || !only && strings.HasPrefix(pkg, e) {
			n = max(n, len(e))
		}
	}
	return n
}

// imports holds a file to the layers.
func imports(layers []*layer, f *file) []Problem {
	var problems []Problem
	for _, l := range layers {
		if !l.holds(f) {
			continue
		}
		for _, spec := range f.syntax.Imports {
			pkg, err := strconv.Unquote(spec.Path.Value)
			if err == nil && l.denies(pkg) {
				problems = append(problems, f.problem(f.line(spec.Pos()),
					"imports %s: rule %q of %s; ARCHITECTURE.md says who may import whom", pkg, l.name, layersFile))
			}
		}
	}
	return problems
}

// parseLayers reads depguard's rules from its configuration: the form of YAML that these
// have, and an error for any other, lest a rule be passed over.
func parseLayers(text string) ([]*layer, error) {
	var p layerParser
	_, section, _ := strings.Cut(text, "\n    depguard:\n      rules:\n")
	for i, line := range strings.Split(section, "\n") {
		indent := len(line) - len(strings.TrimLeft(line, " "))
		line, _, _ = strings.Cut(line[indent:], " #")
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if indent < 8 {
			break // the next section
		}
		if err := p.line(indent, line); err != nil {
			return nil, fmt.Errorf("lint: %s, line %d of depguard's rules: %w", layersFile, i+1, err)
		}
	}
	if len(p.layers) == 0 {
		return nil, fmt.Errorf("lint: %s has no rules of depguard", layersFile)
	}
	return p.layers, nil
}

type layerParser struct {
	layers  []*layer
	list    string
	anchors map[string][]string
	anchor  string
}

func (p *layerParser) line(indent int, line string) error {
	key, value, pair := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	switch {
	case indent == 8 && pair && value == "":
		p.layers = append(p.layers, &layer{name: key})
		return nil
	case len(p.layers) == 0:
		return fmt.Errorf("%q is in no rule", line)
	case indent == 10 && line == "list-mode: lax":
		return nil
	case indent == 10 && pair:
		return p.begin(key, value)
	case indent == 12 && strings.HasPrefix(line, "- "):
		return p.item(line[2:])
	case indent == 14 && key == "desc":
		return nil
	}
	return fmt.Errorf("%q is not understood", line)
}

// begin begins a list, which may stand on the same line or be one from before.
func (p *layerParser) begin(key, value string) error {
	p.list, p.anchor = key, ""
	switch {
	case value == "":
		return nil
	case value[0] == '&':
		p.anchor = value[1:]
		return nil
	case value[0] == '*' && key == "deny" && len(p.anchors[value[1:]]) > 0:
		l := p.layers[len(p.layers)-1]
		l.deny = append(l.deny, p.anchors[value[1:]]...)
		return nil
	case value[0] == '[' && value[len(value)-1] == ']':
		for _, item := range strings.Split(value[1:len(value)-1], ", ") {
			if err := p.item(item); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%s: %q is not understood", key, value)
}

func (p *layerParser) item(text string) error {
	l := p.layers[len(p.layers)-1]
	switch pkg, isPkg := strings.CutPrefix(strings.TrimPrefix(text, "{"), "pkg: "); {
	case p.list == "files":
		name, err := strconv.Unquote(text)
		if err != nil {
			return fmt.Errorf("%s is not in quotes", text)
		}
		l.files = append(l.files, newPattern(name))
	case p.list == "deny" && isPkg:
		pkg, _, _ = strings.Cut(pkg, ",")
		l.deny = append(l.deny, pkg)
		if p.anchor != "" {
			if p.anchors == nil {
				p.anchors = map[string][]string{}
			}
			p.anchors[p.anchor] = append(p.anchors[p.anchor], pkg)
		}
	case p.list == "allow" && !isPkg:
		l.allow = append(l.allow, text)
	default:
		return fmt.Errorf("%q is not understood in %q", text, p.list)
	}
	return nil
}
