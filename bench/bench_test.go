package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the restart workload start this program as its child.
func TestMain(m *testing.M) {
	if url := os.Getenv(childVariable); url != "" {
		if err := childMain(context.Background(), url, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestWorkloadsRun runs each workload small. pgraw itself checks that it received as
// many changes as were written.
func TestWorkloadsRun(t *testing.T) {
	lines := filepath.Join(t.TempDir(), "runs.json")
	profile := filepath.Join(t.TempDir(), "cpu.pprof")
	for _, c := range []struct {
		args    []string
		results int
	}{
		{[]string{"pgraw", "-backlog", "300x1,30x20", "-runs", "2", "-cpuprofile", profile}, 4},
		{[]string{"revenue", "-backlog", "300x1", "-runs", "1"}, 2},
		{[]string{"latency", "-rate", "200", "-for", "500ms", "-runs", "1"}, 2},
		{[]string{"giant", "-rows", "3000", "-runs", "1"}, 5},
		{[]string{"snapshot", "-rows", "3000", "-runs", "1"}, 2},
		{[]string{"algebra", "-records", "200", "-runs", "1", "-operators", "source,join,enrich"}, 18},
		{[]string{"restart", "-rows", "3000", "-runs", "1"}, 1},
	} {
		var out, progress bytes.Buffer
		if err := run(t.Context(), append(c.args, "-json", lines), &out, &progress); err != nil {
			t.Fatalf("%v: %v\n%s", c.args, err, &progress)
		}
		text, err := os.ReadFile(lines)
		if err != nil {
			t.Fatal(err)
		}
		results := decode(t, text)
		if len(results) != c.results {
			t.Errorf("%v: %d results", c.args, len(results))
		}
		for _, r := range results {
			if r.Workload != c.args[0] || r.Records < 100 || r.Wall <= 0 || r.CPU <= 0 {
				t.Errorf("%v: %+v", c.args, r)
			}
		}
		if !strings.Contains(out.String(), c.args[0]) {
			t.Errorf("%v printed:\n%s", c.args, &out)
		}
		if err := os.Remove(lines); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(profile); err != nil || info.Size() == 0 {
		t.Errorf("profile: %v", err)
	}
}

func decode(t *testing.T, text []byte) []result {
	t.Helper()
	var results []result
	for line := range bytes.Lines(text) {
		var r result
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		results = append(results, r)
	}
	return results
}

func TestReportHasMedians(t *testing.T) {
	r := report{workload: "w"}
	for _, seconds := range []float64{4, 1, 2} {
		wall := time.Duration(seconds * float64(time.Second))
		r.add(result{Case: "a", Records: 1000, Wall: wall, CPU: wall / 1000})
	}
	r.add(result{Case: "b", Records: 10, Wall: time.Second, P99: 3 * time.Millisecond})
	var out bytes.Buffer
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	a, b := strings.Join(strings.Fields(lines[1]), " "), strings.Join(strings.Fields(lines[2]), " ")
	if want := "w a 3 1000 500 250-1000 2.000 - - - - - - -"; a != want {
		t.Errorf("case a: %s, want %s", a, want)
	}
	if want := "w b 1 10 10 10-10 0.000 - - - 3.00 - - -"; b != want {
		t.Errorf("case b: %s, want %s", b, want)
	}
}

func TestQuantile(t *testing.T) {
	var values []int
	for i := range 100 {
		values = append(values, 100-i)
	}
	if p50, p99 := quantile(values, 0.5), quantile(values, 0.99); p50 != 51 || p99 != 100 {
		t.Errorf("p50 %d, p99 %d", p50, p99)
	}
	if quantile([]int{}, 0.5) != 0 {
		t.Error("quantile of nothing")
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{
		{"pgrow"}, {"pgraw", "-backlog", "10"}, {"pgraw", "-backlog", "0x1"},
		{"pgraw", "-runs", "0"}, {"pgraw", "x"},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), args, &out, &out); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
