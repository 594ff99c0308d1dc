package main

import (
	"os"
	"strings"
	"testing"
)

// TestREADME holds the program of the README to this one, which is compiled.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(readme), "```go\n")
	shown, _, _ = strings.Cut(shown, "```\n")
	_, body, _ := strings.Cut(string(program), "\npackage main\n")
	if shown != "package main\n"+body {
		t.Error("the program in README.md is not examples/quickstart/main.go: copy it from \"package main\" on")
	}
}
