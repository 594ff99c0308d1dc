package file_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/file"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// line is what a reader of the file sees.
type line struct {
	ID, Stream, Source, Position, Time string
	Key                                json.RawMessage
	Value                              struct {
		N    int
		Text string
	}
	XID            uint32
	Last, Replayed bool
}

// readLines reads all lines, each of which must be whole.
func readLines(t *testing.T, data []byte) (lines []line, ids []string) {
	t.Helper()
	if len(data) > 0 && data[len(data)-1] != '\n' {
		t.Fatalf("the last line is torn: %q", data[max(0, len(data)-80):])
	}
	for text := range bytes.Lines(data) {
		var l line
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&l); err != nil {
			t.Fatalf("line %q: %v", text, err)
		}
		lines, ids = append(lines, l), append(ids, l.ID)
	}
	return lines, ids
}

func readFile(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	_, ids := readLines(t, data)
	return ids
}

func TestConformance(t *testing.T) {
	sinktest.ExerciseEvents(t, func(t *testing.T) sinktest.Events {
		path := filepath.Join(t.TempDir(), "events.jsonl")
		return sinktest.Events{
			Connector: file.Target(file.Config{Path: path}),
			IDs:       func() []string { return readFile(t, path) },
		}
	})
}

func open(path, incarnation string, outputs ...sinks.Output) (sinks.Writer, error) {
	if outputs == nil {
		outputs = []sinks.Output{sinktest.Stream}
	}
	return file.Target(file.Config{Path: path}).Open(context.Background(), request(incarnation, outputs))
}

func request(incarnation string, outputs []sinks.Output) sinks.OpenRequest {
	return sinks.OpenRequest{
		App: sinktest.App, Target: sinktest.TargetName, Incarnation: incarnation, Outputs: outputs,
	}
}

// checked is what the target says before it is opened; it must leave its directory as it is.
func checked(t *testing.T, path, incarnation string, outputs ...sinks.Output) error {
	t.Helper()
	if outputs == nil {
		outputs = []sinks.Output{sinktest.Stream}
	}
	list := func() []string {
		all, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
		hidden, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".?*"))
		return append(all, hidden...)
	}
	before := list()
	err := file.Target(file.Config{Path: path}).(sinks.Checker).Check(t.Context(), request(incarnation, outputs))
	if after := list(); !slices.Equal(before, after) {
		t.Errorf("the check left %v, and before there was %v", after, before)
	}
	return err
}

