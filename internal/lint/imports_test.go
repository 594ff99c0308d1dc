package lint

import (
	"os"
	"strings"
	"testing"
)

func repositoryLayers(t *testing.T) []*layer {
	t.Helper()
	text, err := os.ReadFile("../../" + layersFile)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := parseLayers(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return layers
}

// TestImports gives files imports of other layers, as they are and as they must not be.
func TestImports(t *testing.T) {
	layers := repositoryLayers(t)
	const ours = "github.com/tailrace/tailrace"
	for _, c := range []struct{ path, pkg, rule string }{
		{"record/a.go", ours + "/record", ""},
		{"record/a.go", ours + "/state", "leaves"},
		{"serde/registry/a.go", ours + "/serde", ""},
		{"windows/a.go", "strings", ""},
		{"state/pebble/a.go", ours + "/topology", "state"},
		{"state/a.go", ours + "/record", ""},
		{"state/a_test.go", ours + "/topology", ""},
		{"topology/a.go", ours + "/operators", "topology"},
		{"topology/a.go", ours + "/topology/topologytest", "topology"},
		{"topology/topologytest/a.go", ours + "/internal/task", ""},
		{"operators/aggregate/a.go", ours + "/sources", "operators"},
		{"operators/a.go", ours + "/topology", ""},
		{"view/a.go", ours + "/sinks", "view"},
		{"sources/a.go", ours + "/view", ""},
		{"sinks/a.go", ours + "/sources", "contracts"},
		{"sources/postgres/a.go", ours + "/internal/engine", "connectors"},
		{"sinks/postgres/a.go", ours, "connectors"},
		{"sinks/postgres/a.go", ours + "/internal/pgtls", ""},
		{"changelog/a.go", ours + "/internal/kafka", "changelog"},
		{"internal/task/a.go", "os", "task"},
		{"internal/task/a.go", "log", "task"},
		{"internal/task/a.go", "log/slog", ""},
		{"internal/engine/a.go", ours + "/sources/postgres", "engine"},
		{"internal/engine/kafka/a.go", ours + "/internal/kafka", ""},
		{"internal/engine/a.go", ours + "/internal/kafka", "engine"},
		{"examples/x/a.go", ours + "/cmd/tailrace", "no-cmd"},
		{"internal/shop/a.go", ours + "/examples/revenue", "no-examples"},
		{"internal/demo/a.go", ours + "/examples/revenue", ""},
		{"a.go", "github.com/spf13/cobra", "core"},
		{"cmd/tailrace/a.go", "github.com/spf13/cobra", ""},
		{"view/a.go", "github.com/jackc/pgx/v5", "core"},
		{"sinks/postgres/a.go", "github.com/jackc/pgx/v5", ""},
		{"state/statetest/a.go", "testing", ""},
		{"state/a.go", "testing", "core"},
		{"state/a.go", "testing/fstest", ""},
	} {
		_, f := check(c.path, []byte("package a\n\nimport _ \""+c.pkg+"\"\n"))
		var got []string
		for _, p := range imports(layers, f) {
			got = append(got, p.String())
		}
		all := strings.Join(got, "\n")
		if c.rule == "" && all != "" ||
			c.rule != "" && !strings.Contains(all, c.path+":3: imports "+c.pkg+`: rule "`+c.rule+`"`) {
			t.Errorf("%s imports %s: got %q, want rule %q", c.path, c.pkg, all, c.rule)
		}
	}
	for _, l := range layers { // each rule is of use
		if len(l.files) == 0 || len(l.deny) == 0 {
			t.Errorf("rule %s has %d files and denies %d packages", l.name, len(l.files), len(l.deny))
		}
	}
}

// TestParseLayers refuses what it does not understand, lest a rule be passed over.
func TestParseLayers(t *testing.T) {
	const begin = "linters:\n  settings:\n    depguard:\n      rules:\n"
	const good = begin + "        a:\n          list-mode: lax\n          files: [\"$all\", \"!$test\"]\n" +
		"          deny: &x\n            - pkg: q # why\n              desc: d\n          allow:\n            - q/r$\n" +
		"        b:\n          files:\n            - \"${config-path}/b/*.go\"\n          deny: *x\n  exclusions:\n    x: y\n"
	layers, err := parseLayers(good)
	if err != nil || len(layers) != 2 || !layers[0].denies("q/s") || layers[0].denies("q/r") ||
		!layers[1].denies("q/r") {
		t.Errorf("got %v, %v", layers, err)
	}
	for name, c := range map[string]struct{ old, by string }{
		"mode":    {"list-mode: lax", "list-mode: strict"},
		"list":    {"allow:", "permit:"},
		"item":    {"- pkg: q", "- package: q"},
		"anchor":  {"deny: *x", "deny: *y"},
		"quotes":  {"\"${config-path}/b/*.go\"", "${config-path}/b/*.go"},
		"nothing": {"depguard:", "depguards:"},
	} {
		if layers, err := parseLayers(strings.Replace(good, c.old, c.by, 1)); err == nil {
			t.Errorf("%s: parsed %v", name, layers)
		}
	}
}
