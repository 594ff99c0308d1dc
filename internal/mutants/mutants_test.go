package mutants

import (
	"bytes"
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mutant is a fault in one place of the code.
type mutant struct {
	// name says what is wrong.
	name string
	// file is where, from the root of the repository; old occurs in it once, and new stands
	// there instead.
	file, old, new string
	// test is the test of pkg that has to fail, with an output that matches sees. Subtests
	// are behind slashes.
	pkg, test, sees string
	// tags are build tags, env are variables that the test is given.
	tags string
	env  []string
}

// root is the root of the repository.
const root = "../.."

func all() []mutant { return slices.Concat(app, direct, operators, simulated, scripted) }

// mutated returns the file with the fault in it.
func (m *mutant) mutated() (text []byte, occurs int, err error) {
	text, err = os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return nil, 0, err
	}
	return bytes.Replace(text, []byte(m.old), []byte(m.new), 1), bytes.Count(text, []byte(m.old)), nil
}

// Each mutant still has its place in the code.
func TestMutantsFit(t *testing.T) {
	for _, m := range all() {
		text, occurs, err := m.mutated()
		if err != nil || occurs != 1 {
			t.Errorf("%s: the place occurs %d times in %s, %v", m.name, occurs, m.file, err)
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, text, 0); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

// Each mutant is found. TAILRACE_MUTANTS is a regular expression of the names of those
// that are built and run.
func TestMutantsAreFound(t *testing.T) {
	which := os.Getenv("TAILRACE_MUTANTS")
	if which == "" {
		return // TestMutantsFit is what the test run is for
	}
	chosen := regexp.MustCompile(which)
	mutants := slices.DeleteFunc(all(), func(m mutant) bool { return !chosen.MatchString(m.name) })
	if len(mutants) == 0 {
		t.Fatalf("the name of no mutant matches %q", which)
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			out, err := m.run(t)
			switch seen := regexp.MustCompile(m.sees).Find(out); {
			case err == nil:
				t.Errorf("%s of %s passes", m.test, m.pkg)
			case seen == nil:
				t.Errorf("%s of %s fails, but says nothing of %q:\n%s", m.test, m.pkg, m.sees, out)
			default:
				t.Logf("found: %s", seen)
			}
		})
	}
}

// run runs the mutant's test and returns what it says.
func (m *mutant) run(t *testing.T) ([]byte, error) {
	t.Helper()
	text, _, err := m.mutated()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, overlay := filepath.Join(dir, "mutated.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, text, 0o666); err != nil {
		t.Fatal(err)
	}
	original, err := filepath.Abs(filepath.Join(root, m.file))
	if err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{original: file}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, replace, 0o666); err != nil {
		t.Fatal(err)
	}
	tests := "^(" + strings.ReplaceAll(m.test, "/", ")$/^(") + ")$"
	cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-tags", m.tags, "-overlay", overlay,
		"-count=1", "-timeout=15m", "-run", tests, m.pkg)
	cmd.Dir, cmd.Env = root, append(os.Environ(), m.env...)
	return cmd.CombinedOutput()
}