func mustOpen(t *testing.T, path, incarnation string) sinks.Writer {
	t.Helper()
	w, err := open(path, incarnation)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// deliver is what the engine does after a start: everything the writer does not say it
// has, from its own queue.
func deliver(t *testing.T, w sinks.Writer, queue []sinks.Epoch) error {
	t.Helper()
	seq, ok, err := w.Progress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range queue {
		if ok && e.Seq <= seq {
			continue
		}
		if err := w.Apply(t.Context(), []sinks.Epoch{e}); err != nil {
			return err
		}
	}
	return nil
}

func queueOf(n int) []sinks.Epoch {
	var queue []sinks.Epoch
	for i := range uint64(n) {
		queue = append(queue, sinktest.Epoch(i+1,
			append(sinktest.Transaction(100+10*i, 1), sinktest.Transaction(101+10*i, 1)...)...))
	}
	return queue
}

func TestLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	w := mustOpen(t, path, "one")
	it := sinktest.Event(0x1_0000_002A, 7, true)
	it.Event.Replayed, it.Event.Time = true, 4294973_000042
	it.Event.Value = []byte("{\n \"n\": 7,\n \"text\": \"\"\n}")
	odd := sinktest.Event(0x1_0000_002B, 8, false)
	odd.Event.ID, odd.Event.Source, odd.Event.Key = "a\"b\\\n漢", "sh op", nil
	if err := w.Apply(t.Context(), []sinks.Epoch{sinktest.Epoch(1, it, odd)}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"id":"shop/10000002A/7","stream":"paid-orders","key":7,"value":{"n":7,"text":""},` +
		`"source":"shop","position":"1/2A","xid":42,"time":"1970-02-19T17:02:53.000042Z",` +
		`"last":true,"replayed":true}`
	got, _, _ := strings.Cut(string(data), "\n")
	if got != want {
		t.Errorf("line is\n%s\nwant\n%s", got, want)
	}
	lines, ids := readLines(t, data)
	if len(ids) != 2 || ids[1] != odd.Event.ID || lines[1].Source != "sh op" ||
		string(lines[1].Key) != "null" {
		t.Errorf("odd line is %+v", lines[1])
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestCutAtEveryByte crashes with the file cut, or not cut, at every byte behind the last
// checkpoint, with the checkpoint and without, with the same state and a new one.
func TestCutAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	queue := queueOf(2)
	w := mustOpen(t, whole, "one")
	if err := deliver(t, w, queue[:1]); err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat(whole)
	kept := info.Size()
	progress, err := os.ReadFile(whole + ".progress")
	if err != nil {
		t.Fatal(err)
	}
	if err := deliver(t, w, queue); err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(whole)
	want := sinktest.IDsOf(queue...)
	path := filepath.Join(dir, "cut")
	for n := 0; n <= len(data); n++ {
		if int64(n) < kept && n%16 != 0 {
			continue // what lies before the checkpoint is less likely to be cut
		}
		for _, c := range []struct {
			name, incarnation string
			checkpoint        bool
		}{{"checkpoint", "one", true}, {"no checkpoint", "one", false}, {"lost state", "two", true}} {
			if c.checkpoint && c.incarnation == "one" && int64(n) < kept {
				continue // synced before the checkpoint: no crash can take it
			}
			_ = os.Remove(path + ".progress")
			if c.checkpoint {
				if err := os.WriteFile(path+".progress", progress, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(path, data[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			w := mustOpen(t, path, c.incarnation)
			if whole := readFile(t, path); !slices.Equal(whole, want[:len(whole)]) {
				t.Fatalf("%s, cut at %d: after the start it holds %q", c.name, n, whole)
			}
			if err := deliver(t, w, queue); err != nil {
				t.Fatalf("%s, cut at %d: %v", c.name, n, err)
			}
			_ = w.Close()
			if got := readFile(t, path); !slices.Equal(got, want) {
				t.Fatalf("%s, cut at %d of %d: got %q, want %q", c.name, n, len(data), got, want)
			}
		}
	}
}

// TestTornCheckpoint cuts the last checkpoint at every byte.
func TestTornCheckpoint(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "events")
	queue := queueOf(3)
	w := mustOpen(t, path, "one")
	if err := deliver(t, w, queue[:1]); err != nil {
		t.Fatal(err)
	}
	first, _ := os.ReadFile(path + ".progress")
	if err := deliver(t, w, queue[:2]); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	data, _ := os.ReadFile(path)
	second, _ := os.ReadFile(path + ".progress")
	for n := len(first); n < len(second); n++ {
		if err := errors.Join(os.WriteFile(path, data, 0o600),
			os.WriteFile(path+".progress", second[:n], 0o600)); err != nil {
			t.Fatal(err)
		}
		w := mustOpen(t, path, "one")
		if seq, ok, _ := w.Progress(t.Context()); seq != 1 || !ok {
			t.Fatalf("cut at %d: progress %d, %v", n, seq, ok)
		}
		if err := deliver(t, w, queue); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		if got, want := readFile(t, path), sinktest.IDsOf(queue...); !slices.Equal(got, want) {
			t.Fatalf("cut at %d: got %q, want %q", n, got, want)
		}
	}
}

// TestFailpoints fails at each of the sink's points, with and without a restart.
func TestFailpoints(t *testing.T) {
	queue := queueOf(6)
	for _, point := range []string{failpoint.FileTorn, failpoint.FileWritten} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s restart=%v", point, restart), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "events")
				off := failpoint.Set(point, func(hit int) error {
					if hit%2 == 1 {
						return failpoint.ErrInjected
					}
					return nil
				})
				defer off()
				w := mustOpen(t, path, "one")
				failed := 0
				for {
					err := deliver(t, w, queue)
					if err == nil {
						break
					}
					if !errors.Is(err, failpoint.ErrInjected) {
						t.Fatal(err)
					}
					if failed++; failed > len(queue) {
						t.Fatalf("no progress: %v", err)
					}
					if restart {
						_ = w.Close()
						w = mustOpen(t, path, "one")
					}
				}
				_ = w.Close()
				if got, want := readFile(t, path), sinktest.IDsOf(queue...); !slices.Equal(got, want) {
					t.Fatalf("got %q, want %q", got, want)
				}
				if failed != len(queue) {
					t.Fatalf("failed %d times, want %d", failed, len(queue))
				}
			})
		}
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := `{"id":"x","stream":"paid-orders","key":1,"value":1,"source":"shop",` +
		`"position":"0/1","xid":1,"time":"","last":true}`
	link := filepath.Join(dir, "link")
	if err := os.Symlink(put("aim", ""), link); err != nil {
		t.Fatal(err)
	}
	linked := put("linked", "")
	if err := os.Symlink(put("aim2", ""), linked+".progress"); err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(dir, "short")
	w := mustOpen(t, short, "one")
	if err := deliver(t, w, queueOf(1)); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if err := os.Truncate(short, 5); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want string }{
		{"symbolic link", link, "regular file"},
		{"linked progress", linked, "regular file"},
		{"directory", dir, "regular file"},
		{"no directory", filepath.Join(dir, "none", "x"), "no such file"},
		{"other text", put("text", "root:x:0:0\n"), "something else"},
		{"other JSON", put("json", "{\"a\":1}\n"), "something else"},
		{"one byte", put("byte", "x"), "something else"},
		{"foreign line inside", put("mixed", good+"\nhello\n"+good+"\n"), "line 2"},
		{"shorter than its checkpoint", short, "events are missing"},
		{"no path", "", "Path is empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, _ := os.ReadFile(c.path)
			if err := checked(t, c.path, "one"); !errors.Is(err, sinks.ErrConfig) ||
				!strings.Contains(err.Error(), c.want) {
				t.Errorf("the check says %v, want %q in it", err, c.want)
			}
			if _, err := open(c.path, "one"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q in it", err, c.want)
			}
			if after, _ := os.ReadFile(c.path); !bytes.Equal(before, after) {
				t.Fatal("a refused file was changed")
			}
		})
	}
}

func TestTwoWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	w := mustOpen(t, path, "one")
	if _, err := open(path, "one"); !errors.Is(err, sinks.ErrHeld) {
		t.Fatalf("second writer: %v", err)
	}
	// Whoever looks keeps nobody from writing, and is not kept from it.
	if err := checked(t, path, "two"); err != nil {
		t.Fatalf("a look beside a writer: %v", err)
	}
	c := file.Target(file.Config{Path: path})
	drop := sinks.DropRequest{App: sinktest.App, Target: sinktest.TargetName}
	if err := c.Drop(t.Context(), drop); !errors.Is(err, sinks.ErrHeld) {
		t.Fatalf("drop under a writer: %v", err)
	}
	if err := deliver(t, w, queueOf(1)); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	for range 2 {
		if err := c.Drop(t.Context(), drop); err != nil {
			t.Fatal(err)
		}
	}
	if got := readFile(t, path); len(got) == 0 {
		t.Fatal("drop removed the events")
	}
	// Another app must not go on with this one's file.
	w = mustOpen(t, path, "one")
	if err := deliver(t, w, queueOf(2)); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	_, err := c.Open(t.Context(), sinks.OpenRequest{App: "other", Target: "t",
		Outputs: []sinks.Output{sinktest.Stream}})
	if err == nil || !strings.Contains(err.Error(), `file of app "sinktest"`) {
		t.Fatalf("another app: %v", err)
	}
	if err := c.(sinks.Checker).Check(t.Context(), sinks.OpenRequest{App: "other", Target: "t",
		Outputs: []sinks.Output{sinktest.Stream}}); !errors.Is(err, sinks.ErrConfig) {
		t.Fatalf("another app looks: %v", err)
	}
	if err := checked(t, path, "one"); err != nil {
		t.Fatalf("our own file: %v", err)
	}
	if err := checked(t, path+"-new", "one"); err != nil {
		t.Fatalf("a file to be made: %v", err)
	}
}

func TestTablesAreRefused(t *testing.T) {
	_, err := open(filepath.Join(t.TempDir(), "x"), "one", sinktest.Accounts, sinktest.Stream,
		sinktest.Places)
	if !errors.Is(err, sinks.ErrTargetSchema) || !strings.Contains(err.Error(), "accounts") ||
		!strings.Contains(err.Error(), "places") {
		t.Fatalf("got %v", err)
	}
}

// TestJournalStaysSmall writes enough checkpoints for the journal to be written anew.
func TestJournalStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	w := mustOpen(t, path, strings.Repeat("i", 100_000))
	for seq := range uint64(30) {
		if err := w.Apply(t.Context(), []sinks.Epoch{sinktest.Epoch(seq+1, sinktest.Transaction(seq+1,
			1)...)}); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Close()
	if info, err := os.Stat(path + ".progress"); err != nil || info.Size() > 2<<20 {
		t.Fatalf("journal has %d bytes, %v", info.Size(), err)
	}
	w = mustOpen(t, path, strings.Repeat("i", 100_000))
	if seq, ok, err := w.Progress(t.Context()); seq != 30 || !ok || err != nil {
		t.Fatalf("progress %d, %v, %v", seq, ok, err)
	}
}
